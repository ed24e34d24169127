// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/recurrent.h"

#include <ATen/Dispatch.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "fastexai/attribution/packed_product.h"
#include "fastexai/attribution/recurrent_cells.h"
#include "fastexai/attribution/recurrent_weights.h"
#include "fastexai/check.h"

namespace fastexai {
namespace {

/// Rows go through time in blocks of which one step stays in the second-level cache.
constexpr int64_t kBlockBytes = 512 * 1024;

/// The memory of one layer, and views of it with the present tile's sizes.
struct Layer {
  at::Tensor slots;   // (D, T, B, 4*H), see Note [Gate slots]
  at::Tensor cell;    // (D, T, B, H), LSTM
  at::Tensor output;  // (T, B, D*H)
};

/// The first elements of a buffer that grows when they are too few.
at::Tensor view_of(at::Tensor& buffer, at::IntArrayRef shape, at::ScalarType dtype) {
  const auto count = c10::multiply_integers(shape);
  if (!buffer.defined() || buffer.numel() < count) {
    buffer = at::Tensor();  // free the old memory first
    buffer = at::empty({count}, at::TensorOptions(dtype));
  }
  return buffer.narrow(0, 0, count).view(shape);
}

/// The rows of a (T, B, width) view at one frame, from row `begin` on.
template <typename scalar_t>
Rows<scalar_t> rows_at(const at::Tensor& view, int64_t frame, int64_t begin) {
  auto* data = static_cast<scalar_t*>(view.data_ptr());
  return {data + frame * view.stride(0) + begin * view.stride(1), view.stride(1)};
}

}  // namespace

int64_t bytes_per_row(const Recurrent& recurrent, int64_t frames, at::ScalarType dtype) {
  const auto layers = recurrent.layers();
  const auto states = recurrent.kind == RecurrentKind::kLstm ? 2 : 1;
  const auto planes = layers * (4 + states) + (layers > 1 ? 1 : 0);
  const auto scratch = 6 * recurrent.hidden;
  return (frames * recurrent.ways() * recurrent.hidden * planes + scratch) *
         static_cast<int64_t>(c10::elementSize(dtype));
}

class RecurrentTape::Impl {
 public:
  Impl(const Recurrent& recurrent, at::ScalarType dtype);
  at::Tensor forward(const at::Tensor& start, const at::Tensor& difference,
                     const at::Tensor& nodes);
  at::Tensor backward(const at::Tensor& output_gradient, const at::Tensor& weights);

 private:
  void resize(int64_t frames, int64_t clips, int64_t nodes);
  void project(int64_t layer, int64_t way);
  void project_back(int64_t layer, const at::Tensor& input_gradient);
  template <typename scalar_t>
  void forward_way(int64_t layer, int64_t way, const at::Tensor& start,
                   const at::Tensor& difference, const at::Tensor& nodes);
  template <typename scalar_t>
  void backward_way(int64_t layer, int64_t way, const at::Tensor& output_gradient,
                    const at::Tensor& weights, const at::Tensor& sums);

  bool is_lstm() const { return kind_ == RecurrentKind::kLstm; }
  const RecurrentWeights& weights(int64_t layer, int64_t way) const {
    return weights_[layer * ways_ + way];
  }
  /// The frame that a direction comes to `step` steps after its first.
  int64_t frame_at(int64_t way, int64_t step) const { return way == 0 ? step : frames_ - 1 - step; }
  /// What a slot exchanges with the hidden state, and with the layer below: Note [Gate slots].
  at::Tensor hidden_span(const at::Tensor& slots) const {
    return is_lstm() ? slots : slots.narrow(-1, hidden_, 3 * hidden_);
  }
  at::Tensor input_span(const at::Tensor& slots) const {
    return is_lstm() ? slots : slots.narrow(-1, 0, 3 * hidden_);
  }
  int64_t block_rows() const;

  RecurrentKind kind_;
  int64_t hidden_, gates_, ways_, layers_;
  at::ScalarType dtype_;
  std::vector<RecurrentWeights> weights_;  // layer-major
  at::Tensor zeros_;                       // (4*H,)

