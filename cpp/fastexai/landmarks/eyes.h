// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

namespace fastexai {

/// Landmark indices of the corners of both eyes; right and left are the subject's own.
struct EyeCorners {
  int64_t right_outer = 33;
  int64_t right_inner = 133;
  int64_t left_inner = 362;
  int64_t left_outer = 263;
};

/// Moves the midpoint between the eyes to the origin, turns the eye line onto the x axis within the
/// image plane, and divides by the inter-ocular distance. Thread-safe; one frame never affects
/// another.
///   landmarks  (..., L, 3) float32 or float64, CPU, isotropic units; a frame with a NaN eye corner
///              means "not detected"
///   returns    (..., L, 3) in inter-ocular distances; undetected frames are NaN
///
/// The eye line runs between the two eye centres (means of each eye's corners: half the jitter of
/// one corner). The inter-ocular distance is taken in 3-D between the outer corners, so that
/// turning the head does not inflate the face.
at::Tensor align_eyes(const at::Tensor& landmarks, const EyeCorners& eyes = {});

}  // namespace fastexai
