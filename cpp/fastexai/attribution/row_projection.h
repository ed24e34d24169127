// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "fastexai/attribution/packed_product.h"

namespace fastexai {

/// A linear layer on the input's numbers, D at a time and in their order: what most affine prefixes
/// are. Its weight is packed once, for both directions. CPU; thread-safe.
class RowProjection {
 public:
  ///   weight           (H, D)
  ///   origin           (1, ...), some clip
  ///   point_of_origin  (1, ...), what the layer makes of it; its last dimension is H
  RowProjection(const at::Tensor& weight, const at::Tensor& origin,
                const at::Tensor& point_of_origin);

  /// inputs (n, ...) -> points (n, ...)
  at::Tensor project(const at::Tensor& inputs) const;

  /// Pulls mean gradients back through the layer and multiplies them by each path's length.
  ///
  /// It goes through the inputs a tile of columns at a time: what one step makes is still in the
  /// cache when the next one reads it, so that inputs and attributions cross the memory bus once.
  ///   gradients     (n, K, ...), by the layer's output, of the paths from each of K baselines
  ///   inputs        (n, ...), contiguous
  ///   baselines     (K, ...), or (n, ...) where K is 1; contiguous
  ///   attributions  (n, ...), contiguous; written: the mean over baselines
  ///   returns       (n,), the sum of each clip's attributions
  at::Tensor pull_back(const at::Tensor& gradients, const at::Tensor& inputs,
                       const at::Tensor& baselines, at::Tensor attributions) const;

 private:
  at::Tensor weight_;
  PackedMatrix forward_, backward_;  // (D, H) and (H, D)
  at::Tensor origin_, point_of_origin_;
  bool from_zeros_;
};

}  // namespace fastexai
