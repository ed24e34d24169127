// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/frames.h"

#include <cmath>
#include <limits>

#include "fastexai/simd.h"

namespace fastexai {
namespace {

template <typename scalar_t>
FASTEXAI_INLINE bool all_finite(const scalar_t* values, int64_t count) {
  int others = 0;  // no early exit: most frames are detected, and this loop is vectorised
  for (int64_t i = 0; i < count; ++i)
    others |= !(std::abs(values[i]) <= std::numeric_limits<scalar_t>::max());
  return others == 0;
}

}  // namespace

at::Tensor as_frames(const at::Tensor& landmarks) {
  const auto frames = landmarks.dim() == 2 ? landmarks.unsqueeze(0) : landmarks.flatten(0, -3);
  return frames.stride(2) == 1 && frames.stride(1) == 3 ? frames : frames.contiguous();
}

FASTEXAI_SIMD_CLONES bool is_detected(const float* values, int64_t count) {
  return all_finite(values, count);
}
FASTEXAI_SIMD_CLONES bool is_detected(const double* values, int64_t count) {
  return all_finite(values, count);
}

}  // namespace fastexai
