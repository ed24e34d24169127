// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "fastexai/landmarks/frames.h"

namespace fastexai {

/// Checks that landmarks are (T, L, 3) and timestamps (T,) float64, finite, strictly increasing.
void check_clip(const at::Tensor& landmarks, const at::Tensor& timestamps);

/// Where an instant lies between two detected frames; `left` is -1 where no frame may speak for it.
struct Place {
  int64_t left, right;
  double alpha;  // 0 at `left`, 1 at `right`
};

/// Places increasing instants between the detected frames of a clip. Before the first and after the
/// last of them the nearest one is held. Gaps of more than `max_gap` frames are not bridged.
///   seconds   (frames,), strictly increasing
///   detected  indices of frames, increasing, at least one
std::vector<Place> place(const std::vector<double>& instants, const double* seconds, int64_t frames,
                         const std::vector<int64_t>& detected,
                         std::optional<int64_t> max_gap = std::nullopt);

/// `count` instants evenly spaced from the first to the last; the middle, where it is one.
std::vector<double> even_instants(double first, double last, int64_t count);

/// Indices of the frames, `stride` apart and of `values` values, in which a face was found.
template <typename scalar_t>
std::vector<int64_t> detected_frames(const scalar_t* data, int64_t frames, int64_t stride,
                                     int64_t values) {
  std::vector<int64_t> detected;
  for (int64_t t = 0; t < frames; ++t)
    if (is_detected(data + t * stride, values)) detected.push_back(t);
  return detected;
}

/// Resamples a clip to `frames` instants evenly spaced over its duration, linearly in time (not in
/// index), bridging gaps as `place` does; instants in longer gaps are NaN. Thread-safe.
///   landmarks   (T, L, 3) float32 or float64, CPU; a frame with any NaN or Inf is "not detected"
///   timestamps  (T,) float64, seconds, strictly increasing
///   max_gap     frames; every gap, if none
///   returns     (frames, L, 3)
/// Throws a ValueError where no frame has a face.
at::Tensor resample(const at::Tensor& landmarks, const at::Tensor& timestamps, int64_t frames,
                    std::optional<int64_t> max_gap = std::nullopt);

/// The same at the clip's own instants: detected frames stay as they are, gaps of up to `max_gap`
/// frames are filled, longer ones are NaN. A clip without a face stays without one.
at::Tensor fill_gaps(const at::Tensor& landmarks, const at::Tensor& timestamps, int64_t max_gap);

}  // namespace fastexai
