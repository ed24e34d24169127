// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/path_integrator.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "fastexai/attribution/memory_budget.h"
#include "fastexai/check.h"
#include "fastexai/workers.h"

namespace fastexai {
namespace {

/// The most that Kronrod's nodes are trusted to be better than Gauss's, in `estimate_errors`.
constexpr double kLeastRatio = 0.05;

constexpr int64_t kKronrodNodes = 15;

/// So many times what the last place of one number costs may rounding cost altogether.
constexpr double kRoundings = 64;

void check_path(const at::Tensor& inputs, const at::Tensor& baselines, const PathOptions& options) {
  check_floating(inputs, "inputs");
  TORCH_CHECK_VALUE(inputs.dim() >= 1 && inputs.size(0) >= 1,
                    "inputs: expected a batch of at least one sample, got ", inputs.sizes());
  TORCH_CHECK_VALUE(
      baselines.dim() == inputs.dim() && baselines.sizes().slice(1) == inputs.sizes().slice(1) &&
          baselines.size(0) >= 1 &&
          (options.mean_over_baselines || baselines.size(0) == 1 ||
           baselines.size(0) == inputs.size(0)),
      "baselines: expected ", inputs.sizes(),
      options.mean_over_baselines ? " with any number of rows, got " : " or one row of it, got ",
      baselines.sizes());
  TORCH_CHECK_TYPE(baselines.scalar_type() == inputs.scalar_type(), "baselines: expected ",
                   inputs.scalar_type(), " like inputs, got ", baselines.scalar_type());
  TORCH_CHECK_VALUE(options.max_rows >= 0, "internal_batch_size: expected at least 1, got ",
                    options.max_rows);
  TORCH_CHECK_VALUE(options.max_bytes >= 0, "max_memory: expected a positive size, got ",
                    options.max_bytes);
  check_finite(inputs, "inputs");
  check_finite(baselines, "baselines");
}

/// A tensor made in inference mode can never require a gradient; its copy can.
at::Tensor ordinary(const at::Tensor& tensor) {
  return tensor.is_inference() ? tensor.clone() : tensor;
}

/// Sums over all but the first dimension.
at::Tensor sum_each(const at::Tensor& tensor) {
  return tensor.reshape({tensor.size(0), -1}).sum(1);
}

/// The straight paths of a few clips, behind the affine prefix. Each clip has one, or as many as
/// there are shared baselines; these lie together.
struct Paths {
  at::Tensor leaf;               // (n, ...), the inputs, as the leaf that `end` was projected from
  at::Tensor end;                // (n, ...), differentiable by `leaf`
  at::Tensor start, difference;  // (paths, ...)
  at::Tensor start_value, end_value;  // (paths,)
};

/// One worker's view of a run: a plan, an integrand with its buffers, and where paths begin.
class Run {
 public:
  Run(const PathPlan& plan, const at::Tensor& inputs, const at::Tensor& baselines,
      std::unique_ptr<Integrand> integrand, const PathOptions& options)
      : plan_(plan),
        inputs_(ordinary(inputs)),
        baselines_(ordinary(baselines)),
        multiply_by_inputs_(options.multiply_by_inputs),
        shared_(options.mean_over_baselines || baselines.size(0) == 1),
        integrand_(std::move(integrand)) {}

  Integrand& integrand() { return *integrand_; }

  Paths paths(int64_t first, int64_t count) {
    Paths paths;
    if (!shared_ || !start_.defined()) {
      start_ = plan_.project(own_baselines(first, count)).detach();
      start_value_ = integrand_->value(start_);
    }
    {
      const at::AutoGradMode grad(true);
      paths.leaf = inputs_.narrow(0, first, count).detach().requires_grad_();
      paths.end = plan_.project(paths.leaf);
    }
    const auto end = paths.end.detach();
    paths.end_value = integrand_->value(end);
    if (shared_) {
      const int64_t each = start_.size(0);
      auto shape = start_.sizes().vec();
      shape.insert(shape.begin(), count);
      paths.difference = (end.unsqueeze(1) - start_.unsqueeze(0)).flatten(0, 1);
      paths.start = start_.unsqueeze(0).expand(shape).flatten(0, 1);
      paths.start_value = start_value_.repeat(count);
      paths.end_value = paths.end_value.repeat_interleave(each);
    } else {
      paths.difference = end - start_;
      paths.start = start_;
      paths.start_value = start_value_;
    }
    return paths;
  }

