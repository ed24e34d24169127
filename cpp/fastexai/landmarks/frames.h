// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "fastexai/simd.h"

namespace fastexai {

/// Landmarks (..., L, 3) as frames (F, L, 3), each of them dense in memory; the frames may lie
/// anywhere. Copies only where a view cannot do that.
at::Tensor as_frames(const at::Tensor& landmarks);

/// Asks for a frame that is needed next, while another one is being worked on: the landmarks that a
/// fit reads lie scattered, where the processor does not see them coming.
template <typename scalar_t>
void prefetch(const scalar_t* values, int64_t count) {
  constexpr auto kLine = static_cast<int64_t>(64 / sizeof(scalar_t));
  for (int64_t i = 0; i < count; i += kLine) FASTEXAI_PREFETCH(values + i);
}

/// Whether all of a frame's values are finite: a face was found.
bool is_detected(const float* values, int64_t count);
bool is_detected(const double* values, int64_t count);

}  // namespace fastexai
