// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/procrustes.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "fastexai/check.h"

namespace fastexai {
namespace {

constexpr int64_t kFramesPerTask = 16;
constexpr int kJacobiSweeps = 12;  // convergence is quadratic; five are enough in practice

using Vector3 = std::array<double, 3>;
using Matrix3 = std::array<Vector3, 3>;
using Matrix4 = std::array<std::array<double, 4>, 4>;

/// The reference's basis landmarks, centred.
struct Basis {
  std::vector<int64_t> landmarks;
  std::vector<Vector3> points;
  Vector3 center{};
};

/// p -> turn * p + shift, the scale included in `turn`.
struct Similarity {
  Matrix3 turn;
  Vector3 shift;
};

/// One Jacobi rotation in the plane (p, q), applied to `a` from both sides and gathered in `v`.
void rotate(Matrix4& a, Matrix4& v, int p, int q) {
  if (a[p][q] == 0) return;
  const double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
  const double t = std::copysign(1.0, theta) / (std::abs(theta) + std::hypot(theta, 1.0));
  const double c = 1 / std::hypot(t, 1.0), s = t * c;
  for (int k = 0; k < 4; ++k) {
    const double kp = a[k][p], kq = a[k][q];
    a[k][p] = c * kp - s * kq;
    a[k][q] = s * kp + c * kq;
  }
  for (int k = 0; k < 4; ++k) {
    const double pk = a[p][k], qk = a[q][k];
    a[p][k] = c * pk - s * qk;
    a[q][k] = s * pk + c * qk;
    const double kp = v[k][p], kq = v[k][q];
    v[k][p] = c * kp - s * kq;
    v[k][q] = s * kp + c * kq;
  }
}

struct Eigenpair {
  double value;
  std::array<double, 4> vector;
};

/// The largest eigenvalue of a symmetric matrix and its unit eigenvector, by cyclic Jacobi.
Eigenpair leading_eigenpair(Matrix4 a) {
  Matrix4 v{};
  for (int k = 0; k < 4; ++k) v[k][k] = 1;
  for (int sweep = 0; sweep < kJacobiSweeps; ++sweep) {
    double off = 0, diagonal = 0;
    for (int p = 0; p < 4; ++p) {
      diagonal += a[p][p] * a[p][p];
      for (int q = p + 1; q < 4; ++q) off += a[p][q] * a[p][q];
    }
    if (!(off > 1e-30 * diagonal)) break;  // also where a NaN came in
    for (int p = 0; p < 4; ++p)
      for (int q = p + 1; q < 4; ++q) rotate(a, v, p, q);
  }
  int best = 0;
  for (int k = 1; k < 4; ++k)
    if (a[k][k] > a[best][best]) best = k;
  return {a[best][best], {v[0][best], v[1][best], v[2][best], v[3][best]}};
}

/// Horn's matrix, whose leading eigenvector is the best rotation as a quaternion. m[i][j] is the
/// sum over points of face_i * reference_j.
Matrix4 horn_matrix(const Matrix3& m) {
  const double xx = m[0][0], xy = m[0][1], xz = m[0][2];
  const double yx = m[1][0], yy = m[1][1], yz = m[1][2];
  const double zx = m[2][0], zy = m[2][1], zz = m[2][2];
  return {{{xx + yy + zz, yz - zy, zx - xz, xy - yx},
           {yz - zy, xx - yy - zz, xy + yx, zx + xz},
           {zx - xz, xy + yx, -xx + yy - zz, yz + zy},
           {xy - yx, zx + xz, yz + zy, -xx - yy + zz}}};
}

Matrix3 scaled_rotation(const std::array<double, 4>& quaternion, double scale) {
  const auto [w, x, y, z] = quaternion;
  const double s = 2 * scale;
  return {{{scale - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)},
           {s * (x * y + w * z), scale - s * (x * x + z * z), s * (y * z - w * x)},
           {s * (x * z - w * y), s * (y * z + w * x), scale - s * (x * x + y * y)}}};
}

template <typename scalar_t>
Similarity fit(const scalar_t* face, const Basis& basis) {
  Vector3 mean{};
  for (const int64_t i : basis.landmarks)
    for (int k = 0; k < 3; ++k) mean[k] += face[3 * i + k];
  for (double& value : mean) value /= static_cast<double>(basis.landmarks.size());
  Matrix3 covariance{};
  double spread = 0;
  for (size_t b = 0; b < basis.landmarks.size(); ++b) {
    const auto* point = face + 3 * basis.landmarks[b];
    for (int i = 0; i < 3; ++i) {
      const double centered = point[i] - mean[i];
      spread += centered * centered;
      for (int j = 0; j < 3; ++j) covariance[i][j] += centered * basis.points[b][j];
    }
  }
  const auto [value, quaternion] = leading_eigenpair(horn_matrix(covariance));
  Similarity similarity{scaled_rotation(quaternion, value / spread), basis.center};
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) similarity.shift[i] -= similarity.turn[i][j] * mean[j];
  return similarity;
}

