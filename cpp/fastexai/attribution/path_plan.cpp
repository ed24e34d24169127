// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/path_plan.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/passes/freeze_module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <sstream>

#include "fastexai/attribution/affine_prefix.h"
#include "fastexai/attribution/recurrent.h"

namespace fastexai {
namespace {

using torch::jit::GraphFunction;

constexpr int64_t kRecurrentRows =
    100;  // the fused kernel is fastest at 50 to 128: its tape is 61 kB a row
constexpr int64_t kWorkingSetBytes = int64_t{2} << 20;  // of one forward pass: about an L2 cache
/// The same for whole models, whose points are inputs: they make several tensors of this size, and
/// beyond 4 MB the allocator asks the system for each of them anew.
constexpr int64_t kInputBytes = int64_t{3} << 20;

at::Tensor run(GraphFunction& function, const at::Tensor& input, int64_t rows) {
  const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
  torch::jit::Stack stack{input, rows};
  function.run(stack);
  return stack.back().toTensor();
}

std::unique_ptr<GraphFunction> make_function(const std::shared_ptr<torch::jit::Graph>& graph) {
  return graph ? std::make_unique<GraphFunction>("part", graph, nullptr) : nullptr;
}

/// How an integrand goes through clips and nodes.
struct Tiling {
  int64_t max_rows;
  Checkpoint checkpoint;

  /// Nodes at a time. Called before each tile.
  int64_t next_width(int64_t clips, int64_t nodes_left) const {
    if (checkpoint) checkpoint();
    return std::clamp<int64_t>(max_rows / clips, 1, nodes_left);
  }
};

/// The gradient at every node, tile by tile, summed with each rule's weights.
at::Tensor sum_over_nodes(const at::Tensor& start, const at::Tensor& difference,
                          const at::Tensor& nodes, const at::Tensor& weights, const Tiling& tiling,
                          const std::function<at::Tensor(const at::Tensor&)>& gradient) {
  const int64_t clips = difference.size(0), rules = weights.size(0);
  auto shape = std::vector<int64_t>(difference.dim() + 1, 1);
  auto sums = at::zeros({clips, rules, difference.numel() / clips}, difference.options());
  for (int64_t k = 0, width; k < nodes.size(0); k += width) {
    width = tiling.next_width(clips, nodes.size(0) - k);
    shape[1] = width;
    const auto steps = nodes.narrow(0, k, width).view(shape);
    const auto points = at::addcmul(start.unsqueeze(1), difference.unsqueeze(1), steps);
    const auto gradients = gradient(points.flatten(0, 1)).reshape({clips, width, -1});
    const auto part = weights.narrow(1, k, width).unsqueeze(0).expand({clips, rules, width});
    sums.baddbmm_(part, gradients);
  }
  auto result_shape = difference.sizes().vec();
  result_shape.insert(result_shape.begin(), rules);
  return sums.transpose(0, 1).reshape(result_shape);
}

class WholeModelIntegrand final : public Integrand {
 public:
  WholeModelIntegrand(std::shared_ptr<const Model> model, Tiling tiling)
      : model_(std::move(model)), tiling_(std::move(tiling)) {}
  at::Tensor value(const at::Tensor& points) override { return model_->value(points); }
  at::Tensor gradient_sums(const at::Tensor& start, const at::Tensor& difference,
                           const at::Tensor& nodes, const at::Tensor& weights) override {
    return sum_over_nodes(start, difference, nodes, weights, tiling_, [&](const at::Tensor& p) {
      return model_->weighted_gradient(p, at::ones({p.size(0)}, p.options()));
    });
  }

 private:
  std::shared_ptr<const Model> model_;
  Tiling tiling_;
};

class WholeModelPlan final : public PathPlan {
 public:
  WholeModelPlan(std::shared_ptr<const Model> model, int64_t good_rows, std::string reason)
      : model_(std::move(model)), good_rows_(good_rows), reason_(std::move(reason)) {}
  at::Tensor project(const at::Tensor& inputs) const override { return inputs; }
  std::unique_ptr<Integrand> integrand(int64_t max_rows, Checkpoint checkpoint) const override {
    return std::make_unique<WholeModelIntegrand>(model_, Tiling{max_rows, std::move(checkpoint)});
  }
  bool is_parallel() const override { return model_->is_parallel(); }
  int64_t good_rows() const override { return good_rows_; }
  std::string description() const override {
    return "whole model at every node" + (reason_.empty() ? "" : " (" + reason_ + ")");
  }

