// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "fastexai/attribution/quadrature.h"
#include "fastexai/pruning/landmark_prefix.h"

namespace fastexai {

/// Integrated Gradients of clips that keep `landmarks` alone, the others held at the prefix's
/// baseline in clips and baselines alike; averaged over baselines, summed over time.
///   clips      (N, T, L, 3)
///   baselines  (K, T, L, 3), where the paths begin
///   landmarks  (M,) int64
///   returns    (N, M, 3) float64; what is held has no attribution
/// Bit for bit the same for any number of threads.
at::Tensor attribute_landmarks(const LandmarkPrefix& prefix, const at::Tensor& clips,
                               const at::Tensor& baselines, const at::Tensor& landmarks,
                               const Quadrature& rule, const Checkpoint& checkpoint = {});

/// What attributions tell of every landmark, as doubles in the order of `landmarks`.
struct Evidence {
  /// The classes' mean attributions differ by this; absolute values of the coordinates added.
  std::vector<double> relevance;
  /// The difference from neutral clips in standard deviations within both; root of the sum of
  /// squares.
  std::vector<double> effect;
};

///   attributions  (N, M, 3) float64
///   labels        (N,) bool
///   neutral       (N,) bool, labels aside; all false: all other clips stand for them
Evidence weigh_evidence(const at::Tensor& attributions, const at::Tensor& labels,
                        const at::Tensor& neutral);

}  // namespace fastexai
