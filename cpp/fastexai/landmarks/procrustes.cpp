// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/procrustes.h"

#include <array>
#include <cmath>
#include <limits>

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

using Lanes = std::array<double, kBlock>;  // one number of each face
using Matrices3 = std::array<std::array<Lanes, 3>, 3>;

/// Matrices of the cofactors: the determinant times the inverse, transposed.
FASTEXAI_INLINE void cofactors(const Matrices3& x, Matrices3& c) {
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      const auto &a = x[(i + 1) % 3], &b = x[(i + 2) % 3];
      const Lanes &a1 = a[(j + 1) % 3], &a2 = a[(j + 2) % 3];
      const Lanes &b1 = b[(j + 1) % 3], &b2 = b[(j + 2) % 3];
      for (int m = 0; m < kBlock; ++m) c[i][j][m] = a1[m] * b2[m] - a2[m] * b1[m];
    }
}

/// One step of Newton's iteration, scaled or not; returns the squared changes. What has no clearly
/// positive determinant becomes NaN.
FASTEXAI_INLINE Lanes newton_step(Matrices3& x, bool is_scaled) {
  Matrices3 c;
  cofactors(x, c);
  Lanes determinant{}, square{}, squared_cofactors{}, own, other, change{};
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      for (int m = 0; m < kBlock; ++m) {
        if (i == 0) determinant[m] += x[i][j][m] * c[i][j][m];
        square[m] += x[i][j][m] * x[i][j][m];
        squared_cofactors[m] += c[i][j][m] * c[i][j][m];
      }
  for (int m = 0; m < kBlock; ++m) {
    const double cube = square[m] * square[m] * square[m];
    const bool is_positive = determinant[m] > 0 && determinant[m] * determinant[m] > 1e-12 * cube;
    own[m] = is_positive ? 0.5 : std::numeric_limits<double>::quiet_NaN();
    other[m] = 0.5 / determinant[m];
  }
  if (is_scaled)
    for (int m = 0; m < kBlock; ++m) {
      const double scale = std::sqrt(std::sqrt(squared_cofactors[m] / square[m]) / determinant[m]);
      own[m] *= scale;
      other[m] /= scale;
    }
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      for (int m = 0; m < kBlock; ++m) {
        const double next = own[m] * x[i][j][m] + other[m] * c[i][j][m];
        change[m] += (next - x[i][j][m]) * (next - x[i][j][m]);
        x[i][j][m] = next;
      }
  return change;
}

/// Replaces each matrix by the rotation nearest to it, its orthogonal polar factor, by Newton's
/// iteration; returns which could be: those whose determinant is clearly positive.
/// Source: Higham, SIAM J. Sci. Stat. Comput. 7(4), 1986, equation 3.5 (Frobenius scaling).
FASTEXAI_SIMD_CLONES void nearest_rotations(Matrices3& x, std::array<bool, kBlock>& found) {
  constexpr double kDone = 1e-16;  // quadratic: what is left is about the square of this
  for (int iteration = 0; iteration < kNewtonSteps; ++iteration) {
    // Far from a rotation the scaling saves steps; near one it would only cost its roots.
    const Lanes change = newton_step(x, iteration < 3);
    bool goes_on = false;
    for (int m = 0; m < kBlock; ++m) {
      found[m] = change[m] < kDone;
      goes_on |= change[m] >= kDone;  // not where a NaN is
    }
    if (!goes_on) return;
  }
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

/// What the fit needs to know of a face's basis landmarks.
struct Points {
  Vector3 mean;
  Matrix3 covariance;  // [i][j] is the sum of face_i * reference_j
  double spread;       // the sum of |face - mean|^2
};

template <typename scalar_t>
Points summarize(const scalar_t* face, const Reference& reference) {
  const auto* first = face + 3 * reference.basis[0];
  const auto count = static_cast<double>(reference.basis.size());
  Sums sums;
  add_up(face, first, reference, sums);
  Points points{};
  for (int i = 0; i < 3; ++i) {
    const double offset = sums.products[i][3] / count;
    points.spread += sums.squares[i] - count * offset * offset;
    points.mean[i] = first[i] + offset;
    for (int j = 0; j < 3; ++j) points.covariance[i][j] = sums.products[i][j];
  }
  return points;
}

/// The rotation of one face, times the scale that fits best.
Matrix3 scaled(const Matrices3& turns, int face, const Matrix3& covariance, double spread) {
  Matrix3 turn;
  double fitted = 0;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      turn[i][j] = turns[i][j][face];
      fitted += turn[i][j] * covariance[j][i];
    }
  for (auto& row : turn)
    for (double& value : row) value *= fitted / spread;
  return turn;
}

/// The same for flat faces, mirrored ones, missing ones: slower, and right for all of them.
Matrix3 any_turn(const Matrix3& covariance, double spread) {
  const auto [value, quaternion] = leading_eigenpair(horn_matrix(covariance));
  return scaled_rotation(quaternion, value / spread);
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
void fit(const scalar_t* const* faces, int count, const Reference& reference,
         std::optional<Similarity<scalar_t>>* fits) {
  std::array<Points, kBlock> points;
  Matrices3 turns{};
  for (int m = 0; m < count; ++m) {
    points[m] = summarize(faces[m], reference);
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) turns[i][j][m] = points[m].covariance[j][i];
  }
  std::array<bool, kBlock> found;
  nearest_rotations(turns, found);
  for (int m = 0; m < count; ++m) {
    const auto& [mean, covariance, spread] = points[m];
    const Matrix3 turn =
        found[m] ? scaled(turns, m, covariance, spread) : any_turn(covariance, spread);
    fits[m].reset();
    if (std::isfinite(turn[0][0])) fits[m].emplace(mean, turn, reference.center);
  }
}

template void fit(const float* const*, int, const Reference&, std::optional<Similarity<float>>*);
template void fit(const double* const*, int, const Reference&, std::optional<Similarity<double>>*);

}  // namespace fastexai