 private:
  std::shared_ptr<const Model> model_;
  int64_t good_rows_;
  std::string reason_;  // why there is no prefix
};

/// The parts of a split model.
struct Parts {
  std::unique_ptr<GraphFunction> prefix, scaling, suffix, nonlinearity, rest;
};

/// Where the frontier's tensor keeps the clips: `per_clip` consecutive entries each, along `dim`.
struct Layout {
  int64_t dim = 0;
  int64_t per_clip = 1;
  at::Tensor to_points(const at::Tensor& raw, int64_t clips) const {
    return raw.movedim(dim, 0).unflatten(0, {clips, per_clip});
  }
  at::Tensor from_points(const at::Tensor& points) const {
    return points.flatten(0, 1).movedim(0, dim).contiguous();
  }
};

/// What all plans with an affine prefix share: the split graph and its parts as functions.
class SplitModel {
 public:
  SplitModel(std::shared_ptr<const ScriptModel> model, const at::Tensor& example)
      : model_(std::move(model)), sizes_(example.sizes().vec()), options_(example.options()) {
    auto split = split_at_affine_frontier(torch::jit::freeze_module(model_->module()), example);
    TORCH_CHECK_VALUE(split, "no single place to cut the graph");
    TORCH_CHECK_VALUE(!split->prefix_operators.empty(), "the first step is not affine");
    split_ = std::move(*split);
    parts_ = {make_function(split_.prefix), make_function(split_.scaling),
              make_function(split_.suffix), make_function(split_.nonlinearity),
              make_function(split_.rest)};
  }
  const SplitGraph& split() const { return split_; }
  const Parts& parts() const { return parts_; }

  at::Tensor output(const at::Tensor& raw, int64_t rows) const {
    return model_->pick_target(raw, rows);
  }
  /// The gradient of `function`'s output, (rows,), by its argument.
  at::Tensor gradient(GraphFunction& function, const at::Tensor& argument, int64_t rows) const {
    const at::AutoGradMode grad(true);
    const WithoutCudnn plain(argument);
    const auto leaf = argument.detach().requires_grad_();
    const auto value = output(run(function, leaf, rows), rows).sum();
    return torch::autograd::grad({value}, {leaf})[0];
  }
  /// What `scaling` multiplies the numbers of one clip by, and adds to them.
  std::pair<at::Tensor, at::Tensor> scale_and_shift() const {
    const at::AutoGradMode grad(true);
    const auto leaf = zeros(1).requires_grad_();
    const auto shift = run(*parts_.scaling, leaf, 1);
    TORCH_CHECK_VALUE(shift.numel() == leaf.numel(), "a constant is larger than the input");
    const auto scale = torch::autograd::grad({shift.sum()}, {leaf})[0];
    return {scale, shift.detach().view(leaf.sizes())};
  }
  at::Tensor zeros(int64_t rows) const {
    auto sizes = sizes_;
    sizes[0] = rows;
    return at::zeros(sizes, options_);
  }

 private:
  std::shared_ptr<const ScriptModel> model_;
  std::vector<int64_t> sizes_;
  at::TensorOptions options_;
  SplitGraph split_;
  Parts parts_;
};

/// Finds the layout by comparing the frontier's shape for two and for three rows.
Layout find_layout(const SplitModel& model) {
  const auto shape = [&](int64_t rows) {
    return run(*model.parts().prefix, model.zeros(rows), rows).sizes().vec();
  };
  const at::NoGradGuard no_grad;
  const auto two = shape(2), three = shape(3);
  TORCH_CHECK_VALUE(two.size() == three.size(), "the frontier changes its rank");
  std::optional<Layout> layout;
  for (size_t d = 0; d < two.size(); ++d) {
    if (two[d] == three[d]) continue;
    TORCH_CHECK_VALUE(!layout && two[d] % 2 == 0 && two[d] / 2 * 3 == three[d],
                      "clips share an entry at the frontier");
    layout = Layout{static_cast<int64_t>(d), two[d] / 2};
  }
  TORCH_CHECK_VALUE(layout, "the frontier does not depend on the batch");
  return *layout;
}

class SplitPlan : public PathPlan {
 public:
  SplitPlan(std::shared_ptr<const SplitModel> model, Layout layout)
      : model_(std::move(model)), layout_(layout) {}
  at::Tensor project(const at::Tensor& inputs) const final {
    if (row_projection_ && !at::GradMode::is_enabled()) return row_projection_->project(inputs);
    return plain_projection(inputs);
  }
  const RowProjection* row_projection() const final {
    return row_projection_ ? &*row_projection_ : nullptr;
  }
  int64_t good_rows() const override {
    const at::NoGradGuard no_grad;
    const auto point = project(model_->zeros(1));
    return std::clamp<int64_t>(kWorkingSetBytes / static_cast<int64_t>(point.nbytes()), 16, 4096);
  }
  /// Fewer would call the prefix too often for its small products: up to a twentieth of a recurrent
  /// network's time.
  int64_t least_clips() const override { return 4; }
  std::string description() const override {
    std::ostringstream text;
    text << "affine prefix (";
    const auto& operators = model_->split().prefix_operators;
    for (size_t k = 0; k < operators.size(); ++k) text << (k ? ", " : "") << operators[k];
    text << ") at the two ends; " << description_of_rest();
    return text.str();
  }

