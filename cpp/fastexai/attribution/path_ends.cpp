// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/path_ends.h"

#include <torch/csrc/autograd/autograd.h>

#include "fastexai/check.h"

namespace fastexai {
namespace {

/// A tensor made in inference mode can never require a gradient; its copy can.
at::Tensor ordinary(const at::Tensor& tensor) {
  return tensor.is_inference() ? tensor.clone() : tensor;
}

}  // namespace

PathEnds::PathEnds(const PathPlan& plan, const at::Tensor& inputs, const at::Tensor& baselines,
                   bool shared, bool multiply_by_inputs, Integrand& integrand)
    : plan_(plan),
      inputs_(ordinary(inputs).detach()),
      baselines_(ordinary(baselines).detach()),
      shared_(shared),
      multiply_by_inputs_(multiply_by_inputs),
      row_projection_(multiply_by_inputs ? plan.row_projection() : nullptr) {
  // Where attributions are multiplied by inputs - baselines, whatever is not finite shows in the
  // result: no pass over the inputs is spent on looking for it.
  if (!multiply_by_inputs) {
    check_finite(inputs_, "inputs");
    check_finite(baselines_, "baselines");
  }
  if (!shared) return;
  const at::NoGradGuard no_grad;
  shared_start_ = plan.project(baselines_);
  shared_start_value_ = integrand.value(shared_start_);
}

Paths PathEnds::paths(Integrand& integrand, int64_t first, int64_t count) const {
  Paths paths;
  paths.leaf = inputs_.narrow(0, first, count);
  if (row_projection_ != nullptr) {
    paths.leaf = paths.leaf.contiguous();
    paths.end = plan_.project(paths.leaf);
  } else {
    const at::AutoGradMode grad(true);
    paths.leaf = paths.leaf.detach().requires_grad_();
    paths.end = plan_.project(paths.leaf);
  }
  const auto end = paths.end.detach();
  paths.end_value = integrand.value(end);
  if (!shared_) {
    paths.start = plan_.project(own_baselines(first, count));
    paths.start_value = integrand.value(paths.start);
    paths.difference = end - paths.start;
    return paths;
  }
  auto shape = shared_start_.sizes().vec();
  shape.insert(shape.begin(), count);
  paths.difference = (end.unsqueeze(1) - shared_start_.unsqueeze(0)).flatten(0, 1);
  paths.start = shared_start_.unsqueeze(0).expand(shape).flatten(0, 1);
  paths.start_value = shared_start_value_.repeat(count);
  paths.end_value = paths.end_value.repeat_interleave(shared_start_.size(0));
  return paths;
}

void PathEnds::finish(const Paths& paths, const at::Tensor& mean_gradients, int64_t first,
                      const at::Tensor& attributions, const at::Tensor& delta) const {
  const int64_t count = paths.leaf.size(0), each = mean_gradients.size(0) / count;
  const auto gradients = mean_gradients.unflatten(0, {count, each});
  auto own = attributions.narrow(0, first, count);
  at::Tensor sums;
  if (row_projection_ != nullptr) {
    const auto starts = own_baselines(first, count).contiguous();
    sums = row_projection_->pull_back(gradients, paths.leaf, starts, own);
  } else {
    pull_back_by_autograd(paths, gradients, first, own);
    sums = own.reshape({count, -1}).sum(1);
  }
  const auto change = (paths.end_value - paths.start_value).view({count, each}).mean(1);
  auto own_delta = delta.narrow(0, first, count);
  at::sub_out(own_delta, sums, change);
  check(own_delta, "model output or gradient", first);
}

void PathEnds::pull_back_by_autograd(const Paths& paths, const at::Tensor& gradients, int64_t first,
                                     at::Tensor attributions) const {
  const auto pulled = [&](const at::Tensor& gradient, bool again) {
    return torch::autograd::grad({paths.end}, {paths.leaf}, {gradient}, again)[0];
  };
  if (!multiply_by_inputs_) {
    attributions.copy_(pulled(gradients.mean(1), false));
    return;
  }
  const auto leaf = paths.leaf.detach();
  const auto starts = own_baselines(first, leaf.size(0));
  const int64_t each = gradients.size(1);
  for (int64_t k = 0; k < each; ++k) {
    const auto mean = pulled(gradients.select(1, k), k + 1 < each);
    const auto start = shared_ ? starts.narrow(0, k, 1) : starts;
    if (k == 0)  // large tensors are written where they belong: a temporary costs page faults
      at::sub_out(attributions, leaf, start).mul_(mean);
    else
      attributions.addcmul_(mean, leaf - start);
  }
  if (each > 1) attributions.div_(each);
}

void PathEnds::check(const at::Tensor& numbers, const char* name, int64_t first) const {
  if (at::isfinite(numbers).all().item<bool>()) return;
  check_finite(inputs_, "inputs");
  check_finite(baselines_, "baselines");
  check_finite(numbers, name, first);
}

at::Tensor PathEnds::own_baselines(int64_t first, int64_t count) const {
  return shared_ ? baselines_ : baselines_.narrow(0, first, count);
}

}  // namespace fastexai
