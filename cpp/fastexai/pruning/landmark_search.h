// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fastexai/attribution/path_plan.h"
#include "fastexai/pruning/landmark_units.h"
#include "fastexai/pruning/objective.h"

namespace fastexai {

/// Note [Redundancy]: neighbours on a face move together, so the most relevant landmarks tell the
/// same. While many stay, that cannot be helped, and random subsets do nearly as well: what counts
/// is which landmarks the emotion moves reliably, compared with neutral faces, and those go first
/// whose effect is least. (Compared with other emotions, landmarks count that only those move.) The
/// last 64 are worth their relevance, less what better ones tell already.
///
/// Which landmarks go first. All but kRelevance attribute again at every size, to the landmarks
/// that are left.
enum class Strategy {
  kRelevance,   // the least relevant, by one ranking
  kRecursive,   // the least relevant of those left
  kRedundancy,  // see Note [Redundancy]
  kGreedy,      // one unit at a time, the best removal among the least relevant candidates
  kBeam,        // the same for several subsets side by side
};

/// "relevance", "recursive", "redundancy", "greedy" or "beam".
Strategy strategy_named(const std::string& name);

struct SearchOptions {
  std::vector<int64_t> sizes;  // decreasing
  Strategy strategy = Strategy::kRedundancy;
  Objective objective = Objective::kRocAuc;
  Constraints constraints;
  int64_t candidates = 8;   // greedy and beam: removals tried for every subset
  int64_t beam_width = 4;   // subsets side by side
  double redundancy = 0.7;  // 0 to 1; see Units::by_new_value
  int64_t nodes = 8;        // of the Gauss-Legendre rule, for each path
  /// Called on the calling thread with (landmarks removed, landmarks to remove); may throw.
  std::function<void(int64_t, int64_t)> progress;
  /// Called on the calling thread between forward passes; may throw to stop the run.
  Checkpoint checkpoint;
};

struct LabelledClips {
  at::Tensor clips;       // (N, T, L, 3) float32 or float64
  at::Tensor labels;      // (N,) bool
  at::Tensor validation;  // (N,) bool: subsets are scored on these and attributed on the others;
                          // all false: on all clips both
  at::Tensor neutral;     // (N,) bool: effects are measured against these; all false: against all
                          // clips without the label
  at::Tensor baselines;   // (K, T, L, 3), same dtype as clips
};

/// Nested subsets, from many landmarks to few.
struct LandmarkPath {
  std::vector<at::Tensor> kept;  // for each size: landmarks, int64, the last to go first
  std::vector<Score> scores;     // of the masked model
  at::Tensor relevance;          // (S, L) float64: by which the subset of each size was chosen
  std::string description;       // of how the model was evaluated
};

/// Removes landmarks until few are left. A removed landmark is held at the mean of the baselines,
/// in clips and baselines alike. Bit for bit the same for any number of threads.
LandmarkPath search_landmarks(const std::shared_ptr<const PathPlan>& plan,
                              const LabelledClips& data, const SearchOptions& options);

}  // namespace fastexai