 protected:
  virtual std::string description_of_rest() const = 0;
  /// inputs (n, ...) -> points (n, ...), by the model's own operators
  virtual at::Tensor plain_projection(const at::Tensor& inputs) const {
    const int64_t clips = inputs.size(0);
    return layout_.to_points(run(*model_->parts().prefix, inputs, clips), clips);
  }
  /// To be called once it is known how to project: W, (H, D), is what follows the prefix's scaling
  /// of the input's numbers, where that is all it does; undefined elsewhere.
  void pack_rows(const at::Tensor& weight) {
    if (!model_->split().scaling || !weight.defined() || !weight.is_cpu()) return;
    const auto [scale, shift] = model_->scale_and_shift();
    const at::NoGradGuard no_grad;
    const auto rows = scale.reshape({-1, weight.size(1)});
    if (!rows.eq(rows[0]).all().item<bool>()) return;
    // From the clip that is scaled to zeros on: far from it, large numbers would cancel.
    const auto origin = at::where(scale.eq(0), scale, -shift / scale);
    row_projection_.emplace(weight.detach() * rows[0], origin, plain_projection(origin));
  }
  /// The gradient of the part after the nonlinearity for one row, where it is the same for all.
  at::Tensor constant_rest_gradient() const {
    const at::NoGradGuard no_grad;
    const auto& parts = model_->parts();
    const auto raw = run(*parts.nonlinearity, run(*parts.prefix, model_->zeros(1), 1), 1);
    return model_->gradient(*parts.rest, raw, 1);
  }

  std::shared_ptr<const SplitModel> model_;
  Layout layout_;

 private:
  std::optional<RowProjection> row_projection_;
};

/// Any differentiable suffix, by autograd.
class SuffixIntegrand : public Integrand {
 public:
  SuffixIntegrand(std::shared_ptr<const SplitModel> model, Layout layout, Tiling tiling)
      : model_(std::move(model)), layout_(layout), tiling_(std::move(tiling)) {}
  at::Tensor value(const at::Tensor& points) override {
    const at::NoGradGuard no_grad;
    const int64_t rows = points.size(0);
    return model_->output(run(*model_->parts().suffix, layout_.from_points(points), rows), rows);
  }
  at::Tensor gradient_sums(const at::Tensor& start, const at::Tensor& difference,
                           const at::Tensor& nodes, const at::Tensor& weights) override {
    return sum_over_nodes(start, difference, nodes, weights, tiling_, [&](const at::Tensor& p) {
      const int64_t rows = p.size(0);
      const auto raw = layout_.from_points(p);
      return layout_.to_points(model_->gradient(*model_->parts().suffix, raw, rows), rows);
    });
  }

 protected:
  std::shared_ptr<const SplitModel> model_;
  Layout layout_;
  Tiling tiling_;
};

class SuffixPlan final : public SplitPlan {
 public:
  SuffixPlan(std::shared_ptr<const SplitModel> model, Layout layout)
      : SplitPlan(std::move(model), layout) {
    pack_rows(model_->split().row_weight);
  }
  std::unique_ptr<Integrand> integrand(int64_t max_rows, Checkpoint checkpoint) const override {
    return std::make_unique<SuffixIntegrand>(model_, layout_,
                                             Tiling{max_rows, std::move(checkpoint)});
  }