  /// Pulls the mean gradients back through the prefix and writes one chunk of the result.
  void finish(const Paths& paths, const at::Tensor& mean_gradient, int64_t first,
              PathIntegral& result) {
    const int64_t count = paths.leaf.size(0), each = mean_gradient.size(0) / count;
    const auto gradients = mean_gradient.unflatten(0, {count, each});
    const auto pull_back = [&](const at::Tensor& gradient, bool again) {
      return torch::autograd::grad({paths.end}, {paths.leaf}, {gradient}, again)[0];
    };
    auto attribution = result.attributions.narrow(0, first, count);
    if (multiply_by_inputs_) {
      const auto from = own_baselines(first, count);
      for (int64_t k = 0; k < each; ++k) {
        const auto mean = pull_back(gradients.select(1, k), k + 1 < each);
        const auto start = shared_ ? from.narrow(0, k, 1) : from;
        if (k == 0) {  // large tensors are written where they belong: a temporary costs page faults
          at::sub_out(attribution, paths.leaf.detach(), start).mul_(mean);
        } else {
          attribution.addcmul_(mean, paths.leaf.detach() - start);
        }
      }
      if (each > 1) attribution.div_(each);
    } else {
      attribution.copy_(pull_back(gradients.mean(1), false));
    }
    const auto change = (paths.end_value - paths.start_value).view({count, each}).mean(1);
    result.delta.narrow(0, first, count).copy_(sum_each(attribution) - change);
  }

 private:
  at::Tensor own_baselines(int64_t first, int64_t count) const {
    return shared_ ? baselines_ : baselines_.narrow(0, first, count);
  }

