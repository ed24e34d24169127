// SPDX-License-Identifier: Apache-2.0
#include "fastexai/pruning/objective.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace fastexai {
namespace {

/// log(1 + exp(x)) without overflow.
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

/// By ranks (Mann & Whitney, 1947): clips with equal outputs share their mean rank.
double rank_auc(const std::vector<double>& outputs, const std::vector<char>& labels) {
  std::vector<size_t> order(outputs.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return outputs[a] < outputs[b]; });
  double positives = 0, rank_sum = 0;
  for (size_t first = 0, last; first < order.size(); first = last) {
    double tied = 0;
    for (last = first; last < order.size() && outputs[order[last]] == outputs[order[first]]; ++last)
      tied += labels[order[last]];
    rank_sum += tied * 0.5 * static_cast<double>(first + 1 + last);
    positives += tied;
  }
  const double negatives = static_cast<double>(outputs.size()) - positives;
  return (rank_sum - 0.5 * positives * (positives + 1)) / (positives * negatives);
}

}  // namespace

Objective objective_named(const std::string& name) {
  if (name == "balanced_accuracy") return Objective::kBalancedAccuracy;
  if (name == "roc_auc") return Objective::kRocAuc;
  TORCH_CHECK_VALUE(name == "log_loss",
                    "objective: expected balanced_accuracy, roc_auc or log_loss, got ", name);
  return Objective::kLogLoss;
}

Score score_outputs(const std::vector<double>& outputs, const std::vector<char>& labels) {
  double right[2] = {0, 0}, loss[2] = {0, 0}, count[2] = {0, 0};
  for (size_t i = 0; i < outputs.size(); ++i) {
    const int label = labels[i];
    right[label] += (outputs[i] > 0) == (label == 1);
    loss[label] += softplus(label == 1 ? -outputs[i] : outputs[i]);
    ++count[label];
  }
  return {0.5 * (right[0] / count[0] + right[1] / count[1]), rank_auc(outputs, labels),
          0.5 * (loss[0] / count[0] + loss[1] / count[1])};
}

double merit(const Score& score, Objective objective) {
  if (objective == Objective::kBalancedAccuracy) return score.balanced_accuracy;
  return objective == Objective::kRocAuc ? score.roc_auc : -score.log_loss;
}

}  // namespace fastexai
