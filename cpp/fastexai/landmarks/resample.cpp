// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/resample.h"

#include <ATen/Dispatch.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "fastexai/check.h"

namespace fastexai {
namespace {

/// Indices of the frames in which every coordinate is known.
template <typename scalar_t>
std::vector<int64_t> detected_frames(const scalar_t* data, int64_t frames, int64_t stride) {
  std::vector<int64_t> detected;
  for (int64_t t = 0; t < frames; ++t) {
    const auto* frame = data + t * stride;
    if (std::none_of(frame, frame + stride, [](scalar_t v) { return std::isnan(v); }))
      detected.push_back(t);
  }
  return detected;
}

void check_timestamps(const at::Tensor& timestamps, int64_t frames) {
  TORCH_CHECK_VALUE(timestamps.dim() == 1 && timestamps.size(0) == frames, "timestamps: expected (",
                    frames, ",), got ", timestamps.sizes());
  TORCH_CHECK_TYPE(timestamps.scalar_type() == at::kDouble, "timestamps: expected float64, got ",
                   timestamps.scalar_type());
  const auto* seconds = timestamps.const_data_ptr<double>();
  for (int64_t t = 0; t < frames; ++t)
    TORCH_CHECK_VALUE(std::isfinite(seconds[t]) && (t == 0 || seconds[t] > seconds[t - 1]),
                      "timestamps: expected strictly increasing seconds, got ", seconds[t],
                      " at frame ", t);
}

}  // namespace

at::Tensor resample(const at::Tensor& landmarks, const at::Tensor& timestamps, int64_t frames) {
  check_landmarks(landmarks, "landmarks");
  TORCH_CHECK_VALUE(landmarks.dim() == 3, "landmarks: expected (T, L, 3), got ", landmarks.sizes());
  TORCH_CHECK_VALUE(frames >= 1, "frames: expected at least 1, got ", frames);
  const auto in = landmarks.contiguous();
  const auto times = timestamps.contiguous();
  const int64_t length = in.size(0), stride = in.size(1) * 3;
  check_timestamps(times, length);
  auto out = at::empty({frames, in.size(1), 3}, in.options());
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "resample", [&] {
    const auto* source = in.const_data_ptr<scalar_t>();
    auto* target = out.mutable_data_ptr<scalar_t>();
    const auto* seconds = times.const_data_ptr<double>();
    const auto detected = detected_frames(source, length, stride);
    TORCH_CHECK_VALUE(!detected.empty(), "landmarks: expected a face in at least one frame, got ",
                      length, " frames without one");
    size_t after = 0;  // the first detected frame that is not before the wanted instant
    for (int64_t f = 0; f < frames; ++f) {
      const double share = frames == 1 ? 0.5 : static_cast<double>(f) / (frames - 1);
      const double wanted = seconds[0] + share * (seconds[length - 1] - seconds[0]);
      while (after < detected.size() && seconds[detected[after]] < wanted) ++after;
      const int64_t right = detected[std::min(after, detected.size() - 1)];
      const int64_t left = after == 0 ? right : detected[after - 1];
      const double span = seconds[right] - seconds[left];
      const auto alpha = static_cast<scalar_t>(span > 0 ? (wanted - seconds[left]) / span : 0);
      const auto *a = source + left * stride, *b = source + right * stride;
      auto* result = target + f * stride;
      for (int64_t k = 0; k < stride; ++k) result[k] = a[k] + alpha * (b[k] - a[k]);
    }
  });
  return out;
}

}  // namespace fastexai
