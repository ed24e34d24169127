// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <memory>
#include <string>
#include <vector>

namespace fastexai {

/// What attribution and pruning need of a model: one number per row, and its gradient. A row's
/// result depends on that row alone. Implementations are immutable.
class Model {
 public:
  virtual ~Model() = default;

  /// Whether several threads may call it at once.
  virtual bool is_parallel() const { return true; }

  /// inputs (R, ...) -> (R,)
  virtual at::Tensor value(const at::Tensor& inputs) const = 0;

  /// inputs (R, ...), row_weights (R,) -> gradient (R, ...) of sum(row_weights * value(inputs))
  virtual at::Tensor weighted_gradient(const at::Tensor& inputs,
                                       const at::Tensor& row_weights) const = 0;
};

/// A model that autograd differentiates. Its forward returns (R,) or (R, 1); or (R, C, ...), of
/// which `target` picks one entry for each row: one index for each dimension but the first.
class DifferentiableModel : public Model {
 public:
  explicit DifferentiableModel(std::vector<int64_t> target);

  at::Tensor value(const at::Tensor& inputs) const override;
  at::Tensor weighted_gradient(const at::Tensor& inputs,
                               const at::Tensor& row_weights) const override;

  /// What forward returned -> (R,): the only entry, or entry `target`.
  at::Tensor pick_target(const at::Tensor& output, int64_t rows) const;

 protected:
  virtual at::Tensor forward(const at::Tensor& inputs) const = 0;

 private:
  std::vector<int64_t> target_;  // empty where each row has one output
};

/// A TorchScript module in evaluation mode, from a file or from bytes. Its forward takes one
/// tensor.
class ScriptModel final : public DifferentiableModel {
 public:
  static std::shared_ptr<ScriptModel> from_file(const std::string& path);
  static std::shared_ptr<ScriptModel> from_buffer(const std::string& bytes);

  /// The same model, reading entry `target` of its output.
  std::shared_ptr<ScriptModel> with_target(std::vector<int64_t> target) const;

  const torch::jit::Module& module() const { return module_; }

 protected:
  at::Tensor forward(const at::Tensor& inputs) const override;

 private:
  ScriptModel(torch::jit::Module module, std::vector<int64_t> target);

  torch::jit::Module module_;
};

/// While it lives, cuDNN is off if `tensor` is on a GPU: its recurrent layers refuse to run
/// backward in evaluation mode, PyTorch's own do not.
class WithoutCudnn {
 public:
  explicit WithoutCudnn(const at::Tensor& tensor);
  WithoutCudnn(const WithoutCudnn&) = delete;
  WithoutCudnn& operator=(const WithoutCudnn&) = delete;
  ~WithoutCudnn();

 private:
  bool was_enabled_;
};

}  // namespace fastexai
