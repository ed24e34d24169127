// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/recurrent_cells.h"

#include "fastexai/attribution/activations.h"

namespace fastexai {
namespace {

constexpr int64_t kRowsAhead = 8;  // of the prefetch

/// Walks through a step's rows, which are node-major, without a division per row.
struct RowCursor {
  int64_t clips, node, clip;
  template <typename Step>
  FASTEXAI_INLINE explicit RowCursor(const Step& step)
      : clips(step.clips), node(step.first_row / clips), clip(step.first_row % clips) {}
  FASTEXAI_INLINE void advance() {
    const bool wraps = ++clip == clips;
    clip = wraps ? 0 : clip;
    node += wraps;
  }
};

/// The backward pass reads a tape larger than any cache, in steps too short for the hardware to see
/// far ahead. Asking for rows early takes a tenth off its time.
template <typename scalar_t>
FASTEXAI_INLINE void prefetch(Rows<const scalar_t> rows, int64_t row, int64_t width) {
  constexpr int64_t kLine = 64 / sizeof(scalar_t);
  for (int64_t j = 0; j < width; j += kLine) FASTEXAI_PREFETCH(rows[row] + j);
}

template <typename scalar_t>
FASTEXAI_INLINE void lstm_forward_rows(const ForwardStep<scalar_t>& step) {
  const int64_t hidden = step.hidden;
  RowCursor cursor(step);
  for (int64_t row = 0; row < step.rows; ++row, cursor.advance()) {
    const scalar_t node = step.nodes[cursor.node];
    const scalar_t* start = step.start[cursor.clip];
    const scalar_t* difference = step.difference[cursor.clip];
    const scalar_t* product = step.products[row];
    const scalar_t* previous = step.previous[row];
    scalar_t* slot = step.slots[row];
    scalar_t* cell = step.cell[row];
    scalar_t* output = step.output[row];
    FASTEXAI_INDEPENDENT
    for (int64_t j = 0; j < hidden; ++j) {
      const int64_t jf = j + hidden, jg = j + 2 * hidden, jo = j + 3 * hidden;
      const auto i = sigmoid_fraction(product[j] + start[j] + node * difference[j]);
      const auto f = sigmoid_fraction(product[jf] + start[jf] + node * difference[jf]);
      const auto g = tanh_fraction(product[jg] + start[jg] + node * difference[jg]);
      const auto o = sigmoid_fraction(product[jo] + start[jo] + node * difference[jo]);
      // One division for the four gates. A NaN in one of them reaches the others, as it does in the
      // hidden state one step later in any case.
      const scalar_t i_f = i.denominator * f.denominator, g_o = g.denominator * o.denominator;
      const scalar_t reciprocal = 1 / (i_f * g_o);
      const scalar_t of_i_f = g_o * reciprocal, of_g_o = i_f * reciprocal;
      const scalar_t input = i.numerator * (f.denominator * of_i_f);
      const scalar_t forget = f.numerator * (i.denominator * of_i_f);
      const scalar_t candidate = g.numerator * (o.denominator * of_g_o);
      const scalar_t open = o.numerator * (g.denominator * of_g_o);
      const scalar_t state = forget * previous[j] + input * candidate;
      slot[j] = input;
      slot[jf] = forget;
      slot[jg] = candidate;
      slot[jo] = open;
      cell[j] = state;
    }
    FASTEXAI_INDEPENDENT
    for (int64_t j = 0; j < hidden; ++j) output[j] = slot[j + 3 * hidden] * tanh(cell[j]);
  }
}

template <typename scalar_t>
FASTEXAI_INLINE void gru_forward_rows(const ForwardStep<scalar_t>& step) {
  const int64_t hidden = step.hidden;
  const scalar_t* bias = step.candidate_bias;
  RowCursor cursor(step);
  for (int64_t row = 0; row < step.rows; ++row, cursor.advance()) {
    const scalar_t node = step.nodes[cursor.node];
    const scalar_t* start = step.start[cursor.clip];
    const scalar_t* difference = step.difference[cursor.clip];
    const scalar_t* product = step.products[row];
    const scalar_t* previous = step.previous[row];
    scalar_t* slot = step.slots[row];
    scalar_t* output = step.output[row];
    FASTEXAI_INDEPENDENT
    for (int64_t j = 0; j < hidden; ++j) {
      const int64_t j1 = j + hidden, j2 = j + 2 * hidden, j3 = j + 3 * hidden;
      const auto r = sigmoid_fraction(product[j1] + start[j] + node * difference[j]);
      const auto z = sigmoid_fraction(product[j2] + start[j1] + node * difference[j1]);
      const scalar_t reciprocal = 1 / (r.denominator * z.denominator);
      const scalar_t reset = r.numerator * (z.denominator * reciprocal);
      const scalar_t update = z.numerator * (r.denominator * reciprocal);
      const scalar_t recurrent = product[j3] + bias[j];
      const scalar_t candidate =
          tanh(product[j] + start[j2] + node * difference[j2] + reset * recurrent);
      slot[j] = candidate;
      slot[j1] = reset;
      slot[j2] = update;
      slot[j3] = recurrent;
      output[j] = (1 - update) * candidate + update * previous[j];
    }
  }
}

/// sums += weight * values for each rule, while `values` are still in the first-level cache.
template <typename scalar_t>
FASTEXAI_INLINE void accumulate(const BackwardStep<scalar_t>& step, const RowCursor& cursor,
                                int64_t offset, const scalar_t* values, int64_t count) {
  for (int64_t rule = 0; rule < step.rules; ++rule) {
    const scalar_t weight = step.weights[rule * step.weight_stride + cursor.node];
    scalar_t* sums = step.sums[cursor.clip] + rule * step.rule_stride + offset;
    FASTEXAI_INDEPENDENT
    for (int64_t j = 0; j < count; ++j) sums[j] += weight * values[j];
  }
}

template <typename scalar_t>
FASTEXAI_INLINE void lstm_backward_rows(const BackwardStep<scalar_t>& step) {
  const int64_t hidden = step.hidden;
  RowCursor cursor(step);
  for (int64_t row = 0; row < step.rows; ++row, cursor.advance()) {
    const int64_t soon = row + kRowsAhead < step.rows ? row + kRowsAhead : step.rows - 1;
    prefetch(step.slots, soon, 4 * hidden);
    prefetch(step.previous, soon, hidden);
    prefetch(step.output, soon, hidden);
    const scalar_t* slot = step.slots[row];
    const scalar_t* previous = step.previous[row];
    const scalar_t* output = step.output[row];
    const scalar_t* output_gradient = step.output_gradient[row];
    const scalar_t* hidden_carry = step.hidden_carry[row];
    scalar_t* cell_carry = step.cell_carry[row];
    scalar_t* gradient = step.gate_gradients[row];
    FASTEXAI_INDEPENDENT
    for (int64_t j = 0; j < hidden; ++j) {
      const int64_t jf = j + hidden, jg = j + 2 * hidden, jo = j + 3 * hidden;
      const scalar_t i = slot[j], f = slot[jf], g = slot[jg], o = slot[jo];
      // tanh(c) from h = o * tanh(c): dearer to keep than to divide. Where o underflows to 0, so
      // does everything that tanh(c) takes part in.
      const scalar_t tanh_cell = o > 0 ? output[j] / o : scalar_t(0);
      const scalar_t hidden_gradient = (output_gradient[j] + hidden_carry[j]) * o;
      const scalar_t cell_gradient = cell_carry[j] + hidden_gradient * (1 - tanh_cell * tanh_cell);
      cell_carry[j] = cell_gradient * f;
      gradient[j] = cell_gradient * g * i * (1 - i);
      gradient[jf] = cell_gradient * previous[j] * f * (1 - f);
      gradient[jg] = cell_gradient * i * (1 - g * g);
      gradient[jo] = hidden_gradient * tanh_cell * (1 - o);
    }
    accumulate(step, cursor, 0, gradient, 4 * hidden);
  }
}

template <typename scalar_t>
FASTEXAI_INLINE void gru_backward_rows(const BackwardStep<scalar_t>& step) {
  const int64_t hidden = step.hidden;
  RowCursor cursor(step);
  for (int64_t row = 0; row < step.rows; ++row, cursor.advance()) {
    const int64_t soon = row + kRowsAhead < step.rows ? row + kRowsAhead : step.rows - 1;
    prefetch(step.slots, soon, 4 * hidden);
    prefetch(step.previous, soon, hidden);
    const scalar_t* slot = step.slots[row];
    const scalar_t* previous = step.previous[row];
    const scalar_t* output_gradient = step.output_gradient[row];
    scalar_t* carry = step.hidden_carry[row];
    scalar_t* gradient = step.gate_gradients[row];
    FASTEXAI_INDEPENDENT
    for (int64_t j = 0; j < hidden; ++j) {
      const int64_t j1 = j + hidden, j2 = j + 2 * hidden, j3 = j + 3 * hidden;
      const scalar_t n = slot[j], r = slot[j1], z = slot[j2], recurrent = slot[j3];
      const scalar_t hidden_gradient = output_gradient[j] + carry[j];
      const scalar_t candidate_gradient = hidden_gradient * (1 - z) * (1 - n * n);
      carry[j] = hidden_gradient * z;
      gradient[j] = candidate_gradient;
      gradient[j1] = candidate_gradient * recurrent * r * (1 - r);
      gradient[j2] = hidden_gradient * (previous[j] - n) * z * (1 - z);
      gradient[j3] = candidate_gradient * r;
    }
    accumulate(step, cursor, 2 * hidden, gradient, hidden);
    accumulate(step, cursor, 0, gradient + hidden, 2 * hidden);
  }
}

}  // namespace

// A clone cannot be a template: one line per type.
FASTEXAI_SIMD_CLONES void lstm_forward(const ForwardStep<float>& step) { lstm_forward_rows(step); }
FASTEXAI_SIMD_CLONES void lstm_forward(const ForwardStep<double>& step) { lstm_forward_rows(step); }
FASTEXAI_SIMD_CLONES void lstm_backward(const BackwardStep<float>& step) {
  lstm_backward_rows(step);
}
FASTEXAI_SIMD_CLONES void lstm_backward(const BackwardStep<double>& step) {
  lstm_backward_rows(step);
}
FASTEXAI_SIMD_CLONES void gru_forward(const ForwardStep<float>& step) { gru_forward_rows(step); }
FASTEXAI_SIMD_CLONES void gru_forward(const ForwardStep<double>& step) { gru_forward_rows(step); }
FASTEXAI_SIMD_CLONES void gru_backward(const BackwardStep<float>& step) { gru_backward_rows(step); }
FASTEXAI_SIMD_CLONES void gru_backward(const BackwardStep<double>& step) {
  gru_backward_rows(step);
}

}  // namespace fastexai
