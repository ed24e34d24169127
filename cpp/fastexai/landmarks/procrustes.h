// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <optional>
#include <vector>

#include "fastexai/landmarks/similarity.h"

namespace fastexai {

/// The landmarks of a reference face that other faces are fitted to.
struct Reference {
  std::vector<int64_t> basis;                 // their indices
  std::vector<std::array<double, 4>> points;  // where they are, centred, and a 1
  Vector3 center;                             // their mean
};

/// Checks and reads a reference for faces of `landmarks` landmarks.
///   reference  (L, 3) float64
///   basis      (B,)   int64, at least three landmarks, not on one line
Reference read_reference(const at::Tensor& reference, const at::Tensor& basis, int64_t landmarks);

/// The 3-D similarity transform that fits each face's basis landmarks to the reference best, in the
/// least-squares sense. Nothing, where one of them is missing or all coincide.
/// Source: Umeyama, IEEE TPAMI 13(4), 1991, equations 40 to 42; the rotation as a polar factor or,
/// where that would be a reflection, as the leading eigenvector of a 4 x 4 matrix (Horn, J. Opt.
/// Soc. Am. A 4(4), 1987).
///   faces  `count` of them, at most kBlock; each (L, 3), isotropic units
///   fits   `count` results
template <typename scalar_t>
void fit(const scalar_t* const* faces, int count, const Reference& reference,
         std::optional<Similarity<scalar_t>>* fits);

}  // namespace fastexai
