// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/affine_prefix.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "fastexai/attribution/straight_line.h"

namespace fastexai {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

using Names = std::unordered_set<std::string>;

/// Affine in the first argument when the others are constants.
const Names kAffineInFirst = {"aten::flatten",
                              "aten::reshape",
                              "aten::view",
                              "aten::transpose",
                              "aten::permute",
                              "aten::contiguous",
                              "aten::unsqueeze",
                              "aten::squeeze",
                              "aten::t",
                              "aten::slice",
                              "aten::select",
                              "aten::index_select",
                              "aten::narrow",
                              "aten::movedim",
                              "aten::unflatten",
                              "aten::expand",
                              "aten::clone",
                              "aten::alias",
                              "aten::flip",
                              "aten::roll",
                              "aten::index",
                              "aten::constant_pad_nd",
                              "aten::cumsum",
                              "aten::mean",
                              "aten::sum",
                              "aten::linear",
                              "aten::matmul",
                              "aten::mm",
                              "aten::mul",
                              "aten::div",
                              "aten::sub",
                              "aten::add",
                              "aten::neg",
                              "aten::rsub",
                              "aten::conv1d",
                              "aten::conv2d",
                              "aten::conv3d",
                              "aten::convolution",
                              "aten::_convolution",
                              "aten::avg_pool1d",
                              "aten::avg_pool2d",
                              "aten::adaptive_avg_pool1d",
                              "aten::to",
                              "aten::cat",
                              "aten::stack",
                              "aten::diff"};
/// Affine in the first argument unless a flag says "training".
const Names kAffineInEvaluation = {"aten::batch_norm", "aten::dropout", "aten::feature_dropout"};
/// Affine when any of the arguments are.
const Names kSums = {"aten::add", "aten::sub", "aten::rsub"};
/// Affine in one argument, whichever it is, when the others are constants.
const Names kProducts = {"aten::mul", "aten::matmul", "aten::mm"};

const Names kElementWise = {
    "aten::tanh",        "aten::sigmoid",   "aten::relu",       "aten::gelu",     "aten::silu",
    "aten::softplus",    "aten::elu",       "aten::leaky_relu", "aten::erf",      "aten::sin",
    "aten::cos",         "aten::exp",       "aten::relu6",      "aten::hardtanh", "aten::softsign",
    "aten::mish",        "aten::celu",      "aten::selu",       "aten::atan",     "aten::square",
    "aten::log_sigmoid", "aten::hardswish", "aten::hardsigmoid"};

/// Leave the numbers of a contiguous tensor where they are.
const Names kViews = {"aten::flatten", "aten::reshape",   "aten::view",     "aten::contiguous",
                      "aten::squeeze", "aten::unsqueeze", "aten::unflatten"};

/// Shift or scale numbers one by one, by constants.
const Names kScalings = {"aten::add", "aten::sub", "aten::rsub",
                         "aten::mul", "aten::div", "aten::neg"};

enum class Dependence { kConstant, kAffine, kBeyond };

std::string name_of(const Node* node) { return node->kind().toQualString(); }

/// How every value of a graph depends on one of them.
class DependenceMap {
 public:
  DependenceMap(const Graph& graph, const Value* source) {
    known_[source] = Dependence::kAffine;
    for (const Node* node : graph.nodes()) {
      const auto result = of(node);
      for (const Value* output : node->outputs())
        if (output != source) known_[output] = result;
    }
  }
  Dependence of(const Value* value) const {
    const auto found = known_.find(value);
    return found == known_.end() ? Dependence::kConstant : found->second;
  }
  Dependence of(const Node* node) const {
    const auto& inputs = node->inputs();
    const auto is = [&](Dependence d) { return [this, d](const Value* v) { return of(v) == d; }; };
    if (std::any_of(inputs.begin(), inputs.end(), is(Dependence::kBeyond)))
      return Dependence::kBeyond;
    const auto affine = std::count_if(inputs.begin(), inputs.end(), is(Dependence::kAffine));
    if (affine == 0) return Dependence::kConstant;
    return is_affine(node, affine) ? Dependence::kAffine : Dependence::kBeyond;
  }

