// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/alignment.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <limits>

#include "fastexai/check.h"
#include "fastexai/landmarks/frames.h"
#include "fastexai/result_memory.h"

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
      std::array<const scalar_t*, kBlock> faces;
      std::array<std::optional<Similarity<scalar_t>>, kBlock> fits;
      for (int64_t first = begin; first < end; first += kBlock) {
        const auto block = static_cast<int>(std::min<int64_t>(kBlock, end - first));
        for (int m = 0; m < block; ++m) faces[m] = source + (first + m) * in.stride(0);
        std::visit([&](const auto& known) { fit(faces.data(), block, known, fits.data()); },
                   alignment);
        for (int m = 0; m < block; ++m) {
          const int64_t f = first + m;
          if (f + kBlock < end) prefetch(faces[m] + kBlock * in.stride(0), 3 * count);
          auto* aligned = target + f * 3 * count;
          if (fits[m])
            transform(*fits[m], faces[m], aligned, count);
          else
            std::fill_n(aligned, 3 * count, std::numeric_limits<scalar_t>::quiet_NaN());
        }
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
