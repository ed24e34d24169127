// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/eyes.h"

#include <cmath>

namespace fastexai {

template <typename scalar_t>
std::optional<Similarity<scalar_t>> fit(const scalar_t* face, const EyeCorners& eyes) {
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

template std::optional<Similarity<float>> fit(const float*, const EyeCorners&);
template std::optional<Similarity<double>> fit(const double*, const EyeCorners&);

}  // namespace fastexai
