// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "fastexai/pruning/landmark_units.h"
#include "fastexai/pruning/masked_scorer.h"

namespace fastexai {

struct BeamOptions {
  Objective objective;
  int64_t width;       // subsets side by side; 1: greedy
  int64_t candidates;  // removals tried for every subset
};

/// Removes units one at a time until no more than `size` landmarks are left: tries the last few
/// units of every subset in the beam and keeps the subsets that score best. Equal scores keep the
/// order, so that the last unit goes. `removed` hears of every step.
Order remove_by_trial(const MaskedScorer& scorer, const Units& units, const Order& order,
                      int64_t size, const BeamOptions& options,
                      const std::function<void(const Order&)>& removed);

}  // namespace fastexai
