// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/frames.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

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

at::Tensor empty_result(at::IntArrayRef sizes, const at::TensorOptions& options) {
  auto result = at::empty(sizes, options);
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t kPage = 4096, kLarge = uintptr_t{1} << 22;
  if (result.nbytes() >= kLarge) {
    const auto begin = reinterpret_cast<uintptr_t>(result.data_ptr());
    const uintptr_t first = (begin + kPage - 1) / kPage * kPage;
    madvise(reinterpret_cast<void*>(first), begin + result.nbytes() - first, MADV_HUGEPAGE);
  }
#endif
  return result;
}

FASTEXAI_SIMD_CLONES bool is_detected(const float* values, int64_t count) {
  return all_finite(values, count);
}
FASTEXAI_SIMD_CLONES bool is_detected(const double* values, int64_t count) {
  return all_finite(values, count);
}

}  // namespace fastexai
