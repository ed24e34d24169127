// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/path_integrator.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "fastexai/attribution/memory_budget.h"
#include "fastexai/attribution/path_ends.h"
#include "fastexai/check.h"
#include "fastexai/result_memory.h"
#include "fastexai/workers.h"

namespace fastexai {
namespace {

constexpr int64_t kMostClips =
    64;  // of one chunk: more make no product faster, and leave the caches

/// Of a path to be refined: so many chunks' worth of clips that later passes are full as well.
constexpr int64_t kRowsPerPath = 4;

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
}

PathIntegral empty_integral(const at::Tensor& inputs) {
  const int64_t clips = inputs.size(0);
  return {empty_result(inputs.sizes(), inputs.options()), at::empty({clips}, inputs.options()),
          at::zeros({clips}, at::kLong), at::ones({clips}, at::kBool)};
}

PathEnds ends_of(const PathPlan& plan, const at::Tensor& inputs, const at::Tensor& baselines,
                 const PathOptions& options, Integrand& integrand) {
  const bool shared = options.mean_over_baselines || baselines.size(0) == 1;
  return {plan, inputs, baselines, shared, options.multiply_by_inputs, integrand};
}

/// How to integrate: what differs between the rules.
struct Rule {
  int64_t rows_per_path;  // of one forward pass over all nodes
  std::function<std::unique_ptr<Integrand>(int64_t rows, Checkpoint)> integrand;
  /// Integrates over clips [first, first + count) with so many rows at a time.
  std::function<void(const PathEnds&, Integrand&, int64_t rows, int64_t first, int64_t count,
                     PathIntegral&)>
      chunk;
  /// A chunk that needs as much memory as any.
  decltype(chunk) worst_chunk;
};

/// As many clips at a time as fit into the rows of one pass, or a few more that share its nodes,
/// but no fewer chunks than threads; all within the memory allowed.
Tiles choose_tiles(const PathPlan& plan, const at::Tensor& inputs, const at::Tensor& baselines,
                   const Rule& rule, int64_t rows_per_clip, const PathOptions& options) {
  const int64_t clips = inputs.size(0), threads = at::get_num_threads();
  Tiles tiles;
  tiles.workers = inputs.is_cpu() && plan.is_parallel() ? threads : 1;
  tiles.rows = options.max_rows > 0 ? options.max_rows : plan.good_rows();
  const int64_t least = options.max_rows > 0 ? 1 : plan.least_clips();
  tiles.chunk = std::clamp<int64_t>(std::max(least, tiles.rows / rows_per_clip), 1,
                                    std::min(kMostClips, (clips + threads - 1) / threads));
  const int64_t turns = (clips - 1) / (threads * tiles.chunk) + 1;  // of every thread, equally long
  tiles.chunk = (clips - 1) / (threads * turns) + 1;
  if (options.max_bytes == 0) return tiles;
  const auto first = inputs.narrow(0, 0, 1), start = baselines.narrow(0, 0, 1);
  return fit_into_memory(options.max_bytes, tiles, rows_per_clip, [&](int64_t count, int64_t rows) {
    const at::NoGradGuard no_grad;
    const auto samples = at::cat(std::vector<at::Tensor>(count, first));
    const auto starts =
        options.mean_over_baselines ? baselines : at::cat(std::vector<at::Tensor>(count, start));
    auto result = empty_integral(samples);
    const auto integrand = rule.integrand(rows, options.checkpoint);
    const auto ends = ends_of(plan, samples, starts, options, *integrand);
    rule.worst_chunk(ends, *integrand, rows, 0, count, result);
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
  auto result = empty_integral(inputs);
  const auto ends =
      ends_of(plan, inputs, baselines, options, *rule.integrand(tiles.rows, options.checkpoint));
  std::atomic<int64_t> next{0}, done{0};
  on_threads(workers, options.checkpoint, [&](int64_t worker, const Checkpoint& checkpoint) {
    const auto integrand = rule.integrand(tiles.rows, checkpoint);
    for (int64_t first; (first = next.fetch_add(tiles.chunk)) < clips;) {
      checkpoint();
      const int64_t count = std::min(tiles.chunk, clips - first);
      rule.chunk(ends, *integrand, tiles.rows, first, count, result);
      done += count;
      if (worker == 0 && options.progress) options.progress(done, clips);
    }
  });
  if (options.progress) options.progress(clips, clips);
  return result;
}

/// The same nodes for all clips.
Rule fixed_rule(const PathPlan& plan, const at::Tensor& nodes, const at::Tensor& weights) {
  const auto chunk = [=](const PathEnds& ends, Integrand& integrand, int64_t, int64_t first,
                         int64_t count, PathIntegral& result) {
    const auto paths = ends.paths(integrand, first, count);
    const auto sums = integrand.gradient_sums(paths.start, paths.difference, nodes, weights);
    ends.finish(paths, sums[0], first, result.attributions, result.delta);
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
  auto result = empty_integral(inputs);
  const auto integrand = plan.integrand(rows);
  const auto ends = ends_of(plan, inputs, baselines, options, *integrand);
  const auto paths = ends.paths(*integrand, 0, 1);
  const int64_t count = nodes.size(0), parts = std::min<int64_t>(at::get_num_threads(), count);
  std::vector<at::Tensor> sums(parts);
  on_threads(parts, options.checkpoint, [&](int64_t part, const Checkpoint& checkpoint) {
    const int64_t from = count * part / parts, width = count * (part + 1) / parts - from;
    sums[part] = plan.integrand(rows, checkpoint)
                     ->gradient_sums(paths.start, paths.difference, nodes.narrow(0, from, width),
                                     weights.narrow(1, from, width));
  });
  for (int64_t part = 1; part < parts; ++part) sums[0] = sums[0] + sums[part];
  ends.finish(paths, sums[0][0], 0, result.attributions, result.delta);
  if (options.progress) options.progress(1, 1);
  return result;
}

/// As many nodes as each clip needs. Most clips are done after the first rule: there are enough of
/// them in a chunk for the rest to fill a pass.
Rule adaptive_rule(const PathPlan& plan, const Tolerance& tolerance) {
  const auto chunk_to = [](const Tolerance& tolerance) {
    return [=](const PathEnds& ends, Integrand& integrand, int64_t rows, int64_t first,
               int64_t count, PathIntegral& result) {
      const auto paths = ends.paths(integrand, first, count);
      ends.check((paths.end_value - paths.start_value).view({count, -1}).sum(1), "model output",
                 first);
      const auto refined = refine(integrand, paths, tolerance, rows);
      ends.finish(paths, refined.mean_gradients, first, result.attributions, result.delta);
      const int64_t each = paths.difference.size(0) / count;
      for (int64_t path = 0; path < count * each; ++path) {
        const int64_t clip = first + path / each;
        result.nodes.mutable_data_ptr<int64_t>()[clip] += refined.nodes[path];
        if (!refined.converged[path]) result.converged.mutable_data_ptr<bool>()[clip] = false;
      }
    };
  };
  const auto integrand = [&plan](int64_t rows, Checkpoint checkpoint) {
    return plan.integrand(rows, std::move(checkpoint));
  };
  // No clip meets this tolerance: the measured chunk refines.
  const Tolerance never{std::numeric_limits<double>::min(), 16 * kFirstNodes};
  return {kRowsPerPath, integrand, chunk_to(tolerance), chunk_to(never)};
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
  TORCH_CHECK_VALUE(tolerance.max_nodes >= kFirstNodes, "max_nodes: expected at least ",
                    kFirstNodes, ", got ", tolerance.max_nodes);
  check_path(inputs, baselines, options);
  const auto rule =
      plan.closed_form() ? closed_form_rule(plan, inputs) : adaptive_rule(plan, tolerance);
  return integrate(plan, inputs, baselines, rule, options);
}

}  // namespace fastexai