 protected:
  std::string description_of_rest() const override { return "the rest at every node"; }
};

/// affine -> element-wise function s -> affine: the mean of s' on a straight path is a difference
/// quotient, (s(z1) - s(z0)) / (z1 - z0), so that the integral needs no nodes.
class ClosedFormIntegrand final : public SuffixIntegrand {
 public:
  ClosedFormIntegrand(std::shared_ptr<const SplitModel> model, Layout layout,
                      at::Tensor rest_gradient)
      : SuffixIntegrand(std::move(model), layout, Tiling{/*max_rows=*/1, {}}),
        rest_gradient_(std::move(rest_gradient)) {}

  at::Tensor gradient_sums(const at::Tensor& start, const at::Tensor& difference, const at::Tensor&,
                           const at::Tensor& weights) override {
    const at::NoGradGuard no_grad;
    auto& function = *model_->parts().nonlinearity;
    const auto end = start + difference;
    const auto change = apply(function, end) - apply(function, start);
    // Where the quotient would cancel, the slope at the middle is exact to second order: its error
    // is (z1 - z0)^2 s''' / 24, the quotient's about epsilon |s| / |z1 - z0|; they meet near the
    // cube root of epsilon.
    const double epsilon = start.scalar_type() == at::kDouble ? 2.2e-16 : 1.2e-7;
    const auto tiny = difference.abs() < std::cbrt(epsilon) * (1 + start.abs());
    auto slope = change / difference.masked_fill(tiny, 1);
    if (tiny.any().item<bool>())
      slope = at::where(tiny, middle_slope(function, start + 0.5 * difference), slope);
    const auto mean = (slope * rest_gradient_).unsqueeze(0);
    auto shape = std::vector<int64_t>(mean.dim(), 1);
    shape[0] = weights.size(0);
    return mean * weights.sum(1).view(shape);
  }

 private:
  at::Tensor apply(GraphFunction& function, const at::Tensor& points) const {
    return layout_.to_points(run(function, layout_.from_points(points), points.size(0)),
                             points.size(0));
  }
  at::Tensor middle_slope(GraphFunction& function, const at::Tensor& points) const {
    const at::AutoGradMode grad(true);
    const auto leaf = layout_.from_points(points).detach().requires_grad_();
    const auto slope =
        torch::autograd::grad({run(function, leaf, points.size(0)).sum()}, {leaf})[0];
    return layout_.to_points(slope, points.size(0));
  }
  at::Tensor rest_gradient_;
};

class ClosedFormPlan final : public SplitPlan {
 public:
  ClosedFormPlan(std::shared_ptr<const SplitModel> model, Layout layout)
      : SplitPlan(std::move(model), layout),
        rest_gradient_(layout_.to_points(constant_rest_gradient(), 1)) {
    pack_rows(model_->split().row_weight);
  }
  std::unique_ptr<Integrand> integrand(int64_t max_rows, Checkpoint checkpoint) const override {
    return std::make_unique<SuffixIntegrand>(model_, layout_,
                                             Tiling{max_rows, std::move(checkpoint)});
  }
  std::unique_ptr<Integrand> closed_form() const override {
    return std::make_unique<ClosedFormIntegrand>(model_, layout_, rest_gradient_);
  }

 protected:
  std::string description_of_rest() const override {
    return model_->split().element_wise->name +
           " and an affine readout, in closed form where a tolerance is asked for";
  }

 private:
  at::Tensor rest_gradient_;
};

/// LSTM or GRU layers on the fused kernel. A point holds the first layer's gate pre-activations.
class RecurrentIntegrand final : public Integrand {
 public:
  RecurrentIntegrand(std::shared_ptr<const SplitModel> model, const Recurrent& layers,
                     bool batch_first, at::Tensor rest_gradient, Tiling tiling)
      : model_(std::move(model)),
        tape_(layers, model_->zeros(0).scalar_type()),
        batch_first_(batch_first),
        rest_gradient_(std::move(rest_gradient)),
        tiling_(std::move(tiling)) {}

