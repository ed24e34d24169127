// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "fastexai/attribution/script_model.h"

namespace fastexai {

/// Nested subsets of landmarks, from all to few, with the masked model's score for each.
struct Search {
  at::Tensor kept;               // (S, L) bool; each row's subset contains the next row's
  at::Tensor balanced_accuracy;  // (S,) float64, of the masked model, deciding at output 0
  at::Tensor roc_auc;            // (S,) float64
};

/// Drops landmarks from the bottom of a relevance ranking and scores every size by masked
/// evaluation. Ties in relevance keep the landmark with the lower index.
///   clips      (N, T, L, 3) float32 or float64
///   labels     (N,) bool, both classes present
///   baseline   (T, L, 3), the values that removed landmarks are held at
///   relevance  (L,) float64, finite
///   sizes      decreasing, each in [1, L]
Search search_by_relevance(const Model& model, const at::Tensor& clips, const at::Tensor& labels,
                           const at::Tensor& baseline, const at::Tensor& relevance,
                           const std::vector<int64_t>& sizes);

}  // namespace fastexai
