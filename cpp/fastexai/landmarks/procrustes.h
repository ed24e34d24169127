// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

namespace fastexai {

/// Maps each face onto `reference` by the 3-D similarity transform that fits the `basis` landmarks
/// best, in the least-squares sense. Thread-safe; one frame never affects another.
/// Source: Horn, J. Opt. Soc. Am. A 4(4), 1987 (rotation as the leading eigenvector of a 4 x 4
/// matrix, which never is a reflection); scale by Umeyama, IEEE TPAMI 13(4), 1991, equation 42.
///   landmarks  (..., L, 3) float32 or float64, CPU, isotropic units; a frame with a NaN in the
///   basis
///              means "not detected"
///   reference  (L, 3)      float64
///   basis      (B,)        int64, at least three landmarks, not on one line
///   returns    (..., L, 3) in units of `reference`; undetected frames are NaN
at::Tensor align_to_reference(const at::Tensor& landmarks, const at::Tensor& reference,
                              const at::Tensor& basis);

}  // namespace fastexai
