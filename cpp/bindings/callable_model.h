// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/utils/pybind.h>

#include <utility>
#include <vector>

#include "fastexai/attribution/script_model.h"

namespace fastexai {

/// A model whose forward Python runs: any callable that PyTorch can differentiate. One thread at a
/// time.
class CallableModel final : public DifferentiableModel {
 public:
  CallableModel(pybind11::function forward, std::vector<int64_t> target)
      : DifferentiableModel(std::move(target)), forward_(std::move(forward)) {}
  CallableModel(const CallableModel&) = delete;
  CallableModel& operator=(const CallableModel&) = delete;
  ~CallableModel() override {
    const pybind11::gil_scoped_acquire gil;
    forward_ = pybind11::function();
  }

  bool is_parallel() const override { return false; }

 protected:
  at::Tensor forward(const at::Tensor& inputs) const override {
    const pybind11::gil_scoped_acquire gil;
    return forward_(inputs).cast<at::Tensor>();
  }

 private:
  pybind11::function forward_;
};

}  // namespace fastexai
