// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <functional>

#include "fastexai/attribution/path_plan.h"
#include "fastexai/attribution/quadrature.h"
#include "fastexai/attribution/refinement.h"

namespace fastexai {

struct PathIntegral {
  at::Tensor attributions;  // (N, ...), in units of the model's output
  at::Tensor delta;      // (N,), sum of attributions minus (F(inputs) - F(baselines)), or its mean
  at::Tensor nodes;      // (N,) int64, gradient evaluations spent on each clip's paths
  at::Tensor converged;  // (N,) bool; all true for a fixed rule, which promises nothing
};

struct PathOptions {
  bool multiply_by_inputs = true;    // false: the mean gradient itself
  bool mean_over_baselines = false;  // true: each clip from all baselines, averaged
  int64_t max_rows = 0;  // rows (clips x nodes) of one forward pass; 0: what suits the caches
  /// Memory on top of the inputs and the result, in bytes; 0: as much as `max_rows` needs.
  int64_t max_bytes = 0;
  /// Called on the calling thread with (clips done, clips in all); may throw to stop the run.
  std::function<void(int64_t, int64_t)> progress;
  /// Called on the calling thread between forward passes; may throw to stop the run.
  Checkpoint checkpoint;
};

/// Integrated Gradients along the straight line from each baseline to its input, by a fixed rule.
/// Source: Sundararajan, Taly & Yan, ICML 2017, equations 1 and 3.
///   inputs     (N, ...) float32 or float64, finite
///   baselines  (N, ...) or (1, ...), or (K, ...) with `mean_over_baselines`; same dtype, finite
/// Clips are spread over LibTorch's threads. Neither threads nor `max_rows` change the answer
/// beyond rounding.
PathIntegral integrate_path(const PathPlan& plan, const at::Tensor& inputs,
                            const at::Tensor& baselines, const Quadrature& rule,
                            const PathOptions& options = {});

/// The same with as many nodes as each clip needs, and where it needs them; see Note [Adaptive
/// quadrature].
PathIntegral integrate_path_adaptively(const PathPlan& plan, const at::Tensor& inputs,
                                       const at::Tensor& baselines, const Tolerance& tolerance,
                                       const PathOptions& options = {});

}  // namespace fastexai
