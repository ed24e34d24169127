// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace fastexai {

/// A quadrature rule on [0, 1]: the integral of f is about the sum of weights[k] * f(nodes[k]).
struct Quadrature {
  std::vector<double> nodes;    // ascending, inside (0, 1)
  std::vector<double> weights;  // positive, sum to 1
};

/// The Gauss-Legendre rule with `n` nodes, exact for polynomials up to degree 2n - 1.
/// Nodes are the roots of the Legendre polynomial, by Newton's method from Tricomi's estimate.
Quadrature gauss_legendre(int64_t n);

}  // namespace fastexai