  at::Tensor value(const at::Tensor& points) override {
    const at::NoGradGuard no_grad;
    const auto gates = points.transpose(0, 1).contiguous();
    const auto output = tape_.forward(gates, gates, at::zeros({1}, gates.options()));
    const int64_t rows = points.size(0);
    return model_->output(run(*model_->parts().rest, arranged(output), rows), rows);
  }
  at::Tensor gradient_sums(const at::Tensor& start, const at::Tensor& difference,
                           const at::Tensor& nodes, const at::Tensor& weights) override {
    const at::NoGradGuard no_grad;
    const int64_t clips = start.size(0);
    const auto from = start.transpose(0, 1).contiguous();
    const auto step = difference.transpose(0, 1).contiguous();
    at::Tensor sums;
    for (int64_t k = 0, width; k < nodes.size(0); k += width) {
      width = tiling_.next_width(clips, nodes.size(0) - k);
      const auto output = tape_.forward(from, step, nodes.narrow(0, k, width));
      const auto part = tape_.backward(output_gradient(output, clips * width),
                                       weights.narrow(1, k, width).contiguous());
      sums = sums.defined() ? sums.add_(part) : part.clone();
    }
    return sums.transpose(1, 2);
  }

 private:
  /// (T, R, H) as the model arranges it, and back: swapping two dimensions is its own inverse.
  at::Tensor arranged(const at::Tensor& sequence) const {
    return batch_first_ ? sequence.transpose(0, 1).contiguous() : sequence;
  }
  at::Tensor output_gradient(const at::Tensor& output, int64_t rows) const {
    if (rest_gradient_.defined()) return arranged(rest_gradient_);
    return arranged(model_->gradient(*model_->parts().rest, arranged(output), rows));
  }
  std::shared_ptr<const SplitModel> model_;
  RecurrentTape tape_;
  bool batch_first_;
  at::Tensor rest_gradient_;  // for one row; undefined where it differs from row to row
  Tiling tiling_;
};

Recurrent read_layers(const RecurrentLayers& layers) {
  Recurrent result;
  result.kind = layers.is_lstm ? RecurrentKind::kLstm : RecurrentKind::kGru;
  result.bidirectional = layers.bidirectional;
  const size_t stride = layers.has_biases ? 4 : 2;
  for (size_t i = 0; i < layers.parameters.size(); i += stride) {
    RecurrentDirection direction{
        layers.parameters[i].detach(), layers.parameters[i + 1].detach(), {}, {}};
    if (layers.has_biases) {
      direction.input_bias = layers.parameters[i + 2].detach();
      direction.hidden_bias = layers.parameters[i + 3].detach();
    }
    result.directions.push_back(direction);
  }
  result.hidden = result.directions.at(0).hidden_weight.size(1);
  return result;
}

class RecurrentPlan final : public SplitPlan {
 public:
  RecurrentPlan(std::shared_ptr<const SplitModel> model, Layout layout)
      : SplitPlan(std::move(model), layout),
        layers_(read_layers(*model_->split().recurrent)),
        batch_first_(model_->split().recurrent->batch_first) {
    std::tie(weight_, bias_) = first_projection(layers_);
    if (model_->split().rest_is_affine) rest_gradient_ = constant_rest_gradient();
    if (batch_first_ && !model_->split().row_weight.defined()) pack_rows(weight_);
  }
  std::unique_ptr<Integrand> integrand(int64_t max_rows, Checkpoint checkpoint) const override {
    return std::make_unique<RecurrentIntegrand>(model_, layers_, batch_first_, rest_gradient_,
                                                Tiling{max_rows, std::move(checkpoint)});
  }
  int64_t good_rows() const override { return kRecurrentRows; }

 protected:
  at::Tensor plain_projection(const at::Tensor& inputs) const override {
    const auto raw = run(*model_->parts().prefix, inputs, inputs.size(0));
    return at::linear(batch_first_ ? raw : raw.transpose(0, 1), weight_, bias_);
  }
  std::string description_of_rest() const override {
    std::ostringstream text;
    text << (layers_.kind == RecurrentKind::kLstm ? "LSTM" : "GRU") << " ("
         << layers_.directions.size() / (layers_.bidirectional ? 2 : 1) << " layer(s), "
         << (layers_.bidirectional ? "two directions" : "one direction") << ", hidden "
         << layers_.hidden << ") on the fused kernel, its input projection in the prefix; "
         << (rest_gradient_.defined() ? "affine readout" : "the rest at every node");
    return text.str();
  }

