// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "fastexai/attribution/rows.h"

/// One time step of LSTM and GRU cells for many rows, element by element: what remains of a
/// recurrence when its matrix products are taken out. Vectorised; one thread.
///
/// Rows are node-major: row = node * clips + clip. A step covers rows [first_row, first_row + rows)
/// of the tile; its own `Rows` count from first_row, those said to be per clip are indexed by clip.
namespace fastexai {

/// Note [Gate slots]
/// A row has a slot of 4 * hidden numbers per frame. The forward step turns products (W: input
/// weights, beyond the first layer; U: hidden weights) into what the backward step needs; the
/// backward step writes gradients in the same layout, into the slots themselves if told so.
///
///                LSTM                  GRU
///   products     of i, f, g, o         W n,  W r + U r,  W z + U z,  U n
///   forward      i, f, g, o            n, r, z, U n + its bias
///   backward     gradients of i f g o  gradients of n, r, z, U n
///
/// The GRU's order makes two overlapping spans of 3 * hidden contiguous: the first is exchanged
/// with the layer below, the last with the hidden state.

template <typename scalar_t>
struct ForwardStep {
  int64_t hidden, clips, first_row, rows;
  const scalar_t* nodes;  // all nodes of the tile
  // Per clip, PyTorch's gate order: start + node * difference is added to the products.
  Rows<const scalar_t> start, difference;
  const scalar_t* candidate_bias;  // GRU: the bias of U n

  Rows<const scalar_t> products;
  Rows<const scalar_t> previous;  // cell state (LSTM) or hidden state (GRU) one step earlier
  Rows<scalar_t> slots;           // may be `products`
  Rows<scalar_t> cell;            // LSTM
  Rows<scalar_t> output;          // the hidden state
};

template <typename scalar_t>
struct BackwardStep {
  int64_t hidden, clips, first_row, rows;
  Rows<const scalar_t> slots, previous, output;  // as the forward step had and left them
  Rows<const scalar_t> output_gradient;
  // The hidden state's gradient from later steps. The GRU replaces it by the elementwise part of
  // the gradient one step earlier, to which the product with U adds.
  Rows<scalar_t> hidden_carry;
  Rows<scalar_t> cell_carry;      // LSTM: the cell state's gradient from later steps; in and out
  Rows<scalar_t> gate_gradients;  // may be `slots`

  // For each rule, the node-weighted sums of the gradients of start + node * difference.
  int64_t rules;            // 0: not wanted
  const scalar_t* weights;  // (rules, nodes)
  int64_t weight_stride;
  Rows<scalar_t> sums;  // per clip, PyTorch's gate order; added to
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
