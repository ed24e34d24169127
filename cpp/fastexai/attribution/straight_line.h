// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <memory>

namespace fastexai {

/// A frozen module's forward as a graph without control flow, for inputs like `example` and any
/// number of rows. Its two inputs are the tensor and the number of rows (an int).
///
/// The forward runs twice, with two rows and with three. The branches taken become the graph;
/// numbers that do not depend on the input become constants where both runs agree, and multiples of
/// the number of rows where they grow with it. Throws a ValueError where that cannot be done
/// faithfully: a loop, a branch that depends on the batch, a number read out of the data.
std::shared_ptr<torch::jit::Graph> straight_line(const torch::jit::Module& frozen,
                                                 const at::Tensor& example);

}  // namespace fastexai
