// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/recurrent_weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "fastexai/check.h"

namespace fastexai {
namespace {

at::Tensor bias_or_zeros(const at::Tensor& bias, const at::Tensor& weight) {
  return bias.defined() ? bias : at::zeros({weight.size(0)}, weight.options());
}

/// The biases that simply add to the pre-activations.
at::Tensor additive_bias(const RecurrentDirection& direction, RecurrentKind kind) {
  auto hidden_bias = bias_or_zeros(direction.hidden_bias, direction.hidden_weight).clone();
  if (kind == RecurrentKind::kGru) hidden_bias.chunk(3)[2].zero_();
  return bias_or_zeros(direction.input_bias, direction.input_weight) + hidden_bias;
}

void check_parameter(const at::Tensor& tensor, at::IntArrayRef shape, const char* name) {
  check_on_cpu(tensor, name);
  TORCH_CHECK_VALUE(tensor.sizes() == shape, name, ": expected ", shape, ", got ", tensor.sizes());
}

}  // namespace

void check_recurrent(const Recurrent& recurrent) {
  const auto count = static_cast<int64_t>(recurrent.directions.size());
  TORCH_CHECK_VALUE(recurrent.hidden > 0, "hidden: expected a positive size, got ",
                    recurrent.hidden);
  TORCH_CHECK_VALUE(count > 0 && count % recurrent.ways() == 0,
                    "directions: expected a positive multiple of ", recurrent.ways(), ", got ",
                    count);
  const auto stacked = recurrent.gates() * recurrent.hidden;
  for (int64_t i = 0; i < count; ++i) {
    const auto& direction = recurrent.directions[i];
    TORCH_CHECK_VALUE(direction.input_weight.dim() == 2, "input_weight: expected (G*H, I), got ",
                      direction.input_weight.sizes());
    const auto inputs = i < recurrent.ways() ? recurrent.directions[0].input_weight.size(1)
                                             : recurrent.ways() * recurrent.hidden;
    check_parameter(direction.input_weight, {stacked, inputs}, "input_weight");
    check_parameter(direction.hidden_weight, {stacked, recurrent.hidden}, "hidden_weight");
    if (direction.input_bias.defined())
      check_parameter(direction.input_bias, {stacked}, "input_bias");
    if (direction.hidden_bias.defined())
      check_parameter(direction.hidden_bias, {stacked}, "hidden_bias");
  }
}

RecurrentWeights prepare_weights(const Recurrent& recurrent, int64_t index, at::ScalarType dtype) {
  const auto& direction = recurrent.directions[index];
  const auto hidden = recurrent.hidden;
  const auto ready = [&](const at::Tensor& tensor) {
    return tensor.detach().to(dtype).contiguous();
  };
  RecurrentWeights weights;
  const auto hidden_weight = ready(direction.hidden_weight);
  weights.hidden = packed(hidden_weight);
  weights.hidden_t = packed(hidden_weight.t());
  if (recurrent.kind == RecurrentKind::kGru)
    weights.candidate_bias = ready(bias_or_zeros(direction.hidden_bias, direction.hidden_weight)
                                       .narrow(0, 2 * hidden, hidden));
  if (index < recurrent.ways()) return weights;
  weights.bias = ready(additive_bias(direction, recurrent.kind));
  weights.input = ready(direction.input_weight);
  if (recurrent.kind == RecurrentKind::kGru) weights.input = weights.input.roll(hidden, 0);
  weights.input_t = weights.input.t().contiguous();
  return weights;
}

std::pair<at::Tensor, at::Tensor> first_projection(const Recurrent& recurrent) {
  check_recurrent(recurrent);
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> weights, biases;
  for (int64_t way = 0; way < recurrent.ways(); ++way) {
    weights.push_back(recurrent.directions[way].input_weight);
    biases.push_back(additive_bias(recurrent.directions[way], recurrent.kind));
  }
  return {at::cat(weights), at::cat(biases)};
}

}  // namespace fastexai
