// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/refinement.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "fastexai/attribution/quadrature.h"

namespace fastexai {
namespace {

/// The most that a rule is trusted to be better than the one before, in `estimate_errors`.
constexpr double kLeastRatio = 0.05;

/// So many times what the last place of one number costs may rounding cost altogether.
constexpr double kRoundings = 64;

constexpr int64_t kPathRule = 2;  // of Patterson's, the first on a path; two smaller ones serve the
constexpr int64_t kPieceRule =
    3;  // estimate; and on a piece of a path, which is there for a reason
constexpr int64_t kLastRule = 4;
constexpr int64_t kPieces = 3;  // that a segment is cut into

/// A part of one path, from alpha = a to alpha = b.
struct Segment {
  int64_t path;
  double a, b;
  double value_a, value_b;  // F at its ends
  int64_t rule = kPieceRule;
  bool fresh = true;        // no smaller rule has been evaluated
  double gap = 0;           // between the last two rules: the worst feature's
  double ratio = 1;         // of the last two gaps
  double completeness = 0;  // sum of attributions minus the change of F: known, with its sign
  double uncertainty = 0;   // of the attributions: estimated, the worst feature's
  double severity() const { return std::max(std::abs(completeness), uncertainty); }
};

/// The errors of some segments of one path together.
struct Errors {
  double completeness = 0;  // they cancel or add up: it is their sum that counts
  double squares = 0;       // of the uncertainties
  void add(const Segment& segment) {
    completeness += segment.completeness;
    squares += segment.uncertainty * segment.uncertainty;
  }
  bool within(double allowed) const {
    return std::abs(completeness) <= allowed && squares <= allowed * allowed;
  }
};

/// The nodes to evaluate for one rule, and what they weigh in the rules that they are part of.
struct Batch {
  Batch(int64_t rule, bool fresh, const at::TensorOptions& options)
      : rule(rule), fresh(fresh), least_rule(fresh ? 0 : rule) {
    const auto& rules = patterson();
    const int64_t old = fresh ? 0 : rules.count(rule - 1), count = rules.count(rule);
    auto all = at::zeros({kLastRule + 1, count}, at::kDouble);
    for (int64_t k = least_rule; k <= kLastRule; ++k) {
      const auto own = at::tensor(rules.weights[k], at::kDouble);
      const int64_t known = std::min(count, own.size(0));
      all[k].narrow(0, 0, known).copy_(own.narrow(0, 0, known));
    }
    nodes = at::tensor(rules.nodes, at::kDouble).slice(0, old, count).to(options);
    weights = all.slice(0, least_rule).slice(1, old).contiguous().to(options);
  }

  int64_t rule;
  bool fresh;
  int64_t least_rule;
  at::Tensor nodes;    // (S,)
  at::Tensor weights;  // (rules from least_rule on, S)
};

enum class Next { kAccept, kRaise, kCut };

std::vector<double> on_cpu(const at::Tensor& tensor) {
  const auto numbers = tensor.to(at::kDouble).cpu().contiguous();
  const auto* const first = numbers.const_data_ptr<double>();
  return {first, first + numbers.numel()};
}

/// Refines some paths until every one has converged or spent its nodes.
class Refinement {
 public:
  Refinement(Integrand& integrand, const Paths& paths, const Tolerance& tolerance, int64_t rows)
      : integrand_(integrand),
        paths_(paths),
        tolerance_(tolerance),
        rows_(rows),
        options_(paths.difference.options()),
        epsilon_(options_.dtype() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                                 : std::numeric_limits<float>::epsilon()) {
    const auto from = on_cpu(paths.start_value), to = on_cpu(paths.end_value);
    for (size_t path = 0; path < from.size(); ++path) {
      const double f = from[path], t = to[path];
      const double floor = kRoundings * epsilon_ * std::max({1.0, std::abs(f), std::abs(t)});
      allowed_.push_back(std::max(tolerance.tol * std::abs(t - f), floor));
      active_.push_back({static_cast<int64_t>(path), 0, 1, f, t, kPathRule});
    }
    accepted_.assign(from.size(), Errors());
    result_.nodes.assign(from.size(), 0);
    result_.mean_gradients = at::zeros_like(paths.difference);
  }

