// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

namespace fastexai {

/// Pulls mean gradients back through a linear layer and multiplies them by each path's length.
///
/// It goes through the inputs a tile of columns at a time: what one step makes is still in the
/// cache when the next one reads it, so that inputs and attributions cross the memory bus once.
///   weight        (H, D), see `PathPlan::row_weight`
///   gradients     (n, K, ...), by the layer's output, of the paths from each of K baselines
///   inputs        (n, ...), contiguous
///   baselines     (K, ...), or (n, ...) where K is 1, contiguous
///   attributions  (n, ...), contiguous; written: the mean over baselines
///   returns       (n,), the sum of each clip's attributions
at::Tensor pull_back(const at::Tensor& weight, const at::Tensor& gradients,
                     const at::Tensor& inputs, const at::Tensor& baselines,
                     at::Tensor attributions);

}  // namespace fastexai
