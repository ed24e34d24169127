// SPDX-License-Identifier: Apache-2.0
#include "fastexai/pruning/landmark_search.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "fastexai/check.h"
#include "fastexai/pruning/beam.h"
#include "fastexai/pruning/landmark_attribution.h"
#include "fastexai/pruning/landmark_prefix.h"
#include "fastexai/pruning/masked_scorer.h"

namespace fastexai {
namespace {

constexpr int64_t kFew = 64;  // landmarks; see Note [Redundancy]

void check_classes(const at::Tensor& labels, const char* where) {
  const auto positives = labels.sum().item<int64_t>();
  TORCH_CHECK_VALUE(positives > 0 && positives < labels.size(0),
                    "labels: expected both classes among the clips ", where, ", got ", positives,
                    " positives among ", labels.size(0));
}

void check_mask(const at::Tensor& mask, int64_t size, const char* name) {
  TORCH_CHECK_VALUE(mask.dim() == 1 && mask.size(0) == size, name, ": expected (", size, ",), got ",
                    mask.sizes());
  TORCH_CHECK_TYPE(mask.scalar_type() == at::kBool, name, ": expected bool, got ",
                   mask.scalar_type());
}

void check_data(const LabelledClips& data) {
  check_landmarks(data.clips, "clips");
  TORCH_CHECK_VALUE(data.clips.dim() == 4 && data.clips.size(0) >= 1,
                    "clips: expected (N, T, L, 3) with N >= 1, got ", data.clips.sizes());
  TORCH_CHECK_VALUE(data.baselines.dim() == 4 && data.baselines.size(0) >= 1 &&
                        data.baselines.sizes().slice(1) == data.clips.sizes().slice(1),
                    "baselines: expected (K, ...) with K >= 1 and clips of ",
                    data.clips.sizes().slice(1), ", got ", data.baselines.sizes());
  TORCH_CHECK_TYPE(data.baselines.scalar_type() == data.clips.scalar_type(), "baselines: expected ",
                   data.clips.scalar_type(), " like clips, got ", data.baselines.scalar_type());
  check_mask(data.labels, data.clips.size(0), "labels");
  check_mask(data.validation, data.clips.size(0), "validation");
  check_mask(data.neutral, data.clips.size(0), "neutral");
  check_finite(data.clips, "clips");
  check_finite(data.baselines, "baselines");
}

void check_constraints(const Constraints& constraints, int64_t landmarks) {
  check_mask(constraints.fixed, landmarks, "fixed");
  check_mask(constraints.excluded, landmarks, "excluded");
  TORCH_CHECK_VALUE(constraints.groups.sizes() == at::IntArrayRef{landmarks}, "groups: expected (",
                    landmarks, ",), got ", constraints.groups.sizes());
  TORCH_CHECK_VALUE(constraints.positions.sizes() == at::IntArrayRef({landmarks, 3}),
                    "positions: expected (", landmarks, ", 3), got ",
                    constraints.positions.sizes());
  TORCH_CHECK_VALUE(!constraints.fixed.logical_and(constraints.excluded).any().item<bool>(),
                    "fixed: expected no landmark that is excluded too");
  TORCH_CHECK_VALUE(constraints.min_spacing >= 0, "min_spacing: expected at least 0, got ",
                    constraints.min_spacing);
}

Order all_of(const Units& units) {
  Order all(units.size());
  std::iota(all.begin(), all.end(), 0);
  return all;
}

void check_sizes(const std::vector<int64_t>& sizes, const Units& units) {
  const auto all = all_of(units);
  Order fixed;
  for (const int64_t unit : all)
    if (units[unit].fixed) fixed.push_back(unit);
  const int64_t most = units.count(all), least = std::max<int64_t>(1, units.count(fixed));
  TORCH_CHECK_VALUE(!sizes.empty(), "sizes: expected at least one, got none");
  for (size_t k = 0; k < sizes.size(); ++k) {
    TORCH_CHECK_VALUE(sizes[k] >= least && sizes[k] <= most,
                      "sizes: expected numbers of landmarks in [", least, ", ", most, "], got ",
                      sizes[k]);
    TORCH_CHECK_VALUE(k == 0 || sizes[k] < sizes[k - 1], "sizes: expected decreasing values, got ",
                      sizes[k], " after ", sizes[k - 1]);
  }
}

void check_options(const SearchOptions& options) {
  TORCH_CHECK_VALUE(options.candidates >= 1, "candidates: expected at least 1, got ",
                    options.candidates);
  TORCH_CHECK_VALUE(options.beam_width >= 1, "beam_width: expected at least 1, got ",
                    options.beam_width);
  TORCH_CHECK_VALUE(options.redundancy >= 0 && options.redundancy <= 1,
                    "redundancy: expected 0 to 1, got ", options.redundancy);
  TORCH_CHECK_VALUE(options.nodes >= 1, "n_steps: expected at least 1, got ", options.nodes);
}

/// The clips of one purpose.
struct Share {
  at::Tensor clips, labels, neutral;
};

Share share(const LabelledClips& data, const at::Tensor& mask, const char* where) {
  const auto index = mask.nonzero().flatten();
  const auto labels = data.labels.index_select(0, index);
  check_classes(labels, where);
  return {mask.all().item<bool>() ? data.clips : data.clips.index_select(0, index), labels,
          data.neutral.index_select(0, index)};
}

class LandmarkSearch {
 public:
  LandmarkSearch(const std::shared_ptr<const PathPlan>& plan, const LabelledClips& data,
                 const Units& units, const SearchOptions& options)
      : options_(options),
        units_(units),
        baselines_(data.baselines),
        rule_(gauss_legendre(options.nodes)),
        prefix_(plan, data.baselines.mean(0), options.checkpoint) {
    const bool split = data.validation.any().item<bool>();
    const auto all = at::ones_like(data.validation);
    attributed_ = share(data, split ? data.validation.logical_not() : all, "to attribute");
    const auto scored = share(data, split ? data.validation : all, "to score");
    scorer_.emplace(prefix_, scored.clips, scored.labels, options.checkpoint);
  }