  int64_t frames_ = 0, clips_ = 0, nodes_ = 0, rows_ = 0;  // of the present tile
  bool has_tape_ = false;
  std::vector<Layer> buffers_, tile_;
  at::Tensor gate_buffer_, hidden_buffer_, cell_buffer_, gradient_buffer_, sums_buffer_;
};

RecurrentTape::Impl::Impl(const Recurrent& recurrent, at::ScalarType dtype)
    : kind_(recurrent.kind),
      hidden_(recurrent.hidden),
      gates_(recurrent.gates()),
      ways_(recurrent.ways()),
      layers_(recurrent.layers()),
      dtype_(dtype) {
  check_recurrent(recurrent);
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kDouble,
                   "dtype: expected float32 or float64, got ", dtype);
  const at::NoGradGuard no_grad;
  for (int64_t i = 0; i < layers_ * ways_; ++i)
    weights_.push_back(prepare_weights(recurrent, i, dtype));
  zeros_ = at::zeros({4 * hidden_}, at::TensorOptions(dtype));
  buffers_.resize(layers_);
  tile_.resize(layers_);
}

void RecurrentTape::Impl::resize(int64_t frames, int64_t clips, int64_t nodes) {
  frames_ = frames;
  clips_ = clips;
  nodes_ = nodes;
  rows_ = clips * nodes;
  for (int64_t layer = 0; layer < layers_; ++layer) {
    auto& buffer = buffers_[layer];
    auto& view = tile_[layer];
    view.slots = view_of(buffer.slots, {ways_, frames_, rows_, 4 * hidden_}, dtype_);
    if (is_lstm()) view.cell = view_of(buffer.cell, {ways_, frames_, rows_, hidden_}, dtype_);
    view.output = view_of(buffer.output, {frames_, rows_, ways_ * hidden_}, dtype_);
  }
}

int64_t RecurrentTape::Impl::block_rows() const {
  const auto bytes_of_a_row = 8 * hidden_ * static_cast<int64_t>(c10::elementSize(dtype_));
  const auto most = std::max<int64_t>(1, kBlockBytes / bytes_of_a_row);
  const auto blocks = (rows_ + most - 1) / most;
  return (rows_ + blocks - 1) / blocks;
}

/// The slots' share of the layer below, for all frames at once.
void RecurrentTape::Impl::project(int64_t layer, int64_t way) {
  const auto slots = tile_[layer].slots[way].flatten(0, 1);
  auto target = input_span(slots);
  at::mm_out(target, tile_[layer - 1].output.flatten(0, 1), weights(layer, way).input_t);
  if (!is_lstm()) slots.narrow(1, 3 * hidden_, hidden_).zero_();
}

/// The gradient of the output of the layer below, for all frames at once.
void RecurrentTape::Impl::project_back(int64_t layer, const at::Tensor& input_gradient) {
  auto target = input_gradient.flatten(0, 1);
  for (int64_t way = 0; way < ways_; ++way) {
    const auto gradients = input_span(tile_[layer].slots[way].flatten(0, 1));
    at::addmm_out(target, target, gradients, weights(layer, way).input, way == 0 ? 0 : 1);
  }
}

template <typename scalar_t>
void RecurrentTape::Impl::forward_way(int64_t layer, int64_t way, const at::Tensor& start,
                                      const at::Tensor& difference, const at::Tensor& nodes) {
  const auto& own = weights(layer, way);
  const auto slots = tile_[layer].slots[way], products = hidden_span(slots);
  const auto cell = is_lstm() ? tile_[layer].cell[way] : at::Tensor();
  const auto output = tile_[layer].output.narrow(2, way * hidden_, hidden_);
  const Rows<const scalar_t> zeros{zeros_.const_data_ptr<scalar_t>(), 0};

  ForwardStep<scalar_t> step{};
  step.hidden = hidden_;
  step.clips = clips_;
  step.nodes = nodes.const_data_ptr<scalar_t>();
  if (!is_lstm()) step.candidate_bias = own.candidate_bias.const_data_ptr<scalar_t>();

  const auto block = block_rows();
  // The first layer's products need not go through the tape, which is far larger than any cache.
  const auto scratch = view_of(gate_buffer_, {1, block, 4 * hidden_}, dtype_);
  if (!is_lstm()) input_span(scratch).zero_();
  for (int64_t begin = 0; begin < rows_; begin += block) {
    step.first_row = begin;
    step.rows = std::min(block, rows_ - begin);
    const auto scratch_product = hidden_span(scratch);
    for (int64_t t = 0; t < frames_; ++t) {
      const auto frame = frame_at(way, t);
      if (t > 0) {
        const auto product = layer == 0 ? rows_at<scalar_t>(scratch_product, 0, 0)
                                        : rows_at<scalar_t>(products, frame, begin);
        multiply(rows_at<const scalar_t>(output, frame_at(way, t - 1), begin), step.rows,
                 own.hidden_t, product, layer > 0);
      }
      step.start = rows_at<const scalar_t>(start, frame, 0);
      step.difference = rows_at<const scalar_t>(difference, frame, 0);
      step.slots = rows_at<scalar_t>(slots, frame, begin);
      step.output = rows_at<scalar_t>(output, frame, begin);
      if (layer > 0) {
        step.products = step.slots;
      } else {
        step.products = t > 0 ? rows_at<const scalar_t>(scratch, 0, 0) : zeros;
      }
      if (t == 0) step.previous = zeros;
      if (is_lstm()) {
        step.cell = rows_at<scalar_t>(cell, frame, begin);
        lstm_forward(step);
        step.previous = step.cell;
      } else {
        gru_forward(step);
        step.previous = step.output;
      }
    }
  }
}

