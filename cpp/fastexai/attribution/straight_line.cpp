// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/straight_line.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/lower_tuples.h>
#include <torch/csrc/jit/passes/remove_mutation.h>

#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

namespace fastexai {
namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

constexpr std::array<int64_t, 2> kRows{2, 3};

/// Operators that read a number out of a tensor's data.
const std::unordered_set<std::string> kReadsData = {
    "aten::item",           "aten::Int",        "aten::Float",    "aten::Bool",
    "aten::IntImplicit",    "aten::equal",      "aten::allclose", "aten::FloatImplicit",
    "aten::ScalarImplicit", "aten::is_nonzero", "aten::tolist",   "prim::tolist"};

/// What both runs know of a value.
struct Traced {
  Value* copy = nullptr;             // in the new graph; null until somebody needs it
  std::array<c10::IValue, 2> value;  // with two rows, and with three
  bool depends = false;              // on the input's data
};

bool holds_tensors(const c10::TypePtr& type) {
  if (type->kind() == c10::TypeKind::TensorType) return true;
  return std::any_of(type->containedTypes().begin(), type->containedTypes().end(), holds_tensors);
}

class Tracer {
 public:
  Tracer() : graph_(std::make_shared<Graph>()) {}

  std::shared_ptr<Graph> trace(const Graph& source, const at::Tensor& example) {
    const at::NoGradGuard no_grad;
    Traced input;
    input.copy = graph_->addInput("input");
    rows_ = graph_->addInput("rows");
    rows_->setType(c10::IntType::get());
    auto sizes = example.sizes().vec();
    for (size_t run = 0; run < kRows.size(); ++run) {
      sizes[0] = kRows[run];
      input.value[run] = at::zeros(sizes, example.options());
    }
    input.depends = true;
    known_[source.inputs().at(1)] = input;
    walk(source.block());
    graph_->registerOutput(copy_of(source.outputs().at(0)));
    torch::jit::LowerSimpleTuples(graph_);
    torch::jit::RemoveTensorMutation(graph_);
    torch::jit::EliminateDeadCode(graph_);
    return graph_;
  }

 private:
  void walk(const Block* block) {
    for (const Node* node : block->nodes()) {
      if (node->kind() == c10::prim::If)
        branch(node);
      else
        step(node);
    }
  }

  void branch(const Node* node) {
    const auto& condition = find(node->input(0));
    TORCH_CHECK_VALUE(condition.value[0].toBool() == condition.value[1].toBool(),
                      "a branch depends on the number of rows");
    const Block* const taken = node->blocks().at(condition.value[0].toBool() ? 0 : 1);
    walk(taken);
    for (size_t i = 0; i < node->outputs().size(); ++i)
      known_[node->output(i)] = find(taken->outputs().at(i));
  }

  void step(const Node* node) {
    TORCH_CHECK_VALUE(node->blocks().empty(), "a loop is left in the graph");
    TORCH_CHECK_VALUE(node->kind() != c10::prim::RaiseException, "the forward raises an error");
    const auto& inputs = node->inputs();
    const bool depends =
        std::any_of(inputs.begin(), inputs.end(), [&](const Value* v) { return find(v).depends; });
    TORCH_CHECK_VALUE(!depends || !kReadsData.count(node->kind().toQualString()),
                      "a number is read out of the data");
    std::vector<Traced> outputs(node->outputs().size());
    for (size_t run = 0; run < kRows.size(); ++run) evaluate(node, run, outputs);
    Node* copy = nullptr;
    for (size_t i = 0; i < outputs.size(); ++i) {
      outputs[i].depends = depends && holds_tensors(node->output(i)->type());
      if (outputs[i].depends) {
        if (copy == nullptr) copy = clone(node);
        outputs[i].copy = copy->output(i);
      }
      known_[node->output(i)] = std::move(outputs[i]);
    }
  }

  Node* clone(const Node* node) {
    for (const Value* input : node->inputs()) copy_of(input);
    Node* const copy = graph_->insertNode(
        graph_->createClone(const_cast<Node*>(node), [&](Value* v) { return copy_of(v); }));
    for (Value* output : copy->outputs())  // the shapes were those of some other batch
      if (output->type()->kind() == c10::TypeKind::TensorType)
        output->setType(c10::TensorType::get());
    return copy;
  }

