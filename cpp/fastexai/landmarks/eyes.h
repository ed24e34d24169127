// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "fastexai/landmarks/similarity.h"

namespace fastexai {

/// Landmark indices of the corners of both eyes; right and left are the subject's own.
struct EyeCorners {
  int64_t right_outer = 33;
  int64_t right_inner = 133;
  int64_t left_inner = 362;
  int64_t left_outer = 263;
};

/// For each face, the transform that moves the midpoint between the eyes to the origin, turns the
/// eye line onto the x axis within the image plane, and divides by the inter-ocular distance.
/// Nothing, where eye corners coincide or are missing.
///   faces  `count` of them, each (L, 3), isotropic units
///   fits   `count` results
///
/// The eye line runs between the two eye centres (means of each eye's corners: half the jitter of
/// one corner). The inter-ocular distance is taken in 3-D between the outer corners, so that
/// turning the head does not inflate the face.
template <typename scalar_t>
void fit(const scalar_t* const* faces, int count, const EyeCorners& eyes,
         std::optional<Similarity<scalar_t>>* fits);

}  // namespace fastexai
