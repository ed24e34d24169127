// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace fastexai {

enum class RecurrentKind { kLstm, kGru };

/// One direction of one layer. Gates stacked in PyTorch's order: i f g o (LSTM), r z n (GRU).
struct RecurrentDirection {
  at::Tensor input_weight;   // (G*H, I)
  at::Tensor hidden_weight;  // (G*H, H)
  at::Tensor input_bias;     // (G*H,) or undefined
  at::Tensor hidden_bias;    // (G*H,) or undefined
};

/// A recurrent network that starts from zero states. Float32 or float64, CPU.
struct Recurrent {
  RecurrentKind kind = RecurrentKind::kLstm;
  int64_t hidden = 0;  // H
  bool bidirectional = false;
  std::vector<RecurrentDirection>
      directions;  // layer-major: layer 0 forward, layer 0 backward, ...

  int64_t gates() const { return kind == RecurrentKind::kLstm ? 4 : 3; }  // G
  int64_t ways() const { return bidirectional ? 2 : 1; }                  // D
  int64_t layers() const { return static_cast<int64_t>(directions.size()) / ways(); }
};

/// Weight (D*G*H, I) and bias (D*G*H,) of the affine map from a frame to the first layer's gate
/// pre-activations, both directions stacked. The GRU's hidden bias of n is not in it: it stands
/// inside r * (...).
std::pair<at::Tensor, at::Tensor> first_projection(const Recurrent& recurrent);

/// What a RecurrentTape holds per row (node of a clip), in bytes; its weights come on top.
int64_t bytes_per_row(const Recurrent& recurrent, int64_t frames, at::ScalarType dtype);

/// A recurrence at all nodes of a tile of clips, forward and then backward. On IG's straight path
/// the first layer's pre-activations are `start + node * difference`, so that is all it is given.
///
/// Keeps what the backward pass needs; a tile no larger than one before allocates nothing. What it
/// returns lies in its memory: read-only, and valid until the next `forward`. One tape per thread;
/// rows do not depend on each other, so how clips and nodes are tiled changes rounding at most.
class RecurrentTape {
 public:
  RecurrentTape(const Recurrent& recurrent, at::ScalarType dtype);
  RecurrentTape(RecurrentTape&&) noexcept;
  RecurrentTape& operator=(RecurrentTape&&) noexcept;
  ~RecurrentTape();

  ///   start, difference  (T, n, D*G*H)
  ///   nodes              (S,)
  ///   returns            (T, S*n, D*H), the last layer's output; row = node * n + clip
  at::Tensor forward(const at::Tensor& start, const at::Tensor& difference,
                     const at::Tensor& nodes);

  /// Once per `forward`, as it overwrites the tape.
  ///   output_gradient  (T, S*n, D*H), or (T, 1, D*H) for all rows alike; may be expanded
  ///   weights          (S,), or (R, S) for R rules over the same nodes
  ///   returns          (T, n, D*G*H) or (R, T, n, D*G*H): for each clip, the weighted sum over its
  ///                    nodes of the gradient with respect to the pre-activations
  at::Tensor backward(const at::Tensor& output_gradient, const at::Tensor& weights);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fastexai