  Refined run() {
    sums_ = sums_of(active_.size());
    while (!active_.empty()) {
      for (int64_t rule = kPathRule; rule <= kLastRule; ++rule)
        for (const bool fresh : {false, true}) evaluate(rule, fresh);
      if (active_.size() == allowed_.size()) allow_for_rounding();
      const auto next = choose();
      accept(next);
      advance(next);
    }
    for (size_t path = 0; path < allowed_.size(); ++path)
      result_.converged.push_back(accepted_[path].within(allowed_[path]));
    return std::move(result_);
  }

 private:
  at::Tensor indices(const std::vector<int64_t>& values) const {
    return at::tensor(values, at::kLong).to(options_.device());
  }
  at::Tensor column(const std::vector<double>& values) const {
    auto shape = std::vector<int64_t>(paths_.difference.dim(), 1);
    shape[0] = static_cast<int64_t>(values.size());
    return at::tensor(values, at::kDouble).to(options_).view(shape);
  }
  /// Room for what each rule makes of each segment: (rules, segments, ...).
  at::Tensor sums_of(size_t segments) const {
    auto shape = paths_.difference.sizes().vec();
    shape[0] = static_cast<int64_t>(segments);
    shape.insert(shape.begin(), kLastRule - kPathRule + 1);
    return at::zeros(shape, options_);
  }
  std::vector<int64_t> select(const std::function<bool(size_t)>& chosen) const {
    std::vector<int64_t> found;
    for (size_t i = 0; i < active_.size(); ++i)
      if (chosen(i)) found.push_back(static_cast<int64_t>(i));
    return found;
  }
  /// A number of each of some segments.
  template <typename Get>
  auto each(const std::vector<int64_t>& segments, const Get& get) const {
    std::vector<decltype(get(active_[0]))> values;
    for (const int64_t i : segments) values.push_back(get(active_[i]));
    return values;
  }
  at::Tensor path_index(const std::vector<int64_t>& segments) const {
    return indices(each(segments, [](const Segment& s) { return s.path; }));
  }
  at::Tensor lengths(const std::vector<int64_t>& segments) const {
    return column(each(segments, [](const Segment& s) { return s.b - s.a; }));
  }
  at::Tensor points(const std::vector<int64_t>& segments,
                    const std::function<double(const Segment&)>& alpha) const {
    const auto path = path_index(segments);
    return at::addcmul(paths_.start.index_select(0, path), column(each(segments, alpha)),
                       paths_.difference.index_select(0, path));
  }

  /// Evaluates a rule on all segments which it is the turn of: the nodes that it adds to the rule
  /// before, or on fresh segments all.
  void evaluate(int64_t rule, bool fresh) {
    const auto turn =
        select([&](size_t i) { return active_[i].rule == rule && active_[i].fresh == fresh; });
    if (turn.empty()) return;
    const Batch batch(rule, fresh, options_);
    const size_t width = std::max<int64_t>(1, rows_ / batch.nodes.size(0));
    for (size_t first = 0; first < turn.size(); first += width) {
      const auto last = std::min(turn.size(), first + width);
      evaluate(batch, {turn.begin() + first, turn.begin() + last});
    }
  }

  void evaluate(const Batch& batch, const std::vector<int64_t>& segments) {
    const auto path = path_index(segments), index = indices(segments);
    const auto start = points(segments, [](const Segment& s) { return s.a; });
    const auto difference = lengths(segments) * paths_.difference.index_select(0, path);
    const auto part = integrand_.gradient_sums(start, difference, batch.nodes, batch.weights);
    const int64_t least = std::max(kPathRule, batch.least_rule);
    const auto added = part.slice(0, least - batch.least_rule);
    sums_.slice(0, least - kPathRule).index_add_(1, index, added);
    const auto of = [&](int64_t rule) {
      return batch.fresh ? part[rule] : sums_[rule - kPathRule].index_select(0, index);
    };
    const auto present = of(batch.rule), before = of(batch.rule - 1);
    if (batch.fresh) {
      const auto gaps = worst((before - of(batch.rule - 2)) * difference);
      for (size_t k = 0; k < segments.size(); ++k) active_[segments[k]].gap = gaps[k];
    }
    estimate_errors(segments, present * difference, (present - before) * difference);
    for (const int64_t i : segments) {
      result_.nodes[active_[i].path] += batch.nodes.size(0);
      active_[i].fresh = false;
    }
  }

