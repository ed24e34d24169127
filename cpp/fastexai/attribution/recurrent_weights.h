// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "fastexai/attribution/packed_product.h"
#include "fastexai/attribution/recurrent.h"

namespace fastexai {

/// One direction of one layer, as the products and the steps want it.
struct RecurrentWeights {
  PackedMatrix hidden, hidden_t;  // (G*H, H) and its transpose
  at::Tensor candidate_bias;      // GRU: (H,), the bias of U n
  // Beyond the first layer:
  at::Tensor input, input_t;  // (G*H, D*H) with its rows in the slots' order, and its transpose
  at::Tensor bias;            // (G*H,), PyTorch's order
};

/// Argument and shape of what does not fit, as a ValueError.
void check_recurrent(const Recurrent& recurrent);

/// Of `recurrent.directions[index]`.
RecurrentWeights prepare_weights(const Recurrent& recurrent, int64_t index, at::ScalarType dtype);

}  // namespace fastexai
