// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/resample.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "fastexai/check.h"
#include "fastexai/landmarks/similarity.h"
#include "fastexai/result_memory.h"

namespace fastexai {
namespace {

// Waking a thread takes as long as some hundred frames, and far longer where cores are busy.
constexpr int64_t kFramesPerTask = 256;
constexpr double kSameInstant = 1e-9;  // of a clip's duration: what rounding may move an instant

void check_max_gap(std::optional<int64_t> max_gap) {
  TORCH_CHECK_VALUE(max_gap.value_or(0) >= 0, "max_gap: expected a number of frames from 0, got ",
                    *max_gap);
}

/// Writes what is at each place.
at::Tensor interpolate(const at::Tensor& in, const std::vector<Place>& places) {
  const auto count = static_cast<int64_t>(places.size());
  auto out = empty_result({count, in.size(1), 3}, in.options());
  const int64_t values = 3 * in.size(1);
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "interpolate", [&] {
    const auto* source = in.const_data_ptr<scalar_t>();
    auto* target = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, count, kFramesPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t f = begin; f < end; ++f) {
        const auto [left, right, alpha] = places[f];
        auto* result = target + f * values;
        if (left < 0) {
          std::fill_n(result, values, std::numeric_limits<scalar_t>::quiet_NaN());
          continue;
        }
        const auto *a = source + left * in.stride(0), *b = source + right * in.stride(0);
        const auto share = static_cast<scalar_t>(alpha);
        for (int64_t k = 0; k < values; ++k) result[k] = a[k] + share * (b[k] - a[k]);
      }
    });
  });
  return out;
}

std::vector<int64_t> find_detected(const at::Tensor& frames) {
  return AT_DISPATCH_FLOATING_TYPES(frames.scalar_type(), "detected_frames", [&] {
    return detected_frames(frames.const_data_ptr<scalar_t>(), frames.size(0), frames.stride(0),
                           3 * frames.size(1));
  });
}

}  // namespace

void check_clip(const at::Tensor& landmarks, const at::Tensor& timestamps) {
  check_landmarks(landmarks, "landmarks");
  TORCH_CHECK_VALUE(landmarks.dim() == 3, "landmarks: expected (T, L, 3), got ", landmarks.sizes());
  const int64_t frames = landmarks.size(0);
  TORCH_CHECK_VALUE(timestamps.dim() == 1 && timestamps.size(0) == frames, "timestamps: expected (",
                    frames, ",), got ", timestamps.sizes());
  TORCH_CHECK_TYPE(timestamps.scalar_type() == at::kDouble, "timestamps: expected float64, got ",
                   timestamps.scalar_type());
  const auto seconds = timestamps.accessor<double, 1>();
  for (int64_t t = 0; t < frames; ++t)
    TORCH_CHECK_VALUE(std::isfinite(seconds[t]) && (t == 0 || seconds[t] > seconds[t - 1]),
                      "timestamps: expected strictly increasing seconds, got ", seconds[t],
                      " at frame ", t);
}

std::vector<double> even_instants(double first, double last, int64_t count) {
  std::vector<double> instants(count);
  for (int64_t f = 0; f < count; ++f) {
    const double share = count == 1 ? 0.5 : static_cast<double>(f) / (count - 1);
    instants[f] = first + share * (last - first);
  }
  return instants;
}

std::vector<Place> place(const std::vector<double>& instants, const double* seconds, int64_t frames,
                         const std::vector<int64_t>& detected, std::optional<int64_t> max_gap) {
  const double same = kSameInstant * (seconds[frames - 1] - seconds[0]);
  std::vector<Place> places;
  places.reserve(instants.size());
  size_t next = 0;  // the first detected frame that is not before the instant
  for (const double instant : instants) {
    while (next < detected.size() && seconds[detected[next]] < instant) ++next;
    const int64_t before = next == 0 ? -1 : detected[next - 1];
    const int64_t after = next == detected.size() ? frames : detected[next];
    const int64_t right = after == frames ? before : after;
    // At a frame's own instant it alone speaks, to the last digit.
    const int64_t left = before < 0 || instant == seconds[right] ? right : before;
    const bool at_a_frame =
        std::min(std::abs(instant - seconds[left]), std::abs(instant - seconds[right])) <= same;
    const double span = seconds[right] - seconds[left];
    if (after - before - 1 > max_gap.value_or(frames) && !at_a_frame)
      places.push_back({-1, -1, 0});
    else
      places.push_back({left, right, span > 0 ? (instant - seconds[left]) / span : 0});
  }
  return places;
}

at::Tensor resample(const at::Tensor& landmarks, const at::Tensor& timestamps, int64_t frames,
                    std::optional<int64_t> max_gap) {
  check_clip(landmarks, timestamps);
  TORCH_CHECK_VALUE(frames >= 1, "frames: expected at least 1, got ", frames);
  check_max_gap(max_gap);
  const auto in = as_frames(landmarks);
  const auto times = timestamps.contiguous();
  const auto detected = find_detected(in);
  TORCH_CHECK_VALUE(!detected.empty(), "landmarks: expected a face in at least one frame, got ",
                    in.size(0), " frames without one");
  const auto* seconds = times.const_data_ptr<double>();
  const auto instants = even_instants(seconds[0], seconds[in.size(0) - 1], frames);
  return interpolate(in, place(instants, seconds, in.size(0), detected, max_gap));
}

at::Tensor fill_gaps(const at::Tensor& landmarks, const at::Tensor& timestamps, int64_t max_gap) {
  check_clip(landmarks, timestamps);
  check_max_gap(max_gap);
  const auto in = as_frames(landmarks);
  const auto times = timestamps.contiguous();
  const auto detected = find_detected(in);
  if (detected.empty()) return at::full_like(in, NAN);
  const auto* seconds = times.const_data_ptr<double>();
  const std::vector<double> instants(seconds, seconds + in.size(0));
  return interpolate(in, place(instants, seconds, in.size(0), detected, max_gap));
}

}  // namespace fastexai