  static std::vector<double> worst(const at::Tensor& features) {
    return on_cpu(features.abs().flatten(1).amax(1));
  }

  /// What is known of a segment's completeness error, and what it tells of its attributions' error.
  ///
  /// The gap between two rules is the error of the one before. By how much the present one is
  /// better, two things show: the sum over features, of which the true error is known; and how the
  /// gap shrank since the last rule, which doubled the nodes as the present one did. At a kink the
  /// error shrinks as the gap did, on a smooth path with the square of that: the power between them
  /// kept trained networks of both kinds within their tolerance. The worse of the two counts, with
  /// a floor, since both may be small by luck.
  void estimate_errors(const std::vector<int64_t>& segments, const at::Tensor& attributions,
                       const at::Tensor& gap) {
    const auto sums = on_cpu(attributions.flatten(1).sum(1));
    const auto summed_gaps = on_cpu(gap.flatten(1).sum(1).abs());
    const auto gaps = worst(gap);
    for (size_t k = 0; k < segments.size(); ++k) {
      auto& segment = active_[segments[k]];
      segment.completeness = sums[k] - (segment.value_b - segment.value_a);
      segment.ratio = std::min(gaps[k] / std::max(segment.gap, 1e-300), 1.0);
      segment.gap = gaps[k];
      const double known = std::abs(segment.completeness) / std::max(summed_gaps[k], 1e-300);
      const double gain = std::max(known, std::pow(segment.ratio, 1.5));
      segment.uncertainty = std::clamp(gain, kLeastRatio, 1.0) * gaps[k];
    }
  }

  /// Before the first refinement of a path: how exactly F can be computed at all. What F changes by
  /// when its argument changes in the last place, no quadrature can tell from an error.
  void allow_for_rounding() {
    std::vector<int64_t> missed;
    for (const auto& segment : active_) {
      Errors errors;
      errors.add(segment);
      if (segment.b - segment.a == 1 && segment.rule == kPathRule &&
          !errors.within(allowed_[segment.path]))
        missed.push_back(segment.path);
    }
    if (missed.empty()) return;
    const auto path = indices(missed);
    const auto start = paths_.start.index_select(0, path);
    const auto end = start + paths_.difference.index_select(0, path);
    const auto generator = at::make_generator<at::CPUGeneratorImpl>(20240714);
    const auto signs = at::empty(start.sizes().slice(1), options_.device(at::kCPU))
                           .bernoulli_(0.5, generator)
                           .mul_(2)
                           .sub_(1)
                           .to(start.device());
    for (const auto& [point, value] :
         {std::pair(start, paths_.start_value), std::pair(end, paths_.end_value)}) {
      const auto exact = value.index_select(0, path);
      for (const double sign : {epsilon_, -epsilon_}) {
        const auto moved = values_at(at::addcmul(point, point, signs, sign));
        const auto change = on_cpu((moved - exact).abs());
        for (size_t k = 0; k < missed.size(); ++k)
          allowed_[missed[k]] = std::max(allowed_[missed[k]], kRoundings * change[k]);
      }
    }
  }

  at::Tensor values_at(const at::Tensor& points) {
    std::vector<at::Tensor> values;
    for (const auto& some : points.split(rows_)) values.push_back(integrand_.value(some));
    return at::cat(values);
  }

  std::vector<Next> choose() const {
    std::vector<Next> next(active_.size(), Next::kAccept);
    for (size_t first = 0, last; first < active_.size(); first = last) {
      last = first;
      while (last < active_.size() && active_[last].path == active_[first].path) ++last;
      choose(first, last, next);
    }
    return next;
  }