  void evaluate(const Node* node, size_t run, std::vector<Traced>& outputs) const {
    if (node->kind() == c10::prim::Constant) {
      outputs[0].value[run] = *torch::jit::toIValue(node->output(0));
      return;
    }
    torch::jit::Stack stack;
    for (const Value* input : node->inputs()) stack.push_back(find(input).value[run]);
    // Containers are the interpreter's own instructions, not operators.
    if (node->kind() == c10::prim::ListConstruct) {
      c10::impl::GenericList list(
          node->output(0)->type()->expectRef<c10::ListType>().getElementType());
      for (auto& element : stack) list.push_back(element);
      stack = {list};
    } else if (node->kind() == c10::prim::TupleConstruct) {
      stack = {c10::ivalue::Tuple::create(std::move(stack))};
    } else if (node->kind() == c10::prim::TupleUnpack) {
      stack = stack.at(0).toTupleRef().elements().vec();
    } else if (node->kind() == c10::prim::ListUnpack) {
      stack = stack.at(0).toListRef().vec();
    } else {
      node->getOperation()(stack);
    }
    for (size_t i = 0; i < outputs.size(); ++i)
      outputs[i].value[run] = stack.at(stack.size() - outputs.size() + i);
  }

  const Traced& find(const Value* value) const {
    const auto found = known_.find(value);
    TORCH_CHECK_VALUE(found != known_.end(), "the graph uses the module's state");
    return found->second;
  }

  Value* copy_of(const Value* value) {
    find(value);
    auto& traced = known_[value];
    if (traced.copy == nullptr) traced.copy = emit(traced.value[0], traced.value[1]);
    return traced.copy;
  }

  /// A value that does not depend on the data, as constants and multiples of the number of rows.
  Value* emit(const c10::IValue& two, const c10::IValue& three) {
    if (two.isInt() && two.toInt() != three.toInt()) {
      const int64_t n = two.toInt();
      TORCH_CHECK_VALUE(n % 2 == 0 && three.toInt() == n / 2 * 3,
                        "a number depends on the rows in an unknown way");
      return graph_->insert(c10::aten::mul, {rows_, n / 2});
    }
    if (two.isTensor() && three.isTensor()) return emit_tensor(two.toTensor(), three.toTensor());
    if (two.isIntList()) return emit_list(two.toListRef(), three.toListRef(), c10::IntType::get());
    if (two.isTensorList())
      return emit_list(two.toListRef(), three.toListRef(), c10::TensorType::get());
    return graph_->insertConstant(two);
  }

  Value* emit_list(at::ArrayRef<c10::IValue> two, at::ArrayRef<c10::IValue> three,
                   const c10::TypePtr& type) {
    TORCH_CHECK_VALUE(two.size() == three.size(), "a list's length depends on the rows");
    std::vector<Value*> elements;
    for (size_t i = 0; i < two.size(); ++i) elements.push_back(emit(two[i], three[i]));
    return graph_->insertNode(graph_->createList(type, elements))->output();
  }

  Value* emit_tensor(const at::Tensor& two, const at::Tensor& three) {
    if (!two.defined() || two.sizes() == three.sizes()) {
      TORCH_CHECK_VALUE(!two.defined() || two.equal(three), "a constant depends on the rows");
      return graph_->insertConstant(two);
    }
    TORCH_CHECK_VALUE(two.dim() == three.dim(), "a constant's rank depends on the rows");
    std::vector<Value*> sizes;
    auto row = two;
    for (int64_t d = 0; d < two.dim(); ++d) {
      sizes.push_back(emit(two.size(d), three.size(d)));
      if (two.size(d) != three.size(d)) row = row.narrow(d, 0, 1);
    }
    TORCH_CHECK_VALUE(row.expand_as(two).equal(two) && row.expand_as(three).equal(three),
                      "a constant differs from row to row");
    Value* const list =
        graph_->insertNode(graph_->createList(c10::IntType::get(), sizes))->output();
    return graph_->insert(c10::aten::expand, {row.contiguous(), list});
  }

  std::shared_ptr<Graph> graph_;
  Value* rows_ = nullptr;
  std::unordered_map<const Value*, Traced> known_;
};

}  // namespace

std::shared_ptr<Graph> straight_line(const torch::jit::Module& frozen, const at::Tensor& example) {
  const auto graph = frozen.get_method("forward").graph()->copy();
  torch::jit::Inline(*graph);
  TORCH_CHECK_VALUE(graph->inputs().size() == 2 && graph->outputs().size() == 1,
                    "forward takes more than one argument");
  return Tracer().trace(*graph, example);
}

}  // namespace fastexai