  const PathPlan& plan_;
  at::Tensor inputs_, baselines_;
  bool multiply_by_inputs_;
  bool shared_;  // all clips start from the same baselines
  std::unique_ptr<Integrand> integrand_;
  at::Tensor start_, start_value_;  // of the shared baselines, or of the present chunk's
};

PathIntegral empty_result(const at::Tensor& inputs) {
  const int64_t clips = inputs.size(0);
  return {at::empty(inputs.sizes(), inputs.options()), at::empty({clips}, inputs.options()),
          at::zeros({clips}, at::kLong), at::ones({clips}, at::kBool)};
}

/// How to integrate: what differs between the rules.
struct Rule {
  int64_t rows_per_path;  // of one forward pass over all nodes
  std::function<std::unique_ptr<Integrand>(int64_t rows, Checkpoint)> integrand;
  /// Integrates over clips [first, first + count) with so many rows at a time.
  std::function<void(Run&, int64_t rows, int64_t first, int64_t count, PathIntegral&)> chunk;
  /// A chunk that needs as much memory as any.
  decltype(chunk) worst_chunk;
};

/// As many clips at a time as fit into the rows of one pass, but no fewer chunks than threads; all
/// within the memory allowed.
Tiles choose_tiles(const PathPlan& plan, const at::Tensor& inputs, const at::Tensor& baselines,
                   const Rule& rule, int64_t rows_per_clip, const PathOptions& options) {
  const int64_t clips = inputs.size(0), threads = at::get_num_threads();
  Tiles tiles;
  tiles.workers = inputs.is_cpu() && plan.is_parallel() ? threads : 1;
  tiles.rows = options.max_rows > 0 ? options.max_rows : plan.good_rows();
  tiles.chunk = std::clamp<int64_t>(tiles.rows / rows_per_clip, 1, (clips + threads - 1) / threads);
  if (options.max_bytes == 0) return tiles;
  const auto first = inputs.narrow(0, 0, 1), start = baselines.narrow(0, 0, 1);
  return fit_into_memory(options.max_bytes, tiles, rows_per_clip, [&](int64_t count, int64_t rows) {
    const at::NoGradGuard no_grad;
    const auto samples = at::cat(std::vector<at::Tensor>(count, first));
    const auto starts =
        options.mean_over_baselines ? baselines : at::cat(std::vector<at::Tensor>(count, start));
    auto result = empty_result(samples);
    Run run(plan, samples, starts, rule.integrand(rows, options.checkpoint), options);
    rule.worst_chunk(run, rows, 0, count, result);
  });
}

/// Hands chunks of clips to workers, one per thread, until none is left.
PathIntegral integrate(const PathPlan& plan, const at::Tensor& inputs, const at::Tensor& baselines,
                       const Rule& rule, const PathOptions& options) {
  const int64_t clips = inputs.size(0);
  const int64_t each = options.mean_over_baselines ? baselines.size(0) : 1;
  const auto tiles =
      choose_tiles(plan, inputs, baselines, rule, rule.rows_per_path * each, options);
  const int64_t workers = std::min(tiles.workers, (clips + tiles.chunk - 1) / tiles.chunk);
  auto result = empty_result(inputs);
  std::atomic<int64_t> next{0}, done{0};
  on_threads(workers, options.checkpoint, [&](int64_t worker, const Checkpoint& checkpoint) {
    Run run(plan, inputs, baselines, rule.integrand(tiles.rows, checkpoint), options);
    for (int64_t first; (first = next.fetch_add(tiles.chunk)) < clips;) {
      checkpoint();
      const int64_t count = std::min(tiles.chunk, clips - first);
      rule.chunk(run, tiles.rows, first, count, result);
      done += count;
      if (worker == 0 && options.progress) options.progress(done, clips);
    }
  });
  if (options.progress) options.progress(clips, clips);
  check_finite(result.delta, "model output or gradient");
  return result;
}

/// A part of one clip's path, from alpha = a to alpha = b.
struct Segment {
  int64_t clip;
  double a, b;
  double value_a, value_b;  // F at its ends
  double completeness = 0;  // sum of attributions minus the change of F: known, with its sign
  double uncertainty = 0;   // of the attributions: estimated, the worst feature's
  double severity() const { return std::max(std::abs(completeness), uncertainty); }
};

/// The errors of some segments of one clip together.
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

/// Refines the paths of one chunk until every clip has converged or spent its nodes.
class Refinement {
 public:
  Refinement(Integrand& integrand, const Paths& paths, const Tolerance& tolerance, int64_t batch)
      : integrand_(integrand), paths_(paths), tolerance_(tolerance), batch_(batch) {
    const auto options = paths.difference.options();
    const auto rule = gauss_kronrod();
    nodes_ = at::tensor(rule.nodes, at::kDouble).to(options);
    auto weights = rule.kronrod;
    weights.insert(weights.end(), rule.gauss.begin(), rule.gauss.end());
    weights_ = at::tensor(weights, at::kDouble).view({2, -1}).to(options);
    mean_gradient_ = at::zeros_like(paths.difference);
    const int64_t clips = paths.difference.size(0);
    const auto from = paths.start_value.to(at::kDouble).cpu().contiguous();
    const auto to = paths.end_value.to(at::kDouble).cpu().contiguous();
    epsilon_ = options.dtype() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                              : std::numeric_limits<float>::epsilon();
    for (int64_t clip = 0; clip < clips; ++clip) {
      const double f = from.const_data_ptr<double>()[clip], t = to.const_data_ptr<double>()[clip];
      const double floor = kRoundings * epsilon_ * std::max({1.0, std::abs(f), std::abs(t)});
      allowed_.push_back(std::max(tolerance.tol * std::abs(t - f), floor));
      active_.push_back({clip, 0, 1, f, t});
    }
    accepted_.assign(clips, Errors());
    spent_.assign(clips, 0);
  }

  void run() {
    while (!active_.empty()) {
      std::vector<Segment> next;
      // Segments of one clip stay together, since the clip decides which of them to bisect.
      for (size_t first = 0; first < active_.size();) {
        size_t last = first;
        while (last < active_.size() && (static_cast<int64_t>(last - first) < batch_ ||
                                         active_[last].clip == active_[last - 1].clip))
          ++last;
        refine(first, last, next);
        first = last;
      }
      active_ = std::move(next);
    }
  }

  const at::Tensor& mean_gradient() const { return mean_gradient_; }
  int64_t nodes(int64_t clip) const { return spent_[clip]; }
  bool converged(int64_t clip) const { return accepted_[clip].within(allowed_[clip]); }

 private:
  at::Tensor column(const std::vector<double>& values) const {
    auto shape = std::vector<int64_t>(paths_.difference.dim(), 1);
    shape[0] = static_cast<int64_t>(values.size());
    return at::tensor(values, at::kDouble).to(paths_.difference.options()).view(shape);
  }