  /// What becomes of one path's segments: where it has not converged, the worst ones are refined
  /// until the others together, which are final, are within half of what is allowed. Their
  /// attributions err independently and add in quadrature; their completeness errors are known and
  /// simply add.
  void choose(size_t first, size_t last, std::vector<Next>& next) const {
    const int64_t path = active_[first].path;
    Errors all = accepted_[path];
    double squares = all.squares;
    std::vector<size_t> order;
    for (size_t i = first; i < last; ++i) {
      order.push_back(i);
      all.add(active_[i]);
      squares += active_[i].severity() * active_[i].severity();
    }
    if (all.within(allowed_[path])) return;
    std::sort(order.begin(), order.end(),
              [&](size_t p, size_t q) { return active_[p].severity() > active_[q].severity(); });
    const double goal = 0.5 * allowed_[path];
    double rest = all.completeness;  // of what is not refined
    int64_t nodes = result_.nodes[path];
    for (const size_t i : order) {
      const auto& segment = active_[i];
      if (i != order[0] && squares <= goal * goal && std::abs(rest) <= goal) break;
      const bool raise =
          segment.rule < kPieceRule ||
          (segment.rule < kLastRule && segment.severity() * segment.ratio * segment.ratio <= goal);
      const auto& rules = patterson();
      nodes += raise ? rules.count(segment.rule + 1) - rules.count(segment.rule)
                     : kPieces * rules.count(kPieceRule);
      if (nodes > tolerance_.max_nodes) break;
      next[i] = raise ? Next::kRaise : Next::kCut;
      squares -= segment.severity() * segment.severity();
      rest -= segment.completeness;
    }
  }

  void accept(const std::vector<Next>& next) {
    for (int64_t rule = kPathRule; rule <= kLastRule; ++rule) {
      const auto final =
          select([&](size_t i) { return next[i] == Next::kAccept && active_[i].rule == rule; });
      if (final.empty()) continue;
      for (const int64_t i : final) accepted_[active_[i].path].add(active_[i]);
      const auto means = sums_[rule - kPathRule].index_select(0, indices(final));
      result_.mean_gradients.index_add_(0, path_index(final), means * lengths(final));
    }
  }

  /// The next active segments, with what is known of them.
  void advance(const std::vector<Next>& next) {
    const auto cut = select([&](size_t i) { return next[i] == Next::kCut; });
    std::vector<std::vector<double>> values;  // F at each inner end of each segment that is cut
    for (int64_t piece = 1; piece < kPieces && !cut.empty(); ++piece)
      values.push_back(on_cpu(values_at(points(cut, [piece](const Segment& s) {
        return s.a + (s.b - s.a) * static_cast<double>(piece) / kPieces;
      }))));
    std::vector<Segment> segments;
    std::vector<int64_t> raised, places;
    size_t k = 0;
    for (size_t i = 0; i < active_.size(); ++i) {
      if (next[i] == Next::kRaise) {
        raised.push_back(static_cast<int64_t>(i));
        places.push_back(static_cast<int64_t>(segments.size()));
        segments.push_back(active_[i]);
        ++segments.back().rule;
      } else if (next[i] == Next::kCut) {
        cut_into(segments, active_[i], values, k++);
      }
    }
    auto sums = sums_of(segments.size());
    if (!raised.empty())
      sums.index_copy_(1, indices(places), sums_.index_select(1, indices(raised)));
    sums_ = std::move(sums);
    active_ = std::move(segments);
  }

  static void cut_into(std::vector<Segment>& segments, const Segment& whole,
                       const std::vector<std::vector<double>>& values, size_t k) {
    double a = whole.a, value_a = whole.value_a;
    for (int64_t piece = 1; piece <= kPieces; ++piece) {
      const bool last = piece == kPieces;
      const double b =
          last ? whole.b : whole.a + (whole.b - whole.a) * static_cast<double>(piece) / kPieces;
      const double value_b = last ? whole.value_b : values[piece - 1][k];
      segments.push_back({whole.path, a, b, value_a, value_b});
      a = b;
      value_a = value_b;
    }
  }

  Integrand& integrand_;
  const Paths& paths_;
  Tolerance tolerance_;
  int64_t rows_;
  at::TensorOptions options_;
  double epsilon_;
  std::vector<Segment> active_;  // those of one path lie together
  at::Tensor sums_;              // what each rule makes of them, as far as it is evaluated
  std::vector<double> allowed_;
  std::vector<Errors> accepted_;
  Refined result_;
};

}  // namespace

Refined refine(Integrand& integrand, const Paths& paths, const Tolerance& tolerance, int64_t rows) {
  return Refinement(integrand, paths, tolerance, rows).run();
}

}  // namespace fastexai
