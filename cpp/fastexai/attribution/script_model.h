// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <memory>
#include <string>

namespace fastexai {

/// What attribution and pruning need of a model: one number per row, and its gradient. A row's
/// result depends on that row alone. Implementations are immutable and thread-safe.
class Model {
 public:
  virtual ~Model() = default;

  /// inputs (R, ...) -> (R,)
  virtual at::Tensor value(const at::Tensor& inputs) const = 0;

  /// inputs (R, ...), row_weights (R,) -> gradient (R, ...) of sum(row_weights * value(inputs))
  virtual at::Tensor weighted_gradient(const at::Tensor& inputs,
                                       const at::Tensor& row_weights) const = 0;
};

/// A TorchScript module in evaluation mode, from a file or from bytes. Its forward takes one tensor
/// and returns (R,) or (R, 1); or (R, C), of which `target` picks one column.
class ScriptModel final : public Model {
 public:
  static std::shared_ptr<ScriptModel> from_file(const std::string& path);
  static std::shared_ptr<ScriptModel> from_buffer(const std::string& bytes);

  /// The same model, reading column `target` of its output.
  std::shared_ptr<ScriptModel> with_target(int64_t target) const;

  /// The model's raw output -> (R,): the only column, or column `target`.
  at::Tensor pick_target(const at::Tensor& output, int64_t rows) const;

  const torch::jit::Module& module() const { return module_; }

  at::Tensor value(const at::Tensor& inputs) const override;
  at::Tensor weighted_gradient(const at::Tensor& inputs,
                               const at::Tensor& row_weights) const override;

 private:
  ScriptModel(torch::jit::Module module, int64_t target);
  at::Tensor forward(const at::Tensor& inputs) const;

  torch::jit::Module module_;
  int64_t target_;  // kNoTarget where the output has one column
};

}  // namespace fastexai