  LandmarkPath run() {
    Order kept = all_of(units_), attributed;
    LandmarkPath path;
    std::vector<at::Tensor> relevance;
    for (const int64_t size : options_.sizes) {
      const bool is_smaller = kept.size() < attributed.size();
      if (attributed.empty() || (is_smaller && options_.strategy != Strategy::kRelevance)) {
        attribute(kept);
        attributed = kept;
      }
      kept = reduced(ranked(attributed, size), size);
      report(kept);
      path.kept.push_back(units_.landmarks(kept));
      path.scores.push_back(
          scorer_->scores({{scorer_->points(path.kept.back()), units_.landmarks({})}})[0]);
      relevance.push_back(relevance_);
    }
    path.relevance = at::stack(relevance);
    path.description = prefix_.plan().description();
    return path;
  }

 private:
  Order reduced(const Order& order, int64_t size) const {
    const bool is_beam = options_.strategy == Strategy::kBeam;
    if (!is_beam && options_.strategy != Strategy::kGreedy) return units_.first(order, size);
    const BeamOptions beam{options_.objective, is_beam ? options_.beam_width : 1,
                           options_.candidates};
    return remove_by_trial(*scorer_, units_, order, size, beam,
                           [this](const Order& kept) { report(kept); });
  }

  void report(const Order& kept) const {
    const int64_t all = units_.count(all_of(units_));
    if (options_.progress) options_.progress(all - units_.count(kept), all - options_.sizes.back());
  }

  /// Attributes to `kept`.
  void attribute(const Order& kept) {
    const auto landmarks = units_.landmarks(kept);
    attributions_ = attribute_landmarks(prefix_, attributed_.clips, baselines_, landmarks, rule_,
                                        options_.checkpoint);
    check_finite(attributions_, "model output or gradient");
    evidence_ = weigh_evidence(attributions_, attributed_.labels, attributed_.neutral);
    relevance_ = at::zeros({baselines_.size(2)}, at::kDouble);
    relevance_.index_copy_(0, landmarks, at::tensor(evidence_.relevance, at::kDouble));
  }

  /// What was attributed to, in order: the last is the first to go on the way to `size` landmarks.
  Order ranked(const Order& attributed, int64_t size) const {
    return units_.spaced(
        options_.strategy == Strategy::kRedundancy
            ? by_reliable_news(attributed, size)
            : units_.by_value(attributed, unit_means(attributed, evidence_.relevance)));
  }

  /// See Note [Redundancy].
  Order by_reliable_news(const Order& attributed, int64_t size) const {
    if (size > kFew) return units_.by_value(attributed, unit_means(attributed, evidence_.effect));
    return units_.by_new_value(attributed, unit_means(attributed, evidence_.relevance),
                               unit_signals(attributed, attributions_), options_.redundancy);
  }

  /// A value per landmark of `kept`, in their order, averaged over each unit.
  std::vector<double> unit_means(const Order& kept, const std::vector<double>& values) const {
    std::vector<double> means;
    size_t landmark = 0;
    for (const int64_t unit : kept) {
      const size_t count = units_[unit].landmarks.size();
      double sum = 0;
      for (size_t i = 0; i < count; ++i) sum += values[landmark++];
      means.push_back(sum / static_cast<double>(count));
    }
    return means;
  }

  /// What each unit adds to the output of every clip: attributions (N, M, 3), summed.
  std::vector<std::vector<double>> unit_signals(const Order& kept,
                                                const at::Tensor& attributions) const {
    const auto values = attributions.accessor<double, 3>();
    std::vector<std::vector<double>> signals;
    int64_t landmark = 0;
    for (const int64_t unit : kept) {
      std::vector<double> signal(values.size(0), 0);
      for (size_t i = 0; i < units_[unit].landmarks.size(); ++i, ++landmark)
        for (int64_t n = 0; n < values.size(0); ++n)
          for (int64_t c = 0; c < 3; ++c) signal[n] += values[n][landmark][c];
      signals.push_back(std::move(signal));
    }
    return signals;
  }

  const SearchOptions& options_;
  const Units& units_;
  at::Tensor baselines_;
  Quadrature rule_;
  LandmarkPrefix prefix_;
  Share attributed_;
  std::optional<MaskedScorer> scorer_;
  // Of the last attribution:
  at::Tensor attributions_;  // (N, M, 3)
  Evidence evidence_;
  at::Tensor relevance_;  // (L,)
};

}  // namespace

Strategy strategy_named(const std::string& name) {
  if (name == "relevance") return Strategy::kRelevance;
  if (name == "recursive") return Strategy::kRecursive;
  if (name == "redundancy") return Strategy::kRedundancy;
  if (name == "greedy") return Strategy::kGreedy;
  TORCH_CHECK_VALUE(name == "beam",
                    "strategy: expected relevance, recursive, redundancy, greedy or beam, got ",
                    name);
  return Strategy::kBeam;
}

LandmarkPath search_landmarks(const std::shared_ptr<const PathPlan>& plan,
                              const LabelledClips& data, const SearchOptions& options) {
  const c10::InferenceMode ordinary_mode(false);
  const at::NoGradGuard no_grad;
  check_data(data);
  check_options(options);
  check_constraints(options.constraints, data.clips.size(2));
  const Units units(options.constraints);
  check_sizes(options.sizes, units);
  return LandmarkSearch(plan, data, units, options).run();
}

}  // namespace fastexai
