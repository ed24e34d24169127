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

/// Rules on [0, 1], each of which has all nodes of the one before.
struct NestedQuadrature {
  std::vector<double> nodes;                 // in the order in which the rules add them
  std::vector<std::vector<double>> weights;  // of each rule, for its nodes: the first so many

  int64_t count(int64_t rule) const { return static_cast<int64_t>(weights.at(rule).size()); }
};

/// Patterson's rules of 1, 3, 7, 15 and 31 nodes, exact up to degree 1, 5, 11, 23 and 47.
/// Source: Patterson, The Optimum Addition of Points to Quadrature Formulae, Mathematics of
/// Computation 22, 1968: each rule adds n + 1 nodes to the n before such that its degree is
/// highest.
const NestedQuadrature& patterson();

}  // namespace fastexai
