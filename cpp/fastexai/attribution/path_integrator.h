// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <functional>

#include "fastexai/attribution/quadrature.h"
#include "fastexai/attribution/script_model.h"

namespace fastexai {

struct PathIntegral {
  at::Tensor attributions;  // (N, ...), in units of the model's output
  at::Tensor delta;         // (N,), sum of attributions minus (F(inputs) - F(baselines))
};

struct PathOptions {
  int64_t max_rows = 1024;  // rows (clips x nodes) of one forward pass
  /// Called on the calling thread with (clips done, clips in all); may throw to stop the run.
  std::function<void(int64_t, int64_t)> progress;
};

/// Integrated Gradients along the straight line from each baseline to its input.
/// Source: Sundararajan, Taly & Yan, ICML 2017, equations 1 and 3.
///   inputs     (N, ...) float32 or float64, finite
///   baselines  (N, ...) or (1, ...), same dtype, finite
/// Clips are spread over LibTorch's threads. Neither threads nor `max_rows` change the answer
/// beyond rounding.
PathIntegral integrate_path(const Model& model, const at::Tensor& inputs,
                            const at::Tensor& baselines, const Quadrature& rule,
                            const PathOptions& options = {});

}  // namespace fastexai
