// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "fastexai/landmarks/alignment.h"
#include "fastexai/landmarks/one_euro.h"

namespace fastexai {

/// What is done to raw clips, in this order.
struct Normalization {
  Alignment alignment;
  std::optional<OneEuro> smoothing;
  int64_t frames;              // resampled to so many, every gap bridged
  int64_t neutral_frames = 0;  // their mean is taken off, if any: displacements remain
};

struct NormalizedClips {
  at::Tensor landmarks;    // (N, frames, L, 3); NaN where a clip has no face
  at::Tensor detected;     // (N,) int64, frames with a face
  at::Tensor longest_gap;  // (N,) int64, most frames in a row without one
};

/// Brings raw clips to one length and place in one pass over memory: a clip's frames are aligned
/// while they are blended into the resampled ones, straight into the result. One clip is one task:
/// threads change time, never the answer. Thread-safe.
///   clips       each (T, L, 3), T of its own; one dtype, float32 or float64, CPU, isotropic units;
///               a frame with any NaN or Inf is "not detected"
///   timestamps  each (T,) float64, seconds, strictly increasing
NormalizedClips normalize_clips(const std::vector<at::Tensor>& clips,
                                const std::vector<at::Tensor>& timestamps,
                                const Normalization& normalization);

}  // namespace fastexai