at::Tensor RecurrentTape::Impl::forward(const at::Tensor& start, const at::Tensor& difference,
                                        const at::Tensor& nodes) {
  const at::NoGradGuard no_grad;
  const at::AutoDispatchBelowADInplaceOrView no_autograd;  // 2 us less for each product
  const auto stacked = gates_ * hidden_;
  check_on_cpu(start, "start");
  check_on_cpu(difference, "difference");
  check_on_cpu(nodes, "nodes");
  TORCH_CHECK_VALUE(start.dim() == 3 && start.numel() > 0 && start.size(2) == ways_ * stacked,
                    "start: expected (T, n, ", ways_ * stacked, "), got ", start.sizes());
  TORCH_CHECK_VALUE(difference.sizes() == start.sizes(), "difference: expected ", start.sizes(),
                    ", got ", difference.sizes());
  TORCH_CHECK_VALUE(nodes.dim() == 1 && nodes.numel() > 0, "nodes: expected (S,), got ",
                    nodes.sizes());
  const auto first = start.to(dtype_).contiguous(), slope = difference.to(dtype_).contiguous();
  const auto values = nodes.to(dtype_).contiguous();
  resize(start.size(0), start.size(1), nodes.size(0));
  const auto none = zeros_.expand({frames_, clips_, 4 * hidden_});
  for (int64_t layer = 0; layer < layers_; ++layer) {
    for (int64_t way = 0; way < ways_; ++way) {
      if (layer > 0) project(layer, way);
      const auto constant = layer > 0 ? weights(layer, way).bias.expand({frames_, clips_, stacked})
                                      : first.narrow(2, way * stacked, stacked);
      const auto linear = layer > 0 ? none : slope.narrow(2, way * stacked, stacked);
      AT_DISPATCH_FLOATING_TYPES(dtype_, "recurrent_forward", [&] {
        forward_way<scalar_t>(layer, way, constant, linear, values);
      });
    }
  }
  has_tape_ = true;
  return tile_.back().output;
}

/// Beyond the first layer the gates' gradients replace the slots, for the layer below to use; there
/// are no sums.
template <typename scalar_t>
void RecurrentTape::Impl::backward_way(int64_t layer, int64_t way,
                                       const at::Tensor& output_gradient, const at::Tensor& weights,
                                       const at::Tensor& sums) {
  const auto& own = this->weights(layer, way);
  const auto slots = tile_[layer].slots[way], products = hidden_span(slots);
  const auto output = tile_[layer].output.narrow(2, way * hidden_, hidden_);
  const auto states = is_lstm() ? tile_[layer].cell[way] : output;
  const auto gradient = output_gradient.narrow(2, way * hidden_, hidden_);
  const auto block = block_rows();
  const auto scratch = view_of(gate_buffer_, {1, block, 4 * hidden_}, dtype_);
  const auto hidden_carry = view_of(hidden_buffer_, {1, block, hidden_}, dtype_);
  const auto cell_carry = view_of(cell_buffer_, {1, block, hidden_}, dtype_);

  BackwardStep<scalar_t> step{};
  step.hidden = hidden_;
  step.clips = clips_;
  step.hidden_carry = rows_at<scalar_t>(hidden_carry, 0, 0);
  step.cell_carry = rows_at<scalar_t>(cell_carry, 0, 0);
  step.rules = layer == 0 ? weights.size(0) : 0;
  step.weights = weights.const_data_ptr<scalar_t>();
  step.weight_stride = nodes_;
  step.rule_stride = sums.stride(0);

  for (int64_t begin = 0; begin < rows_; begin += block) {
    step.first_row = begin;
    step.rows = std::min(block, rows_ - begin);
    const auto scratch_product = hidden_span(scratch);
    hidden_carry.zero_();
    cell_carry.zero_();
    for (int64_t t = frames_ - 1; t >= 0; --t) {
      const auto frame = frame_at(way, t);
      step.slots = rows_at<const scalar_t>(slots, frame, begin);
      step.output = rows_at<const scalar_t>(output, frame, begin);
      step.output_gradient = rows_at<const scalar_t>(gradient, frame, begin);
      step.previous = t > 0 ? rows_at<const scalar_t>(states, frame_at(way, t - 1), begin)
                            : Rows<const scalar_t>{zeros_.const_data_ptr<scalar_t>(), 0};
      step.gate_gradients =
          layer > 0 ? rows_at<scalar_t>(slots, frame, begin) : rows_at<scalar_t>(scratch, 0, 0);
      step.sums = rows_at<scalar_t>(sums.select(0, 0), frame, 0);
      step.sums.data += way * gates_ * hidden_;
      if (is_lstm()) {
        lstm_backward(step);
      } else {
        gru_backward(step);
      }
      if (t == 0) break;
      const auto from = layer == 0 ? rows_at<const scalar_t>(scratch_product, 0, 0)
                                   : rows_at<const scalar_t>(products, frame, begin);
      multiply(from, step.rows, own.hidden, step.hidden_carry, !is_lstm());
    }
  }
}

