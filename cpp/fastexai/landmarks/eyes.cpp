// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/eyes.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "fastexai/check.h"

namespace fastexai {
namespace {

constexpr int64_t kFramesPerTask = 16;

/// The in-plane similarity transform of one frame: p -> R (p - origin) / scale.
template <typename scalar_t>
struct EyeFrame {
  std::array<scalar_t, 3> origin;
  scalar_t cosine, sine;  // already divided by the scale
  scalar_t inverse_scale;
};

template <typename scalar_t>
EyeFrame<scalar_t> eye_frame(const scalar_t* face, const EyeCorners& eyes) {
  std::array<double, 3> right{}, left{}, origin{};
  double distance = 0;
  for (int k = 0; k < 3; ++k) {
    const double right_outer = face[3 * eyes.right_outer + k];
    const double left_outer = face[3 * eyes.left_outer + k];
    right[k] = 0.5 * (right_outer + face[3 * eyes.right_inner + k]);
    left[k] = 0.5 * (left_outer + face[3 * eyes.left_inner + k]);
    origin[k] = 0.5 * (right[k] + left[k]);
    distance += (left_outer - right_outer) * (left_outer - right_outer);
  }
  const double inverse_scale = 1 / std::sqrt(distance);
  const double dx = left[0] - right[0], dy = left[1] - right[1];
  const double inverse_length = 1 / std::hypot(dx, dy);
  return {{static_cast<scalar_t>(origin[0]), static_cast<scalar_t>(origin[1]),
           static_cast<scalar_t>(origin[2])},
          static_cast<scalar_t>(dx * inverse_length * inverse_scale),
          static_cast<scalar_t>(dy * inverse_length * inverse_scale),
          static_cast<scalar_t>(inverse_scale)};
}

template <typename scalar_t>
void align_frame(const scalar_t* in, scalar_t* out, int64_t landmarks, const EyeCorners& eyes) {
  const auto frame = eye_frame(in, eyes);
  // Eye corners that coincide, or are missing, define no frame of reference.
  if (!std::isfinite(frame.cosine) || !std::isfinite(frame.sine)) {
    std::fill(out, out + 3 * landmarks, std::numeric_limits<scalar_t>::quiet_NaN());
    return;
  }
  for (int64_t i = 0; i < landmarks; ++i) {
    const scalar_t x = in[3 * i] - frame.origin[0];
    const scalar_t y = in[3 * i + 1] - frame.origin[1];
    const scalar_t z = in[3 * i + 2] - frame.origin[2];
    out[3 * i] = frame.cosine * x + frame.sine * y;
    out[3 * i + 1] = frame.cosine * y - frame.sine * x;
    out[3 * i + 2] = frame.inverse_scale * z;
  }
}

}  // namespace

at::Tensor align_eyes(const at::Tensor& landmarks, const EyeCorners& eyes) {
  check_landmarks(landmarks, "landmarks");
  const int64_t count = landmarks.size(-2);
  for (const int64_t corner :
       {eyes.right_outer, eyes.right_inner, eyes.left_inner, eyes.left_outer})
    TORCH_CHECK_VALUE(corner >= 0 && corner < count, "eyes: expected landmark indices in [0, ",
                      count, "), got ", corner);
  const auto in = landmarks.contiguous();
  auto out = at::empty_like(in);
  const int64_t stride = 3 * count;
  const int64_t frames = in.numel() / stride;
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "align_eyes", [&] {
    const auto* source = in.const_data_ptr<scalar_t>();
    auto* target = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, frames, kFramesPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t f = begin; f < end; ++f)
        align_frame(source + f * stride, target + f * stride, count, eyes);
    });
  });
  return out;
}

}  // namespace fastexai
