// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/procrustes.h"

#include <array>
#include <cmath>

#include "fastexai/simd.h"

namespace fastexai {
namespace {

// Both converge quadratically; about five are enough in practice.
constexpr int kNewtonSteps = 12, kJacobiSweeps = 12;

using Matrix4 = std::array<std::array<double, 4>, 4>;

/// One Jacobi rotation in the plane (p, q), applied to `a` from both sides and gathered in `v`.
void rotate(Matrix4& a, Matrix4& v, int p, int q) {
  if (a[p][q] == 0) return;
  const double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
  // Not std::hypot, which takes most of the time: a theta whose square overflows turns by nothing.
  const double t = std::copysign(1.0, theta) / (std::abs(theta) + std::sqrt(theta * theta + 1));
  const double c = 1 / std::sqrt(t * t + 1), s = t * c;
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

/// Matrix of the cofactors: the determinant times the inverse, transposed.
Matrix3 cofactors(const Matrix3& x) {
  Matrix3 c;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      const auto &a = x[(i + 1) % 3], &b = x[(i + 2) % 3];
      c[i][j] = a[(j + 1) % 3] * b[(j + 2) % 3] - a[(j + 2) % 3] * b[(j + 1) % 3];
    }
  return c;
}

double dot(const Matrix3& a, const Matrix3& b) {
  double sum = 0;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) sum += a[i][j] * b[i][j];
  return sum;
}

/// The rotation nearest to a matrix of positive determinant: its orthogonal polar factor, by
/// Newton's iteration. Nothing, where the determinant is not clearly positive.
/// Source: Higham, SIAM J. Sci. Stat. Comput. 7(4), 1986, equation 3.5 (Frobenius scaling).
std::optional<Matrix3> nearest_rotation(Matrix3 x) {
  double change = 1;
  for (int iteration = 0; iteration < kNewtonSteps; ++iteration) {
    const Matrix3 c = cofactors(x);
    const double determinant = x[0][0] * c[0][0] + x[0][1] * c[0][1] + x[0][2] * c[0][2];
    const double square = dot(x, x);
    if (!(determinant > 1e-6 * square * std::sqrt(square))) return std::nullopt;  // or a NaN
    // Far from a rotation the scaling saves steps; near one it would only cost its roots.
    const double scale = change > 1e-2 ? std::sqrt(std::sqrt(dot(c, c) / square) / determinant) : 1;
    const double own = 0.5 * scale, other = 0.5 / (scale * determinant);
    change = 0;
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        const double next = own * x[i][j] + other * c[i][j];
        change += (next - x[i][j]) * (next - x[i][j]);
        x[i][j] = next;
      }
    if (change < 1e-16) return x;  // quadratic: what is left is about the square of this
  }
  return std::nullopt;
}

/// The rotation, times the scale, that takes centred face points to centred reference points.
/// covariance[i][j] is the sum over points of face_i * reference_j, spread that of |face|^2.
Matrix3 best_turn(const Matrix3& covariance, double spread) {
  Matrix3 transposed;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) transposed[i][j] = covariance[j][i];
  if (auto turn = nearest_rotation(transposed)) {
    const double scale = dot(*turn, transposed) / spread;
    for (auto& row : *turn)
      for (double& value : row) value *= scale;
    return *turn;
  }
  // Flat faces, mirrored ones, missing ones: slower, and right for all of them.
  const auto [value, quaternion] = leading_eigenpair(horn_matrix(covariance));
  return scaled_rotation(quaternion, value / spread);
}

/// Sums over the basis, of differences from its first landmark so that nothing cancels.
struct Sums {
  double products[3][4];  // with the reference's x, y, z (each of sum 0) and 1
  double squares[3];
};

template <typename scalar_t>
FASTEXAI_INLINE void add_up_basis(const scalar_t* face, const scalar_t* first,
                                  const Reference& reference, Sums& result) {
  Sums sums{};
  for (size_t b = 0; b < reference.basis.size(); ++b) {
    const auto* point = face + 3 * reference.basis[b];
    const auto& known = reference.points[b];
    for (int i = 0; i < 3; ++i) {
      const double offset = static_cast<double>(point[i]) - static_cast<double>(first[i]);
      sums.squares[i] += offset * offset;
      for (int j = 0; j < 4; ++j) sums.products[i][j] += offset * known[j];
    }
  }
  result = sums;
}

FASTEXAI_SIMD_CLONES void add_up(const float* face, const float* first, const Reference& reference,
                                 Sums& sums) {
  add_up_basis(face, first, reference, sums);
}
FASTEXAI_SIMD_CLONES void add_up(const double* face, const double* first,
                                 const Reference& reference, Sums& sums) {
  add_up_basis(face, first, reference, sums);
}

}  // namespace

Reference read_reference(const at::Tensor& reference, const at::Tensor& basis, int64_t landmarks) {
  TORCH_CHECK_VALUE(
      reference.dim() == 2 && reference.size(0) == landmarks && reference.size(1) == 3,
      "reference: expected (", landmarks, ", 3), got ", reference.sizes());
  TORCH_CHECK_TYPE(reference.scalar_type() == at::kDouble, "reference: expected float64, got ",
                   reference.scalar_type());
  TORCH_CHECK_TYPE(basis.scalar_type() == at::kLong, "basis: expected int64, got ",
                   basis.scalar_type());
  TORCH_CHECK_VALUE(basis.dim() == 1 && basis.size(0) >= 3,
                    "basis: expected at least three landmarks, got ", basis.sizes());
  Reference result{};
  const auto points = reference.accessor<double, 2>();
  const auto indices = basis.accessor<int64_t, 1>();
  for (int64_t b = 0; b < basis.size(0); ++b) {
    const int64_t i = indices[b];
    TORCH_CHECK_VALUE(i >= 0 && i < landmarks, "basis: expected landmarks in [0, ", landmarks,
                      "), got ", i);
    result.basis.push_back(i);
    result.points.push_back({points[i][0], points[i][1], points[i][2], 1});
    for (int k = 0; k < 3; ++k) result.center[k] += points[i][k];
  }
  for (double& value : result.center) value /= static_cast<double>(basis.size(0));
  for (auto& point : result.points)
    for (int k = 0; k < 3; ++k) point[k] -= result.center[k];
  return result;
}

template <typename scalar_t>
std::optional<Similarity<scalar_t>> fit(const scalar_t* face, const Reference& reference) {
  const auto* first = face + 3 * reference.basis[0];
  const auto count = static_cast<double>(reference.basis.size());
  Sums sums{};
  add_up(face, first, reference, sums);
  Vector3 mean;
  Matrix3 covariance;
  double spread = 0;
  for (int i = 0; i < 3; ++i) {
    const double offset = sums.products[i][3] / count;
    spread += sums.squares[i] - count * offset * offset;
    mean[i] = first[i] + offset;
    for (int j = 0; j < 3; ++j) covariance[i][j] = sums.products[i][j];
  }
  const Matrix3 turn = best_turn(covariance, spread);
  if (!std::isfinite(turn[0][0])) return std::nullopt;
  return Similarity<scalar_t>(mean, turn, reference.center);
}

template std::optional<Similarity<float>> fit(const float*, const Reference&);
template std::optional<Similarity<double>> fit(const double*, const Reference&);

}  // namespace fastexai
