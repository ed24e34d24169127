// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/script_model.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <sstream>

namespace fastexai {
namespace {

constexpr int64_t kNoTarget = -1;

/// First line of a LibTorch message: the rest is its own stack.
std::string first_line(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

/// Last line of a TorchScript interpreter's message: what went wrong, after where it went wrong.
std::string last_line(const std::exception& error) {
  std::string text = error.what();
  text.erase(text.find_last_not_of('\n') + 1);
  return text.substr(text.rfind('\n') + 1);
}

/// The forward pass; the interpreter's multi-line error becomes one sentence about the inputs.
c10::IValue run(torch::jit::Module module, const at::Tensor& inputs) {
  try {
    return module.forward({inputs});
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const std::exception& error) {
    TORCH_CHECK_VALUE(false, "inputs: the model cannot read a batch of shape ", inputs.sizes(),
                      " (", last_line(error), ")");
  }
}

template <typename Source>
torch::jit::Module load_module(Source&& source, const std::string& what) {
  try {
    auto module = torch::jit::load(std::forward<Source>(source));
    TORCH_CHECK_VALUE(
        !module.is_training(),
        "model: expected evaluation mode, got training mode; call .eval() before saving");
    return module;
  } catch (const c10::ValueError&) {
    throw;
  } catch (const std::exception& error) {
    TORCH_CHECK_VALUE(false, "model: expected a TorchScript file, got ", what, " (",
                      first_line(error), ")");
  }
}

}  // namespace

ScriptModel::ScriptModel(torch::jit::Module module, int64_t target)
    : module_(std::move(module)), target_(target) {}

std::shared_ptr<ScriptModel> ScriptModel::from_file(const std::string& path) {
  return std::shared_ptr<ScriptModel>(new ScriptModel(load_module(path, path), kNoTarget));
}

std::shared_ptr<ScriptModel> ScriptModel::from_buffer(const std::string& bytes) {
  std::istringstream stream(bytes);
  const auto what = std::to_string(bytes.size()) + " bytes of something else";
  return std::shared_ptr<ScriptModel>(new ScriptModel(load_module(stream, what), kNoTarget));
}

std::shared_ptr<ScriptModel> ScriptModel::with_target(int64_t target) const {
  TORCH_CHECK_VALUE(target >= 0, "target: expected a column index of at least 0, got ", target);
  return std::shared_ptr<ScriptModel>(new ScriptModel(module_, target));
}

at::Tensor ScriptModel::forward(const at::Tensor& inputs) const {
  // TorchScript's own differentiation of a profiled graph fails on some legal models (a `chunk`
  // with unused outputs, for one); without it every operator uses the ordinary autograd.
  const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
  const auto result = run(module_, inputs);
  TORCH_CHECK_VALUE(result.isTensor(), "model: expected one tensor as output, got ",
                    result.tagKind());
  return pick_target(result.toTensor(), inputs.size(0));
}

at::Tensor ScriptModel::pick_target(const at::Tensor& output, int64_t rows) const {
  TORCH_CHECK_VALUE(output.dim() >= 1 && output.dim() <= 2 && output.size(0) == rows,
                    "model: expected an output of shape (", rows, ",) or (", rows, ", C), got ",
                    output.sizes());
  if (output.dim() == 1) {
    TORCH_CHECK_VALUE(target_ == kNoTarget || target_ == 0,
                      "target: expected none or 0 for a model with one output, got ", target_);
    return output;
  }
  if (target_ == kNoTarget) {
    TORCH_CHECK_VALUE(output.size(1) == 1, "target: expected a column index, since the model has ",
                      output.size(1), " output columns; got none");
    return output.select(1, 0);
  }
  TORCH_CHECK_VALUE(target_ < output.size(1), "target: expected a column below ", output.size(1),
                    ", got ", target_);
  return output.select(1, target_);
}

at::Tensor ScriptModel::value(const at::Tensor& inputs) const {
  const at::NoGradGuard no_grad;
  return forward(inputs);
}

at::Tensor ScriptModel::weighted_gradient(const at::Tensor& inputs,
                                          const at::Tensor& row_weights) const {
  const at::AutoGradMode grad(true);
  const auto points = inputs.detach().requires_grad_();
  const auto output = forward(points);
  const char* const independent = "model: expected an output that depends on the input";
  TORCH_CHECK_VALUE(output.requires_grad(), independent);
  const auto gradient =
      torch::autograd::grad({output}, {points}, {row_weights.to(output.scalar_type())},
                            /*retain_graph=*/false, /*create_graph=*/false,
                            /*allow_unused=*/true)[0];
  TORCH_CHECK_VALUE(gradient.defined(), independent);
  return gradient;
}

}  // namespace fastexai
