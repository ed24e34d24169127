// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// One time step of LSTM and GRU cells for many rows, element by element: what remains of a
/// recurrence when its matrix products are taken out. Vectorised; one thread.
///
/// Rows are node-major: row = node * clips + clip. A step covers rows [first_row, first_row + rows)
/// of the tile. `Rows` that are "of the step" are indexed from 0, those "per clip" by clip.
///
/// Four values per cell are kept for the backward step, in the order of Note [Gate slots].
namespace fastexai {

/// Note [Gate slots]
/// A row's slot is 4 * hidden wide. The matrix products write into it, the forward step overwrites
/// what it reads there, the backward step may do the same:
///
///                LSTM                           GRU
///   projections  i, f, g, o                     W n | W r + U r, W z + U z, U n
///   forward      i, f, g, o (activated)         n, r, z (activated), U n + bias
///   backward     gradients of i, f, g, o        gradients of n, r, z, U n
///
/// The GRU's order makes two overlapping spans of 3 * hidden contiguous: the first one is what a
/// lower layer (or the input) sends and receives, the last one is what the hidden state does.

/// A matrix with `stride` elements from row to row; stride 0 repeats one row.
template <typename scalar_t>
struct Rows {
  scalar_t* data = nullptr;
  int64_t stride = 0;
  scalar_t* operator[](int64_t row) const { return data + row * stride; }
  operator Rows<const scalar_t>() const { return {data, stride}; }
};

template <typename scalar_t>
struct ForwardStep {
  int64_t hidden, clips, first_row, rows;
  const scalar_t* nodes;               // one per node of the tile
  Rows<const scalar_t> start;          // per clip, PyTorch's gate order: added to the projections,
  Rows<const scalar_t> difference;     //   together with node * difference
  const scalar_t* candidate_bias;      // GRU: the part of n's bias inside r * (...)
  Rows<const scalar_t> projections;    // of the step, a slot's layout; may be `slots`
  Rows<const scalar_t> previous;       // of the step: cell state (LSTM), hidden state (GRU)
  Rows<scalar_t> slots, cell, output;  // of the step; cell: LSTM only
};

template <typename scalar_t>
struct BackwardStep {
  int64_t hidden, clips, first_row, rows;
  Rows<const scalar_t> slots, previous, output;  // of the step, as the forward step left them
  Rows<const scalar_t> output_gradient;          // of the step
  Rows<scalar_t>
      hidden_carry;           // of the step: gradient of the hidden state from later steps. The GRU
                              //   leaves here the part of its predecessor's without the product
  Rows<scalar_t> cell_carry;  // of the step, LSTM: gradient of the cell state, in and out
  Rows<scalar_t> gate_gradients;  // of the step, a slot's layout; may be `slots`

  // Node-weighted sums of the gradients of the first span of each slot, PyTorch's gate order.
  int64_t rules;            // 0: no sums are wanted
  const scalar_t* weights;  // (rules, nodes), nodes in all = weight_stride
  int64_t weight_stride;
  Rows<scalar_t> sums;  // per clip; added to
  int64_t rule_stride;  // from one rule's sums to the next
};

void lstm_forward(const ForwardStep<float>& step);
void lstm_forward(const ForwardStep<double>& step);
void lstm_backward(const BackwardStep<float>& step);
void lstm_backward(const BackwardStep<double>& step);
void gru_forward(const ForwardStep<float>& step);
void gru_forward(const ForwardStep<double>& step);
void gru_backward(const BackwardStep<float>& step);
void gru_backward(const BackwardStep<double>& step);

}  // namespace fastexai
