// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

namespace fastexai {

/// Resamples a clip to `frames` instants evenly spaced over its duration, linearly in time (not in
/// index), bridging frames without a face. Before the first and after the last detected frame the
/// nearest detected one is held. Thread-safe.
///   landmarks   (T, L, 3) float32 or float64, CPU; a frame with any NaN means "not detected"
///   timestamps  (T,) float64, seconds, strictly increasing
///   returns     (frames, L, 3), without NaN
/// Throws a ValueError where no frame has a face.
at::Tensor resample(const at::Tensor& landmarks, const at::Tensor& timestamps, int64_t frames);

}  // namespace fastexai
