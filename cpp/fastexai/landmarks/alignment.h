// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <variant>

#include "fastexai/landmarks/eyes.h"
#include "fastexai/landmarks/procrustes.h"

namespace fastexai {

/// What faces are aligned by.
using Alignment = std::variant<EyeCorners, Reference>;

/// Checks that faces of `landmarks` landmarks have those that the alignment needs.
void check_alignment(const Alignment& alignment, int64_t landmarks);

/// Aligns every frame by itself. Thread-safe; one frame never affects another.
///   landmarks  (..., L, 3) float32 or float64, CPU, isotropic units; a frame without a landmark
///              that the alignment needs is "not detected"
///   returns    (..., L, 3) in inter-ocular distances (eyes) or units of the reference;
///              undetected frames are NaN
at::Tensor align(const at::Tensor& landmarks, const Alignment& alignment);

inline at::Tensor align_eyes(const at::Tensor& landmarks, const EyeCorners& eyes = {}) {
  return align(landmarks, eyes);
}

at::Tensor align_to_reference(const at::Tensor& landmarks, const at::Tensor& reference,
                              const at::Tensor& basis);

}  // namespace fastexai