 private:
  bool is_affine(const Node* node, int64_t affine_inputs) const {
    const auto name = name_of(node);
    if (name == "prim::ListConstruct" || kSums.count(name)) return true;
    if (affine_inputs != 1) return false;
    if (kProducts.count(name)) return true;
    if (of(node->input(0)) != Dependence::kAffine) return false;
    if (kAffineInEvaluation.count(name)) return !is_training(node);
    return kAffineInFirst.count(name) > 0;
  }
  static bool is_training(const Node* node) {
    for (const char* flag : {"training", "train"})
      if (const auto* schema = node->maybeSchema())
        if (const auto index = schema->argumentIndexWithName(flag)) {
          const auto value = torch::jit::toIValue(node->input(*index));
          return !value || value->toBool();
        }
    return true;
  }
  std::unordered_map<const Value*, Dependence> known_;
};

bool mutates(const Graph& graph) {
  return std::any_of(graph.nodes().begin(), graph.nodes().end(), [](const Node* node) {
    const auto* schema = node->maybeSchema();
    return schema && schema->is_mutable();
  });
}

/// A copy of the part of `graph` that leads from `source` to `sink`, as a graph of its own. Returns
/// null where the sink needs another value that depends on the input.
std::shared_ptr<Graph> extract(const Graph& graph, const Value* source, const Value* sink) {
  auto part = std::make_shared<Graph>();
  std::unordered_map<const Value*, Value*> copies{{source, part->addInput("input")}};
  copies[graph.inputs().at(1)] = part->addInput("rows");
  copies[graph.inputs().at(1)]->setType(c10::IntType::get());
  for (const Node* node : graph.nodes()) {
    const auto& outputs = node->outputs();
    if (std::find(outputs.begin(), outputs.end(), source) != outputs.end()) continue;
    const auto& inputs = node->inputs();
    if (!std::all_of(inputs.begin(), inputs.end(),
                     [&](const Value* v) { return copies.count(v) > 0; }))
      continue;  // depends on what lies before the source
    Node* const copy = part->insertNode(
        part->createClone(const_cast<Node*>(node), [&](Value* v) { return copies.at(v); }));
    for (size_t i = 0; i < outputs.size(); ++i) copies[outputs[i]] = copy->output(i);
  }
  if (copies.count(sink) == 0) return nullptr;
  part->registerOutput(copies.at(sink));
  torch::jit::EliminateDeadCode(part);
  return part;
}

/// A constant tensor, or the constant row that is expanded to the number of rows.
std::optional<at::Tensor> constant_tensor(const Value* value) {
  if (value->node()->kind() == c10::aten::expand) value = value->node()->input(0);
  const auto constant = torch::jit::toIValue(value);
  return constant && constant->isTensor() ? std::optional(constant->toTensor()) : std::nullopt;
}

std::optional<std::vector<at::Tensor>> constant_tensors(const Value* list) {
  if (const auto value = torch::jit::toIValue(list))
    return value->isTensorList() ? std::optional(value->toTensorVector()) : std::nullopt;
  if (list->node()->kind() != c10::prim::ListConstruct) return std::nullopt;
  std::vector<at::Tensor> tensors;
  for (const Value* element : list->node()->inputs()) {
    const auto tensor = constant_tensor(element);
    if (!tensor) return std::nullopt;
    tensors.push_back(*tensor);
  }
  return tensors;
}

bool all_zero(const std::vector<at::Tensor>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [](const at::Tensor& t) { return t.eq(0).all().item<bool>(); });
}

/// aten::lstm / aten::gru over a padded batch from a zero state, with constant weights; else
/// nothing.
std::optional<RecurrentLayers> read_recurrent(const Node* node) {
  const auto name = name_of(node);
  const bool is_lstm = name == "aten::lstm";
  if ((!is_lstm && name != "aten::gru") || node->inputs().size() != 9) return std::nullopt;
  auto state = is_lstm ? constant_tensors(node->input(1)) : std::nullopt;
  if (!is_lstm)
    if (const auto tensor = constant_tensor(node->input(1))) state = std::vector{*tensor};
  const auto parameters = constant_tensors(node->input(2));
  if (!state || !all_zero(*state) || !parameters) return std::nullopt;
  std::vector<c10::IValue> options;
  for (size_t i = 3; i < 9; ++i) {
    const auto value = torch::jit::toIValue(node->input(i));
    if (!value) return std::nullopt;
    options.push_back(*value);
  }
  for (size_t i = 1; i < node->outputs().size(); ++i)
    if (node->output(i)->hasUses()) return std::nullopt;  // the final state
  const bool has_biases = options[0].toBool(), bidirectional = options[4].toBool();
  const int64_t layers = options[1].toInt();
  const size_t expected = layers * (bidirectional ? 2 : 1) * (has_biases ? 4 : 2);
  if (options[3].toBool() || parameters->size() != expected) return std::nullopt;
  return RecurrentLayers{is_lstm, bidirectional, options[5].toBool(),
                         layers,  *parameters,   has_biases};
}

