// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace fastexai {

/// What follows the affine prefix, as far as its structure allows a shortcut.
struct ElementWise {
  std::string name;  // of the operator, such as "aten::tanh"
};
struct RecurrentLayers {
  bool is_lstm;
  bool bidirectional;
  bool batch_first;
  int64_t layers;
  std::vector<at::Tensor> parameters;  // as torch lays them out: per layer and direction
  bool has_biases;
};

/// A model's graph, cut where it stops being affine:
///   output = rest(nonlinearity(prefix(input)))
/// Each part is a graph of its own, of a tensor and the number of rows; none refers to the module.
struct SplitGraph {
  std::shared_ptr<torch::jit::Graph> prefix;  // affine
  /// Where `prefix` shifts and scales the input's numbers, each by itself, and at most ends in one
  /// linear layer: that without the layer, and the layer's weight, (H, D), on D numbers at a time
  /// in their order. Null and undefined elsewhere.
  std::shared_ptr<torch::jit::Graph> scaling;
  at::Tensor row_weight;
  std::shared_ptr<torch::jit::Graph> suffix;  // all that follows: nonlinearity, then rest
  /// Set where the first thing after the prefix is one of the two kinds above.
  std::optional<ElementWise> element_wise;
  std::optional<RecurrentLayers> recurrent;
  std::shared_ptr<torch::jit::Graph> nonlinearity;  // null where neither is set
  std::shared_ptr<torch::jit::Graph> rest;          // null where neither is set
  bool rest_is_affine = false;
  std::vector<std::string> prefix_operators;  // for people
};

/// Splits a frozen module's forward for inputs like `example`. Returns nothing where the graph
/// offers no single place to cut; throws a ValueError where it is no straight line (see
/// straight_line.h).
///
/// The graph is only read: operators known to be affine in their first argument when all others are
/// constants. Whether the parts really multiply back to the model is for the caller to verify.
std::optional<SplitGraph> split_at_affine_frontier(const torch::jit::Module& frozen,
                                                   const at::Tensor& example);

}  // namespace fastexai
