// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

namespace fastexai {

using Vector3 = std::array<double, 3>;
using Matrix3 = std::array<Vector3, 3>;

/// How many faces are fitted at a time: the small equations of one leave most of a processor idle.
constexpr int kBlock = 8;

/// p -> turn * (p - center) + shift; a change of scale is part of `turn`. The centre comes off
/// first, so that a face far from the origin keeps its digits in float32.
template <typename scalar_t>
struct Similarity {
  scalar_t center[3], turn[3][3], shift[3];

  Similarity() = default;

  /// The shift makes up for what rounding the centre loses.
  Similarity(const Vector3& exact_center, const Matrix3& exact_turn, const Vector3& exact_shift) {
    for (int i = 0; i < 3; ++i) center[i] = static_cast<scalar_t>(exact_center[i]);
    for (int i = 0; i < 3; ++i) {
      double moved = exact_shift[i];
      for (int j = 0; j < 3; ++j) {
        turn[i][j] = static_cast<scalar_t>(exact_turn[i][j]);
        moved += exact_turn[i][j] * (center[j] - exact_center[j]);
      }
      shift[i] = static_cast<scalar_t>(moved);
    }
  }

  /// The same transform, its result multiplied by `weight`.
  Similarity times(double weight) const {
    Similarity result = *this;
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) result.turn[i][j] *= static_cast<scalar_t>(weight);
      result.shift[i] *= static_cast<scalar_t>(weight);
    }
    return result;
  }
};

/// out = similarity(in), for `points` points of three coordinates. The ranges must not overlap.
void transform(const Similarity<float>& similarity, const float* in, float* out, int64_t points);
void transform(const Similarity<double>& similarity, const double* in, double* out, int64_t points);

/// out += similarity(in).
void add_transformed(const Similarity<float>& similarity, const float* in, float* out,
                     int64_t points);
void add_transformed(const Similarity<double>& similarity, const double* in, double* out,
                     int64_t points);

}  // namespace fastexai
