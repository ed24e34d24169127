// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "fastexai/pruning/landmark_prefix.h"
#include "fastexai/pruning/objective.h"

namespace fastexai {

/// Scores a model on clips of which some landmarks are held at the baseline.
///
/// Note [Incremental masking]: behind an affine prefix a landmark adds a known vector to a clip's
/// point. So removing a few is a subtraction, and only the rest of the model runs: the input layer,
/// nearly all of a landmark model's cost, does not. Without a prefix the point is the clip itself,
/// and the same subtraction masks it.
class MaskedScorer {
 public:
  /// Landmarks, (K,) int64, to remove from a subset whose clips have these points, (N, ...).
  struct Removal {
    at::Tensor points;
    at::Tensor landmarks;
  };

  ///   clips   (N, T, L, 3)
  ///   labels  (N,) bool
  MaskedScorer(const LandmarkPrefix& prefix, at::Tensor clips, const at::Tensor& labels,
               Checkpoint checkpoint);

  /// Where the clips are with all but `landmarks` held at the baseline, (N, ...).
  at::Tensor points(const at::Tensor& landmarks) const;
  at::Tensor points_after(const Removal& removal) const;

  /// The model's output after each removal, (R, N) float64.
  at::Tensor outputs(const std::vector<Removal>& removals) const;
  std::vector<Score> scores(const std::vector<Removal>& removals) const;

 private:
  const LandmarkPrefix& prefix_;
  at::Tensor clips_;
  std::vector<char> labels_;
  Checkpoint checkpoint_;
};

}  // namespace fastexai
