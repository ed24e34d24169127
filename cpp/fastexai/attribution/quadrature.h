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

/// Nested rules on [0, 1] over the same 15 nodes.
struct NestedQuadrature {
  std::vector<double> nodes;
  std::vector<double> kronrod;  // exact up to degree 22
  std::vector<double> gauss;    // exact up to degree 13; zero on the nodes that it does not use
};

/// The Gauss-Kronrod pair (7, 15).
/// Source: Kronrod, Nodes and Weights of Quadrature Formulas, 1965; digits as in QUADPACK's qk15.
NestedQuadrature gauss_kronrod();

}  // namespace fastexai