at::Tensor RecurrentTape::Impl::backward(const at::Tensor& output_gradient,
                                         const at::Tensor& weights) {
  const at::NoGradGuard no_grad;
  const at::AutoDispatchBelowADInplaceOrView no_autograd;
  TORCH_CHECK_VALUE(has_tape_, "backward: expected a forward pass before each backward pass");
  const auto width = ways_ * hidden_;
  check_on_cpu(output_gradient, "output_gradient");
  check_on_cpu(weights, "weights");
  TORCH_CHECK_VALUE(output_gradient.dim() == 3 && output_gradient.size(0) == frames_ &&
                        (output_gradient.size(1) == rows_ || output_gradient.size(1) == 1) &&
                        output_gradient.size(2) == width,
                    "output_gradient: expected (", frames_, ", ", rows_, " or 1, ", width,
                    "), got ", output_gradient.sizes());
  TORCH_CHECK_VALUE((weights.dim() == 1 || weights.dim() == 2) && weights.numel() > 0 &&
                        weights.size(-1) == nodes_,
                    "weights: expected (", nodes_, ",) or (R, ", nodes_, "), got ",
                    weights.sizes());
  has_tape_ = false;
  const auto rules = weights.to(dtype_).reshape({-1, nodes_}).contiguous();
  auto gradient = output_gradient.to(dtype_);
  if (gradient.stride(2) != 1) gradient = gradient.contiguous();
  gradient = gradient.expand({frames_, rows_, width});
  const auto sums = view_of(sums_buffer_, {rules.size(0), frames_, clips_, width * gates_}, dtype_);
  sums.zero_();
  for (int64_t layer = layers_ - 1; layer >= 0; --layer) {
    for (int64_t way = 0; way < ways_; ++way) {
      AT_DISPATCH_FLOATING_TYPES(dtype_, "recurrent_backward", [&] {
        backward_way<scalar_t>(layer, way, gradient, rules, sums);
      });
    }
    if (layer == 0) break;
    gradient = view_of(gradient_buffer_, {frames_, rows_, width}, dtype_);
    project_back(layer, gradient);
  }
  return weights.dim() == 1 ? sums[0] : sums;
}

RecurrentTape::RecurrentTape(const Recurrent& recurrent, at::ScalarType dtype)
    : impl_(std::make_unique<Impl>(recurrent, dtype)) {}
RecurrentTape::RecurrentTape(RecurrentTape&&) noexcept = default;
RecurrentTape& RecurrentTape::operator=(RecurrentTape&&) noexcept = default;
RecurrentTape::~RecurrentTape() = default;

at::Tensor RecurrentTape::forward(const at::Tensor& start, const at::Tensor& difference,
                                  const at::Tensor& nodes) {
  return impl_->forward(start, difference, nodes);
}

at::Tensor RecurrentTape::backward(const at::Tensor& output_gradient, const at::Tensor& weights) {
  return impl_->backward(output_gradient, weights);
}

}  // namespace fastexai
