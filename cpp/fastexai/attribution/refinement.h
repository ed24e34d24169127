// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "fastexai/attribution/path_ends.h"

namespace fastexai {

/// When a clip has converged: both the completeness error and the estimated error of the
/// attributions are at most max(tol * |F(x) - F(b)|, floor). The floor is what rounding may cost:
/// 64 times the larger of epsilon * max(1, |F(x)|, |F(b)|) and what F changes by when the point
/// where it is evaluated changes in the last place.
struct Tolerance {
  double tol = 1e-3;
  int64_t max_nodes = 15 * 256;  // per clip
};

/// Nodes of the first rule on every path.
constexpr int64_t kFirstNodes = 7;

struct Refined {
  at::Tensor mean_gradients;   // (paths, ...)
  std::vector<int64_t> nodes;  // spent on each path
  std::vector<bool> converged;
};

/// Integrates each path to a tolerance, with at most so many rows in one forward pass.
///
/// Note [Adaptive quadrature]: Patterson's nested rules of 7, 15 and 31 nodes on pieces of each
/// path. A rule contains the nodes of the one before: nothing that was evaluated is lost, and the
/// gap between the two tells the attributions' error. How the gap shrinks from rule to rule tells
/// whether the next one will do. If not, the piece is cut in three: where the integrand is analytic
/// with room to spare, more nodes win; at a kink of a ReLU network or a steep slope, shorter pieces
/// do. The completeness error is known piece by piece, because F at a piece's ends is one forward
/// pass each.
Refined refine(Integrand& integrand, const Paths& paths, const Tolerance& tolerance, int64_t rows);

}  // namespace fastexai
