// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "fastexai/attribution/script_model.h"

namespace fastexai {

/// The model's output for every clip with all landmarks outside a subset held at a baseline.
///   clips     (N, T, L, 3) float32 or float64
///   baseline  (T, L, 3)    same dtype
///   kept      (S, L)       bool, one subset a row
///   returns   (S, N)
at::Tensor masked_scores(const Model& model, const at::Tensor& clips, const at::Tensor& baseline,
                         const at::Tensor& kept);

}  // namespace fastexai
