// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/script_model.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <sstream>

namespace fastexai {
namespace {

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

DifferentiableModel::DifferentiableModel(std::vector<int64_t> target) : target_(std::move(target)) {
  for (const int64_t index : target_)
    TORCH_CHECK_VALUE(index >= 0, "target: expected a column index of at least 0, got ", index);
}

at::Tensor DifferentiableModel::pick_target(const at::Tensor& output, int64_t rows) const {
  TORCH_CHECK_VALUE(output.dim() >= 1 && output.size(0) == rows,
                    "model: expected an output of shape (", rows, ",) or (", rows, ", C), got ",
                    output.sizes());
  if (output.dim() == 1) {
    TORCH_CHECK_VALUE(target_.empty() || target_ == std::vector<int64_t>{0},
                      "target: expected none or 0 for a model with one output, got ", target_);
    return output;
  }
  if (target_.empty()) {
    TORCH_CHECK_VALUE(output.numel() == rows,
                      "target: expected a column index, since the model has ",
                      output.numel() / rows, " output columns; got none");
    return output.reshape({rows});
  }
  TORCH_CHECK_VALUE(static_cast<int64_t>(target_.size()) == output.dim() - 1, "target: expected ",
                    output.dim() - 1, " indices for an output of shape ", output.sizes(), ", got ",
                    target_.size());
  auto picked = output;
  for (const int64_t index : target_) {
    TORCH_CHECK_VALUE(index < picked.size(1), "target: expected a column below ", picked.size(1),
                      ", got ", index);
    picked = picked.select(1, index);
  }
  return picked;
}

at::Tensor DifferentiableModel::value(const at::Tensor& inputs) const {
  const at::NoGradGuard no_grad;
  return pick_target(forward(inputs), inputs.size(0));
}

at::Tensor DifferentiableModel::weighted_gradient(const at::Tensor& inputs,
                                                  const at::Tensor& row_weights) const {
  const at::AutoGradMode grad(true);
  const WithoutCudnn plain(inputs);
  const auto points = inputs.detach().requires_grad_();
  const auto output = pick_target(forward(points), inputs.size(0));
  const char* const independent = "model: expected an output that depends on the input";
  TORCH_CHECK_VALUE(output.requires_grad(), independent);
  const auto gradient =
      torch::autograd::grad({output}, {points}, {row_weights.to(output.scalar_type())},
                            /*retain_graph=*/false, /*create_graph=*/false,
                            /*allow_unused=*/true)[0];
  TORCH_CHECK_VALUE(gradient.defined(), independent);
  return gradient;
}

ScriptModel::ScriptModel(torch::jit::Module module, std::vector<int64_t> target)
    : DifferentiableModel(std::move(target)), module_(std::move(module)) {}

std::shared_ptr<ScriptModel> ScriptModel::from_file(const std::string& path) {
  return std::shared_ptr<ScriptModel>(new ScriptModel(load_module(path, path), {}));
}

std::shared_ptr<ScriptModel> ScriptModel::from_buffer(const std::string& bytes) {
  std::istringstream stream(bytes);
  const auto what = std::to_string(bytes.size()) + " bytes of something else";
  return std::shared_ptr<ScriptModel>(new ScriptModel(load_module(stream, what), {}));
}

std::shared_ptr<ScriptModel> ScriptModel::with_target(std::vector<int64_t> target) const {
  return std::shared_ptr<ScriptModel>(new ScriptModel(module_, std::move(target)));
}

at::Tensor ScriptModel::forward(const at::Tensor& inputs) const {
  // TorchScript's own differentiation of a profiled graph fails on some legal models (a `chunk`
  // with unused outputs, for one); without it every operator uses the ordinary autograd.
  const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
  const auto result = run(module_, inputs);
  TORCH_CHECK_VALUE(result.isTensor(), "model: expected one tensor as output, got ",
                    result.tagKind());
  return result.toTensor();
}

WithoutCudnn::WithoutCudnn(const at::Tensor& tensor)
    : was_enabled_(tensor.is_cuda() && at::globalContext().userEnabledCuDNN()) {
  if (was_enabled_) at::globalContext().setUserEnabledCuDNN(false);
}

WithoutCudnn::~WithoutCudnn() {
  if (was_enabled_) at::globalContext().setUserEnabledCuDNN(true);
}

}  // namespace fastexai
