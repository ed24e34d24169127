// SPDX-License-Identifier: Apache-2.0
#include "fastexai/pruning/beam.h"

#include <algorithm>
#include <set>
#include <utility>

namespace fastexai {
namespace {

/// A subset in the beam.
struct Subset {
  Order units;        // the first to go last
  at::Tensor points;  // of the scorer's clips
};

/// A subset that another one becomes by a removal, or stays.
struct Trial {
  Order units;
  MaskedScorer::Removal removal;
};

/// Places of the last few units that may go, last first: those whose removal leaves at least `size`
/// landmarks or, where there is none, those that leave fewer.
std::vector<int64_t> removable(const Units& units, const Order& kept, int64_t size, int64_t most) {
  std::vector<int64_t> fitting, too_large;
  const int64_t spare = units.count(kept) - size;
  for (auto place = static_cast<int64_t>(kept.size()) - 1; spare > 0 && place >= 0; --place) {
    const auto& unit = units[kept[place]];
    if (unit.fixed) break;  // so are those before it
    auto& places = static_cast<int64_t>(unit.landmarks.size()) <= spare ? fitting : too_large;
    if (static_cast<int64_t>(places.size()) < most) places.push_back(place);
  }
  return fitting.empty() ? too_large : fitting;
}

/// Every subset that one removal leads to, once. A subset that is small enough stays as it is.
std::vector<Trial> possible_trials(const Units& units, const std::vector<Subset>& beam,
                                   int64_t size, int64_t candidates) {
  std::vector<Trial> trials;
  std::set<Order> seen;
  const auto add = [&](Order kept, const at::Tensor& points, const Order& removed) {
    auto members = kept;
    std::sort(members.begin(), members.end());
    if (seen.insert(members).second)
      trials.push_back({std::move(kept), {points, units.landmarks(removed)}});
  };
  for (const auto& [kept, points] : beam) {
    const auto places = removable(units, kept, size, candidates);
    if (places.empty()) add(kept, points, {});
    for (const int64_t place : places) {
      auto rest = kept;
      rest.erase(rest.begin() + place);
      add(std::move(rest), points, {kept[place]});
    }
  }
  return trials;
}

/// Places of the trials that score best, the best first.
std::vector<size_t> best(const std::vector<Score>& scores, const BeamOptions& options) {
  std::vector<size_t> places(scores.size());
  for (size_t i = 0; i < places.size(); ++i) places[i] = i;
  std::stable_sort(places.begin(), places.end(), [&](size_t a, size_t b) {
    return merit(scores[a], options.objective) > merit(scores[b], options.objective);
  });
  places.resize(std::min(places.size(), static_cast<size_t>(options.width)));
  return places;
}

}  // namespace

Order remove_by_trial(const MaskedScorer& scorer, const Units& units, const Order& order,
                      int64_t size, const BeamOptions& options,
                      const std::function<void(const Order&)>& removed) {
  std::vector<Subset> beam{{order, scorer.points(units.landmarks(order))}};
  while (std::any_of(beam.begin(), beam.end(), [&](const Subset& subset) {
    return !removable(units, subset.units, size, 1).empty();
  })) {
    const auto trials = possible_trials(units, beam, size, options.candidates);
    std::vector<MaskedScorer::Removal> removals;
    for (const auto& trial : trials) removals.push_back(trial.removal);
    std::vector<Subset> next;
    for (const size_t place : best(scorer.scores(removals), options))
      next.push_back({trials[place].units, scorer.points_after(trials[place].removal)});
    beam = std::move(next);
    removed(beam.front().units);
  }
  return beam.front().units;
}

}  // namespace fastexai
