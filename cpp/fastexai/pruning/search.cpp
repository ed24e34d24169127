// SPDX-License-Identifier: Apache-2.0
#include "fastexai/pruning/search.h"

#include <algorithm>
#include <numeric>

#include "fastexai/check.h"
#include "fastexai/pruning/masked_evaluation.h"

namespace fastexai {
namespace {

void check_search(const at::Tensor& clips, const at::Tensor& labels, const at::Tensor& relevance,
                  const std::vector<int64_t>& sizes) {
  check_landmarks(clips, "clips");
  TORCH_CHECK_VALUE(clips.dim() == 4, "clips: expected (N, T, L, 3), got ", clips.sizes());
  TORCH_CHECK_VALUE(labels.dim() == 1 && labels.size(0) == clips.size(0), "labels: expected (",
                    clips.size(0), ",), got ", labels.sizes());
  TORCH_CHECK_TYPE(labels.scalar_type() == at::kBool, "labels: expected bool, got ",
                   labels.scalar_type());
  const auto positives = labels.sum().item<int64_t>();
  TORCH_CHECK_VALUE(positives > 0 && positives < labels.size(0),
                    "labels: expected both classes, got ", positives, " positives among ",
                    labels.size(0));
  const int64_t landmarks = clips.size(2);
  TORCH_CHECK_VALUE(relevance.dim() == 1 && relevance.size(0) == landmarks, "relevance: expected (",
                    landmarks, ",), got ", relevance.sizes());
  TORCH_CHECK_TYPE(relevance.scalar_type() == at::kDouble, "relevance: expected float64, got ",
                   relevance.scalar_type());
  check_finite(relevance, "relevance");
  TORCH_CHECK_VALUE(!sizes.empty(), "sizes: expected at least one, got none");
  for (size_t k = 0; k < sizes.size(); ++k) {
    TORCH_CHECK_VALUE(sizes[k] >= 1 && sizes[k] <= landmarks, "sizes: expected values in [1, ",
                      landmarks, "], got ", sizes[k]);
    TORCH_CHECK_VALUE(k == 0 || sizes[k] < sizes[k - 1], "sizes: expected decreasing values, got ",
                      sizes[k], " after ", sizes[k - 1]);
  }
}

/// (S, L): row s keeps the sizes[s] most relevant landmarks.
at::Tensor nested_subsets(const at::Tensor& relevance, const std::vector<int64_t>& sizes) {
  const auto order = at::argsort(relevance, /*stable=*/true, /*dim=*/0, /*descending=*/true);
  auto kept = at::zeros({static_cast<int64_t>(sizes.size()), relevance.size(0)}, at::kBool);
  for (size_t s = 0; s < sizes.size(); ++s)
    kept[static_cast<int64_t>(s)].index_fill_(0, order.narrow(0, 0, sizes[s]), true);
  return kept;
}

/// The mean of sensitivity and specificity, deciding "yes" above 0.
double balanced_accuracy(const at::Tensor& scores, const at::Tensor& labels) {
  const auto positive = scores > 0;
  const auto sensitivity = positive.masked_select(labels).to(at::kDouble).mean();
  const auto specificity =
      positive.logical_not().masked_select(labels.logical_not()).to(at::kDouble).mean();
  return 0.5 * (sensitivity + specificity).item<double>();
}

/// The share of (positive, negative) pairs in the right order; a tie counts one half.
double roc_auc(const at::Tensor& scores, const at::Tensor& labels) {
  const auto positives = scores.masked_select(labels).unsqueeze(1);
  const auto negatives = scores.masked_select(labels.logical_not()).unsqueeze(0);
  const auto ordered = (positives > negatives).to(at::kDouble);
  const auto tied = (positives == negatives).to(at::kDouble);
  return (ordered + 0.5 * tied).mean().item<double>();
}

}  // namespace

Search search_by_relevance(const Model& model, const at::Tensor& clips, const at::Tensor& labels,
                           const at::Tensor& baseline, const at::Tensor& relevance,
                           const std::vector<int64_t>& sizes) {
  check_search(clips, labels, relevance, sizes);
  const auto kept = nested_subsets(relevance, sizes);
  const auto scores = masked_scores(model, clips, baseline, kept);
  const int64_t subsets = kept.size(0);
  Search search{kept, at::empty({subsets}, at::kDouble), at::empty({subsets}, at::kDouble)};
  for (int64_t s = 0; s < subsets; ++s) {
    search.balanced_accuracy[s] = balanced_accuracy(scores[s], labels);
    search.roc_auc[s] = roc_auc(scores[s], labels);
  }
  return search;
}

}  // namespace fastexai