  void refine(size_t first, size_t last, std::vector<Segment>& next) {
    std::vector<double> a, length;
    std::vector<int64_t> clips;
    for (size_t i = first; i < last; ++i) {
      clips.push_back(active_[i].clip);
      a.push_back(active_[i].a);
      length.push_back(active_[i].b - active_[i].a);
    }
    const auto clip = at::tensor(clips, at::kLong).to(paths_.difference.device());
    const auto whole = paths_.difference.index_select(0, clip);
    const auto start = paths_.start.index_select(0, clip) + column(a) * whole;
    const auto difference = column(length) * whole;
    const auto sums = integrand_.gradient_sums(start, difference, nodes_, weights_);
    estimate_errors(sums, difference, first);
    allow_for_rounding(first, last);
    const auto bisected = choose(first, last);
    std::vector<int64_t> kept, split;
    for (size_t i = first; i < last; ++i) (bisected[i - first] ? split : kept).push_back(i - first);
    accept(sums[0], clip, length, kept, first);
    if (!split.empty()) bisect(start, difference, split, first, next);
  }

  /// What is known of a segment's completeness error, and what it tells of its attributions' error.
  ///
  /// The gap between the two rules is the error of Gauss's seven nodes, which on smooth integrands
  /// is far above that of Kronrod's fifteen. By how much, the sum over features shows: there both
  /// the gap and Kronrod's true error are known. That ratio is applied to the worst feature's gap,
  /// with a floor, since a sum may be right by luck.
  void estimate_errors(const at::Tensor& sums, const at::Tensor& difference, size_t first) {
    const auto kronrod = sum_each(sums[0] * difference).to(at::kDouble).cpu();
    const auto gap = (sums[0] - sums[1]) * difference;
    const auto summed_gap = sum_each(gap).abs().to(at::kDouble).cpu();
    const auto worst_gap = std::get<0>(gap.abs().flatten(1).max(1)).to(at::kDouble).cpu();
    for (int64_t i = 0; i < kronrod.size(0); ++i) {
      auto& segment = active_[first + i];
      segment.completeness =
          kronrod.const_data_ptr<double>()[i] - (segment.value_b - segment.value_a);
      const double known = std::max(summed_gap.const_data_ptr<double>()[i], 1e-300);
      const double gain = std::clamp(std::abs(segment.completeness) / known, kLeastRatio, 1.0);
      segment.uncertainty = gain * worst_gap.const_data_ptr<double>()[i];
      spent_[segment.clip] += nodes_.size(0);
    }
  }

  /// Before the first bisection of a clip: how exactly F can be computed at all. What F changes by
  /// when its argument changes in the last place, no quadrature can tell from an error.
  void allow_for_rounding(size_t first, size_t last) {
    std::vector<int64_t> clips;
    for (size_t i = first; i < last && active_[i].a == 0 && active_[i].b == 1; ++i) {
      Errors errors;
      errors.add(active_[i]);
      if (!errors.within(allowed_[active_[i].clip])) clips.push_back(active_[i].clip);
    }
    if (clips.empty()) return;
    const auto clip = at::tensor(clips, at::kLong).to(paths_.difference.device());
    const auto start = paths_.start.index_select(0, clip);
    const auto end = start + paths_.difference.index_select(0, clip);
    const auto generator = at::make_generator<at::CPUGeneratorImpl>(20240714);
    const auto signs = at::empty(start.sizes().slice(1), start.options().device(at::kCPU))
                           .bernoulli_(0.5, generator)
                           .mul_(2)
                           .sub_(1)
                           .to(start.device());
    std::vector<double> noise(clips.size(), 0);
    for (const auto& [point, value] :
         {std::pair(start, paths_.start_value), std::pair(end, paths_.end_value)}) {
      const auto exact = value.index_select(0, clip);
      for (const double sign : {epsilon_, -epsilon_}) {
        const auto moved = integrand_.value(at::addcmul(point, point, signs, sign));
        const auto change = (moved - exact).abs().to(at::kDouble).cpu();
        for (size_t k = 0; k < clips.size(); ++k)
          noise[k] = std::max(noise[k], change.const_data_ptr<double>()[k]);
      }
    }
    for (size_t k = 0; k < clips.size(); ++k)
      allowed_[clips[k]] = std::max(allowed_[clips[k]], kRoundings * noise[k]);
  }

