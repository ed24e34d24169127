// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/path_integrator.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

#include "fastexai/check.h"

namespace fastexai {
namespace {

void check_path(const at::Tensor& inputs, const at::Tensor& baselines, const PathOptions& options) {
  check_floating(inputs, "inputs");
  TORCH_CHECK_VALUE(inputs.dim() >= 1 && inputs.size(0) >= 1,
                    "inputs: expected a batch of at least one sample, got ", inputs.sizes());
  TORCH_CHECK_VALUE(
      baselines.dim() == inputs.dim() && baselines.sizes().slice(1) == inputs.sizes().slice(1) &&
          (baselines.size(0) == 1 || baselines.size(0) == inputs.size(0)),
      "baselines: expected ", inputs.sizes(), " or one row of it, got ", baselines.sizes());
  TORCH_CHECK_TYPE(baselines.scalar_type() == inputs.scalar_type(), "baselines: expected ",
                   inputs.scalar_type(), " like inputs, got ", baselines.scalar_type());
  TORCH_CHECK_VALUE(options.max_rows >= 1, "internal_batch_size: expected at least 1, got ",
                    options.max_rows);
  check_finite(inputs, "inputs");
  check_finite(baselines, "baselines");
}

/// One node per row: (N, ...) clips and (S,) nodes to (N * S, ...).
at::Tensor path_points(const at::Tensor& start, const at::Tensor& difference,
                       const at::Tensor& nodes) {
  auto shape = std::vector<int64_t>(difference.dim() + 1, 1);
  shape[1] = nodes.size(0);
  const auto points = difference.unsqueeze(1) * nodes.view(shape) + start.unsqueeze(1);
  return points.flatten(0, 1);
}

/// The integral of the gradient for a few clips, node tile by node tile.
at::Tensor integrate_gradient(const Model& model, const at::Tensor& start,
                              const at::Tensor& difference, const at::Tensor& nodes,
                              const at::Tensor& weights, int64_t max_rows) {
  const int64_t clips = difference.size(0);
  const int64_t tile = std::max<int64_t>(1, max_rows / clips);
  auto sum = at::zeros_like(difference);
  for (int64_t k = 0; k < nodes.size(0); k += tile) {
    const int64_t width = std::min(tile, nodes.size(0) - k);
    const auto points = path_points(start, difference, nodes.narrow(0, k, width));
    const auto gradient =
        model.weighted_gradient(points, weights.narrow(0, k, width).repeat(clips));
    sum += gradient.unflatten(0, {clips, width}).sum(1);
  }
  return sum;
}

}  // namespace

PathIntegral integrate_path(const Model& model, const at::Tensor& inputs,
                            const at::Tensor& baselines, const Quadrature& rule,
                            const PathOptions& options) {
  check_path(inputs, baselines, options);
  const int64_t clips = inputs.size(0), count = static_cast<int64_t>(rule.nodes.size());
  const auto nodes = at::tensor(rule.nodes, at::kDouble).to(inputs.options());
  const auto weights = at::tensor(rule.weights, at::kDouble).to(inputs.options());
  const auto starts = baselines.expand_as(inputs);
  PathIntegral result{at::empty(inputs.sizes(), inputs.options()),
                      at::empty({clips}, inputs.options())};

  const int64_t workers = std::min<int64_t>(at::get_num_threads(), clips);
  const int64_t fair_share = (clips + workers - 1) / workers;
  const int64_t chunk = std::clamp<int64_t>(options.max_rows / count, 1, fair_share);
  std::atomic<int64_t> next{0}, done{0};
  std::atomic<bool> stop{false};
  at::parallel_for(0, workers, 1, [&](int64_t worker, int64_t) {
    const at::NoGradGuard no_grad;
    try {
      for (int64_t i; !stop && (i = next.fetch_add(chunk)) < clips;) {
        const int64_t width = std::min(chunk, clips - i);
        const auto input = inputs.narrow(0, i, width), start = starts.narrow(0, i, width);
        const auto difference = input - start;
        const auto attribution =
            integrate_gradient(model, start, difference, nodes, weights, options.max_rows)
                .mul_(difference);
        const auto change = model.value(input) - model.value(start);
        result.attributions.narrow(0, i, width).copy_(attribution);
        result.delta.narrow(0, i, width).copy_(attribution.flatten(1).sum(1) - change);
        done += width;
        // Worker 0 runs on the calling thread: the only one that may talk to the caller.
        if (worker == 0 && options.progress) options.progress(done, clips);
      }
    } catch (...) {
      stop = true;
      throw;
    }
  });
  check_finite(result.delta, "model output or gradient");
  if (options.progress) options.progress(clips, clips);
  return result;
}

}  // namespace fastexai
