// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/quadrature.h"

#include <c10/util/Exception.h>

#include <cmath>
#include <numbers>

namespace fastexai {
namespace {

struct Legendre {
  double value, derivative;
};

/// P_n and P_n' at x, by the three-term recurrence.
Legendre legendre(int64_t n, double x) {
  double previous = 1, current = x;
  for (int64_t k = 2; k <= n; ++k) {
    const double next = ((2 * k - 1) * x * current - (k - 1) * previous) / k;
    previous = current;
    current = next;
  }
  return {current, n * (x * current - previous) / (x * x - 1)};
}

}  // namespace

Quadrature gauss_legendre(int64_t n) {
  TORCH_CHECK_VALUE(n >= 1, "n_steps: expected at least 1, got ", n);
  Quadrature rule{std::vector<double>(n), std::vector<double>(n)};
  if (n == 1) return {{0.5}, {1.0}};
  for (int64_t k = 0; k < (n + 1) / 2; ++k) {
    double x = std::cos(std::numbers::pi * (k + 0.75) / (n + 0.5));
    if (2 * k + 1 == n) x = 0;
    for (int iteration = 0; iteration < 100; ++iteration) {
      const auto p = legendre(n, x);
      const double step = p.value / p.derivative;
      x -= step;
      if (std::abs(step) < 1e-16) break;
    }
    const double derivative = legendre(n, x).derivative;
    const double weight = 1 / ((1 - x * x) * derivative * derivative);
    rule.nodes[k] = (1 - x) / 2;
    rule.nodes[n - 1 - k] = (1 + x) / 2;
    rule.weights[k] = rule.weights[n - 1 - k] = weight;
  }
  return rule;
}

}  // namespace fastexai
