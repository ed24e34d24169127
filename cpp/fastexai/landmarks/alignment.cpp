// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/alignment.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>

#include "fastexai/check.h"
#include "fastexai/landmarks/frames.h"

namespace fastexai {
namespace {

constexpr int64_t kFramesPerTask = 128;  // far more work than waking a thread

}  // namespace

void check_alignment(const Alignment& alignment, int64_t landmarks) {
  const auto* eyes = std::get_if<EyeCorners>(&alignment);
  if (eyes == nullptr) return;  // `read_reference` has checked the other one
  for (const int64_t corner :
       {eyes->right_outer, eyes->right_inner, eyes->left_inner, eyes->left_outer})
    TORCH_CHECK_VALUE(corner >= 0 && corner < landmarks, "eyes: expected landmark indices in [0, ",
                      landmarks, "), got ", corner);
}

at::Tensor align(const at::Tensor& landmarks, const Alignment& alignment) {
  check_landmarks(landmarks, "landmarks");
  const int64_t count = landmarks.size(-2);
  check_alignment(alignment, count);
  const auto in = as_frames(landmarks);
  auto out = empty_result(landmarks.sizes(), landmarks.options());
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "align", [&] {
    const auto* source = in.const_data_ptr<scalar_t>();
    auto* target = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, in.size(0), kFramesPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t f = begin; f < end; ++f) {
        const auto* face = source + f * in.stride(0);
        auto* aligned = target + f * 3 * count;
        if (f + 1 < end) prefetch(face + in.stride(0), 3 * count);
        const auto fitted =
            std::visit([&](const auto& known) { return fit(face, known); }, alignment);
        if (fitted)
          transform(*fitted, face, aligned, count);
        else
          std::fill_n(aligned, 3 * count, std::numeric_limits<scalar_t>::quiet_NaN());
      }
    });
  });
  return out;
}

at::Tensor align_to_reference(const at::Tensor& landmarks, const at::Tensor& reference,
                              const at::Tensor& basis) {
  check_landmarks(landmarks, "landmarks");
  return align(landmarks, read_reference(reference, basis, landmarks.size(-2)));
}

}  // namespace fastexai