/// The one affine value that everything beyond the frontier reads; null where there are several.
const Value* find_cut(const Graph& graph, const DependenceMap& dependence) {
  const Value* cut = nullptr;
  const auto consider = [&](const Value* value) {
    if (dependence.of(value) != Dependence::kAffine || value == cut) return true;
    if (cut != nullptr) return false;
    cut = value;
    return true;
  };
  for (const Node* node : graph.nodes()) {
    if (dependence.of(node) != Dependence::kBeyond) continue;
    for (const Value* input : node->inputs())
      if (!consider(input)) return nullptr;
  }
  return consider(graph.outputs().at(0)) ? cut : nullptr;
}

/// Whether all that happens to the source's numbers on the way is that each is shifted and scaled.
bool keeps_order(const Value* value, const Value* source, const DependenceMap& dependence) {
  while (value != source) {
    const Node* const node = value->node();
    const auto& inputs = node->inputs();
    const auto changes = [&](const Value* v) { return dependence.of(v) != Dependence::kConstant; };
    if (!kViews.count(name_of(node)) && !kScalings.count(name_of(node))) return false;
    if (std::count_if(inputs.begin(), inputs.end(), changes) != 1) return false;
    value = *std::find_if(inputs.begin(), inputs.end(), changes);
  }
  return true;
}

void find_rows(SplitGraph& split) {
  const Value *const input = split.prefix->inputs().at(0), *rows = split.prefix->outputs().at(0);
  const Node* const last = rows->node();
  const auto weight =
      name_of(last) == "aten::linear" ? constant_tensor(last->input(1)) : std::nullopt;
  if (weight) rows = last->input(0);
  if (!keeps_order(rows, input, DependenceMap(*split.prefix, input))) return;
  split.scaling = extract(*split.prefix, input, rows);
  split.row_weight = weight.value_or(at::Tensor());
}

}  // namespace

std::optional<SplitGraph> split_at_affine_frontier(const torch::jit::Module& frozen,
                                                   const at::Tensor& example) {
  const auto graph = straight_line(frozen, example);
  if (mutates(*graph)) return std::nullopt;
  const Value* const input = graph->inputs().at(0);
  const Value* const output = graph->outputs().at(0);
  const DependenceMap dependence(*graph, input);
  const Value* const cut = find_cut(*graph, dependence);
  if (cut == nullptr || cut->type()->kind() != c10::TypeKind::TensorType) return std::nullopt;
  SplitGraph split;
  split.prefix = extract(*graph, input, cut);
  split.suffix = extract(*graph, cut, output);
  if (!split.prefix || !split.suffix) return std::nullopt;
  find_rows(split);
  for (const Node* node : split.prefix->nodes())
    if (node->kind() != c10::prim::Constant && node->kind() != c10::prim::ListConstruct)
      split.prefix_operators.push_back(node->kind().toUnqualString());

  if (cut->uses().size() != 1) return split;
  const Node* const next = cut->uses().at(0).user;
  split.recurrent = read_recurrent(next);
  if (kElementWise.count(name_of(next)) && next->input(0) == cut)
    split.element_wise = ElementWise{name_of(next)};
  if (!split.recurrent && !split.element_wise) return split;
  split.nonlinearity = extract(*graph, cut, next->output(0));
  split.rest = extract(*graph, next->output(0), output);
  if (!split.rest || !split.nonlinearity) {
    split.recurrent.reset();
    split.element_wise.reset();
    return split;
  }
  split.rest_is_affine = DependenceMap(*graph, next->output(0)).of(output) == Dependence::kAffine;
  return split;
}

}  // namespace fastexai
