// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace fastexai {

enum class Objective { kBalancedAccuracy, kRocAuc, kLogLoss };

/// "balanced_accuracy", "roc_auc" or "log_loss".
Objective objective_named(const std::string& name);

/// How well a model's outputs, one per clip, tell the clips labelled 1 from those labelled 0. Each
/// class counts one half, however many clips it has; both must be present.
struct Score {
  double balanced_accuracy;  // of the decision "output above 0"
  double roc_auc;            // share of the pairs in the right order; a tie counts one half
  double log_loss;           // mean of log(1 + exp(-output)) and, for label 0, log(1 + exp(output))
};

Score score_outputs(const std::vector<double>& outputs, const std::vector<char>& labels);

/// The larger, the better: the negative of the log-loss.
double merit(const Score& score, Objective objective);

}  // namespace fastexai