  /// Which segments to bisect: of a clip that has not converged the worst ones, until the others
  /// together, which are final, are within half of what is allowed. Their attributions err
  /// independently and add in quadrature; their completeness errors are known and simply add.
  std::vector<bool> choose(size_t first, size_t last) {
    std::vector<bool> bisected(last - first, false);
    for (size_t i = first; i < last;) {
      const int64_t clip = active_[i].clip;
      Errors all = accepted_[clip];
      std::vector<size_t> order;
      double squares = all.squares;
      size_t end = i;
      for (; end < last && active_[end].clip == clip; ++end) {
        order.push_back(end);
        all.add(active_[end]);
        squares += active_[end].severity() * active_[end].severity();
      }
      if (!all.within(allowed_[clip])) {
        std::sort(order.begin(), order.end(), [&](size_t p, size_t q) {
          return active_[p].severity() > active_[q].severity();
        });
        const double goal = 0.5 * allowed_[clip];
        double rest = all.completeness;  // of what is not bisected
        int64_t nodes = spent_[clip];
        for (const size_t k : order) {
          nodes += 2 * nodes_.size(0);
          const bool enough = k != order[0] && squares <= goal * goal && std::abs(rest) <= goal;
          if (enough || nodes > tolerance_.max_nodes) break;
          bisected[k - first] = true;
          squares -= active_[k].severity() * active_[k].severity();
          rest -= active_[k].completeness;
        }
      }
      i = end;
    }
    return bisected;
  }

  void accept(const at::Tensor& gradient, const at::Tensor& clip, const std::vector<double>& length,
              const std::vector<int64_t>& kept, size_t first) {
    if (kept.empty()) return;
    std::vector<double> share;
    for (const int64_t k : kept) {
      share.push_back(length[k]);
      accepted_[active_[first + k].clip].add(active_[first + k]);
    }
    const auto index = at::tensor(kept, at::kLong).to(clip.device());
    mean_gradient_.index_add_(0, clip.index_select(0, index),
                              gradient.index_select(0, index) * column(share));
  }

  void bisect(const at::Tensor& start, const at::Tensor& difference,
              const std::vector<int64_t>& split, size_t first, std::vector<Segment>& next) {
    const auto index = at::tensor(split, at::kLong).to(start.device());
    const auto middle = start.index_select(0, index) + 0.5 * difference.index_select(0, index);
    const auto value = integrand_.value(middle).to(at::kDouble).cpu();
    for (size_t k = 0; k < split.size(); ++k) {
      const Segment& s = active_[first + split[k]];
      const double m = 0.5 * (s.a + s.b), value_m = value.const_data_ptr<double>()[k];
      next.push_back({s.clip, s.a, m, s.value_a, value_m});
      next.push_back({s.clip, m, s.b, value_m, s.value_b});
    }
  }