template <typename scalar_t>
void align_frame(const scalar_t* in, scalar_t* out, int64_t landmarks, const Basis& basis) {
  const auto similarity = fit(in, basis);
  if (!std::isfinite(similarity.turn[0][0])) {
    std::fill(out, out + 3 * landmarks, std::numeric_limits<scalar_t>::quiet_NaN());
    return;
  }
  scalar_t m[3][4];
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) m[i][j] = static_cast<scalar_t>(similarity.turn[i][j]);
    m[i][3] = static_cast<scalar_t>(similarity.shift[i]);
  }
  for (int64_t i = 0; i < landmarks; ++i) {
    const scalar_t x = in[3 * i], y = in[3 * i + 1], z = in[3 * i + 2];
    for (int k = 0; k < 3; ++k) out[3 * i + k] = m[k][0] * x + m[k][1] * y + m[k][2] * z + m[k][3];
  }
}

Basis read_basis(const at::Tensor& reference, const at::Tensor& basis, int64_t landmarks) {
  TORCH_CHECK_VALUE(
      reference.dim() == 2 && reference.size(0) == landmarks && reference.size(1) == 3,
      "reference: expected (", landmarks, ", 3), got ", reference.sizes());
  TORCH_CHECK_TYPE(reference.scalar_type() == at::kDouble, "reference: expected float64, got ",
                   reference.scalar_type());
  TORCH_CHECK_TYPE(basis.scalar_type() == at::kLong, "basis: expected int64, got ",
                   basis.scalar_type());
  TORCH_CHECK_VALUE(basis.dim() == 1 && basis.size(0) >= 3,
                    "basis: expected at least three landmarks, got ", basis.sizes());
  Basis result;
  const auto points = reference.accessor<double, 2>();
  const auto indices = basis.accessor<int64_t, 1>();
  for (int64_t b = 0; b < basis.size(0); ++b) {
    const int64_t i = indices[b];
    TORCH_CHECK_VALUE(i >= 0 && i < landmarks, "basis: expected landmarks in [0, ", landmarks,
                      "), got ", i);
    result.landmarks.push_back(i);
    result.points.push_back({points[i][0], points[i][1], points[i][2]});
    for (int k = 0; k < 3; ++k) result.center[k] += points[i][k];
  }
  for (double& value : result.center) value /= static_cast<double>(basis.size(0));
  for (auto& point : result.points)
    for (int k = 0; k < 3; ++k) point[k] -= result.center[k];
  return result;
}

}  // namespace

at::Tensor align_to_reference(const at::Tensor& landmarks, const at::Tensor& reference,
                              const at::Tensor& basis) {
  check_landmarks(landmarks, "landmarks");
  const int64_t count = landmarks.size(-2);
  const auto known = read_basis(reference, basis, count);
  const auto in = landmarks.contiguous();
  auto out = at::empty_like(in);
  const int64_t stride = 3 * count;
  const int64_t frames = stride == 0 ? 0 : in.numel() / stride;
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "align_to_reference", [&] {
    const auto* source = in.const_data_ptr<scalar_t>();
    auto* target = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, frames, kFramesPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t f = begin; f < end; ++f)
        align_frame(source + f * stride, target + f * stride, count, known);
    });
  });
  return out;
}

}  // namespace fastexai