 private:
  Recurrent layers_;
  bool batch_first_;
  at::Tensor weight_, bias_, rest_gradient_;
};

std::shared_ptr<const PathPlan> build_plan(const std::shared_ptr<const SplitModel>& model) {
  const auto& split = model->split();
  const auto layout = find_layout(*model);
  // The fused kernel runs on the CPU; elsewhere PyTorch's own recurrence follows the prefix.
  if (split.recurrent && model->zeros(0).is_cpu())
    return std::make_shared<RecurrentPlan>(model, layout);
  if (split.element_wise && split.rest_is_affine)
    return std::make_shared<ClosedFormPlan>(model, layout);
  return std::make_shared<SuffixPlan>(model, layout);
}

/// |a - b| against the larger of them, for every element.
bool agree(const at::Tensor& a, const at::Tensor& b) {
  const double tolerance = a.scalar_type() == at::kDouble ? 1e-9 : 1e-3;
  const double scale =
      std::max({a.abs().max().item<double>(), b.abs().max().item<double>(), 1e-30});
  return (a - b).abs().max().item<double>() <= tolerance * scale;  // false where one is NaN
}

/// Compares the plan with the plain model: affinity of the prefix, values and gradients.
bool is_faithful(const PathPlan& plan, const ScriptModel& model, const at::Tensor& example) {
  auto sizes = example.sizes().vec();
  sizes[0] = 3;
  const at::NoGradGuard no_grad;
  // Near the clips to come: elsewhere a network may be so saturated that nothing is left to
  // compare.
  const auto finite = at::where(at::isfinite(example), example, 0);
  const auto mean = finite.mean(), spread = (finite - mean).abs().mean() + 1e-3;
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(20240714);
  const auto draw = [&] {
    const auto noise = at::randn(sizes, generator, example.options().device(at::kCPU));
    return mean + spread * noise.to(example.device());
  };
  const auto a = draw(), b = draw();
  const auto from = plan.project(a), to = plan.project(b);
  if (!agree(plan.project(0.25 * a + 0.75 * b), 0.25 * from + 0.75 * to)) return false;
  const auto integrand = plan.integrand(/*max_rows=*/3);
  if (!agree(integrand->value(to), model.value(b))) return false;
  // A path of no length: its mean gradient is the gradient there.
  const auto options = from.options();
  const auto sums = integrand->gradient_sums(to, at::zeros_like(to), at::zeros({1}, options),
                                             at::ones({1, 1}, options))[0];
  if (const auto exact = plan.closed_form()) {
    const auto mean = exact->gradient_sums(from, to - from, at::zeros({1}, options),
                                           at::ones({1, 1}, options))[0];
    const auto change = (mean * (to - from)).reshape({3, -1}).sum(1);
    if (!agree(change, model.value(b) - model.value(a))) return false;
  }
  const auto gradient = model.weighted_gradient(b, at::ones({3}, options));
  if (const auto* const layer = plan.row_projection()) {
    const auto starts = at::zeros_like(b), found = at::empty_like(b);
    layer->pull_back(sums.unsqueeze(1), b, starts, found);
    if (!agree(found, gradient * b)) return false;
  }
  const at::AutoGradMode grad(true);
  const auto leaf = b.detach().requires_grad_();
  return agree(torch::autograd::grad({plan.project(leaf)}, {leaf}, {sums})[0], gradient);
}

}  // namespace

std::shared_ptr<const PathPlan> plan_whole_model(std::shared_ptr<const Model> model,
                                                 const at::Tensor& example, std::string reason) {
  const auto bytes = std::max<int64_t>(1, example.nbytes() / std::max<int64_t>(1, example.size(0)));
  return std::make_shared<WholeModelPlan>(
      std::move(model), std::clamp<int64_t>(kInputBytes / bytes, 8, 4096), std::move(reason));
}

std::shared_ptr<const PathPlan> plan_paths(std::shared_ptr<const ScriptModel> model,
                                           const at::Tensor& example, bool use_structure) {
  std::string reason;
  if (use_structure) {
    try {
      const auto plan = build_plan(std::make_shared<SplitModel>(model, example));
      if (is_faithful(*plan, *model, example)) return plan;
      reason = "the split model gave other numbers";
    } catch (const c10::Error& error) {
      // Whatever cannot be split safely: the whole model gives the same numbers.
      reason = error.what_without_backtrace();
    } catch (const std::exception& error) {
      reason = error.what();
    }
  }
  return plan_whole_model(std::move(model), example, reason.substr(0, reason.find('\n')));
}

}  // namespace fastexai