  Integrand& integrand_;
  const Paths& paths_;
  Tolerance tolerance_;
  int64_t batch_;
  at::Tensor nodes_, weights_, mean_gradient_;
  std::vector<Segment> active_;
  double epsilon_ = 0;
  std::vector<double> allowed_;
  std::vector<Errors> accepted_;
  std::vector<int64_t> spent_;
};

/// The same nodes for all clips.
Rule fixed_rule(const PathPlan& plan, const at::Tensor& nodes, const at::Tensor& weights) {
  const auto chunk = [=](Run& run, int64_t, int64_t first, int64_t count, PathIntegral& result) {
    const auto paths = run.paths(first, count);
    const auto sums = run.integrand().gradient_sums(paths.start, paths.difference, nodes, weights);
    run.finish(paths, sums[0], first, result);
  };
  const auto integrand = [&plan](int64_t rows, Checkpoint checkpoint) {
    return plan.integrand(rows, std::move(checkpoint));
  };
  return {nodes.size(0), integrand, chunk, chunk};
}

/// The fixed rule for a single clip: its nodes are spread over the threads instead.
PathIntegral integrate_one_clip(const PathPlan& plan, const at::Tensor& inputs,
                                const at::Tensor& baselines, const at::Tensor& nodes,
                                const at::Tensor& weights, const PathOptions& options) {
  const at::NoGradGuard no_grad;
  const int64_t rows = options.max_rows > 0 ? options.max_rows : plan.good_rows();
  auto result = empty_result(inputs);
  Run run(plan, inputs, baselines, plan.integrand(rows), options);
  const auto paths = run.paths(0, 1);
  const int64_t count = nodes.size(0), parts = std::min<int64_t>(at::get_num_threads(), count);
  std::vector<at::Tensor> sums(parts);
  on_threads(parts, options.checkpoint, [&](int64_t part, const Checkpoint& checkpoint) {
    const int64_t from = count * part / parts, width = count * (part + 1) / parts - from;
    sums[part] = plan.integrand(rows, checkpoint)
                     ->gradient_sums(paths.start, paths.difference, nodes.narrow(0, from, width),
                                     weights.narrow(1, from, width));
  });
  for (int64_t part = 1; part < parts; ++part) sums[0] = sums[0] + sums[part];
  run.finish(paths, sums[0][0], 0, result);
  if (options.progress) options.progress(1, 1);
  check_finite(result.delta, "model output or gradient");
  return result;
}

/// As many nodes as each clip needs.
Rule adaptive_rule(const PathPlan& plan, const Tolerance& tolerance) {
  const auto chunk_to = [](const Tolerance& tolerance) {
    return [=](Run& run, int64_t rows, int64_t first, int64_t count, PathIntegral& result) {
      const auto paths = run.paths(first, count);
      check_finite(paths.end_value - paths.start_value, "model output");
      Refinement refinement(run.integrand(), paths, tolerance,
                            std::max<int64_t>(1, rows / kKronrodNodes));
      refinement.run();
      run.finish(paths, refinement.mean_gradient(), first, result);
      const int64_t each = paths.difference.size(0) / count;
      for (int64_t path = 0; path < count * each; ++path) {
        const int64_t clip = first + path / each;
        result.nodes[clip] += refinement.nodes(path);
        if (!refinement.converged(path)) result.converged[clip] = false;
      }
    };
  };
  const auto integrand = [&plan](int64_t rows, Checkpoint checkpoint) {
    return plan.integrand(rows, std::move(checkpoint));
  };
  // No clip meets this tolerance: the measured chunk bisects.
  const Tolerance never{std::numeric_limits<double>::min(), 3 * kKronrodNodes};
  return {kKronrodNodes, integrand, chunk_to(tolerance), chunk_to(never)};
}

/// The integral in closed form: one evaluation, whatever the nodes.
Rule closed_form_rule(const PathPlan& plan, const at::Tensor& like) {
  auto rule = fixed_rule(plan, at::zeros({1}, like.options()), at::ones({1, 1}, like.options()));
  rule.integrand = [&plan](int64_t, const Checkpoint&) { return plan.closed_form(); };
  return rule;
}

}  // namespace

PathIntegral integrate_path(const PathPlan& plan, const at::Tensor& inputs,
                            const at::Tensor& baselines, const Quadrature& rule,
                            const PathOptions& options) {
  const c10::InferenceMode ordinary_mode(false);
  check_path(inputs, baselines, options);
  const auto nodes = at::tensor(rule.nodes, at::kDouble).to(inputs.options());
  const auto weights = at::tensor(rule.weights, at::kDouble).to(inputs.options()).unsqueeze(0);
  const int64_t each = options.mean_over_baselines ? baselines.size(0) : 1;
  const bool one = inputs.size(0) == 1 && each == 1 && options.max_bytes == 0;
  auto result = one && inputs.is_cpu() && plan.is_parallel()
                    ? integrate_one_clip(plan, inputs, baselines, nodes, weights, options)
                    : integrate(plan, inputs, baselines, fixed_rule(plan, nodes, weights), options);
  result.nodes.fill_(nodes.size(0) * each);
  return result;
}

PathIntegral integrate_path_adaptively(const PathPlan& plan, const at::Tensor& inputs,
                                       const at::Tensor& baselines, const Tolerance& tolerance,
                                       const PathOptions& options) {
  const c10::InferenceMode ordinary_mode(false);
  TORCH_CHECK_VALUE(tolerance.tol > 0, "tol: expected a positive number, got ", tolerance.tol);
  TORCH_CHECK_VALUE(tolerance.max_nodes >= kKronrodNodes, "max_nodes: expected at least ",
                    kKronrodNodes, ", got ", tolerance.max_nodes);
  check_path(inputs, baselines, options);
  const auto rule =
      plan.closed_form() ? closed_form_rule(plan, inputs) : adaptive_rule(plan, tolerance);
  return integrate(plan, inputs, baselines, rule, options);
}

}  // namespace fastexai
