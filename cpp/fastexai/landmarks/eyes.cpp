// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/eyes.h"

#include <cmath>

namespace fastexai {

namespace {

template <typename scalar_t>
std::optional<Similarity<scalar_t>> fit_one(const scalar_t* face, const EyeCorners& eyes) {
  Vector3 right{}, left{}, origin{};
  double square = 0;
  for (int k = 0; k < 3; ++k) {
    const double right_outer = face[3 * eyes.right_outer + k];
    const double left_outer = face[3 * eyes.left_outer + k];
    right[k] = 0.5 * (right_outer + face[3 * eyes.right_inner + k]);
    left[k] = 0.5 * (left_outer + face[3 * eyes.left_inner + k]);
    origin[k] = 0.5 * (right[k] + left[k]);
    square += (left_outer - right_outer) * (left_outer - right_outer);
  }
  const double dx = left[0] - right[0], dy = left[1] - right[1];
  const double scale = 1 / std::sqrt(square), turn = scale / std::hypot(dx, dy);
  const double cosine = turn * dx, sine = turn * dy;
  if (!std::isfinite(cosine) || !std::isfinite(sine)) return std::nullopt;
  const Matrix3 matrix{{{cosine, sine, 0}, {-sine, cosine, 0}, {0, 0, scale}}};
  return Similarity<scalar_t>(origin, matrix, {});
}

}  // namespace

template <typename scalar_t>
void fit(const scalar_t* const* faces, int count, const EyeCorners& eyes,
         std::optional<Similarity<scalar_t>>* fits) {
  for (int m = 0; m < count; ++m) fits[m] = fit_one(faces[m], eyes);
}

template void fit(const float* const*, int, const EyeCorners&, std::optional<Similarity<float>>*);
template void fit(const double* const*, int, const EyeCorners&, std::optional<Similarity<double>>*);

}  // namespace fastexai
