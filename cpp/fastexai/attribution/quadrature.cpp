// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/quadrature.h"

#include <ATen/ATen.h>
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

namespace {

/// The weights with which polynomials of a degree below n are exact on n nodes in [-1, 1]: they
/// integrate Legendre's polynomials, which are 1 on average for degree 0 and 0 for all others.
std::vector<double> interpolatory_weights(const std::vector<double>& nodes) {
  const auto n = static_cast<int64_t>(nodes.size());
  const auto polynomials = at::ones({n, n}, at::kDouble);
  auto* const p = polynomials.mutable_data_ptr<double>();
  for (int64_t k = 1; k < n; ++k)
    for (int64_t i = 0; i < n; ++i) p[k * n + i] = k == 1 ? nodes[i] : legendre(k, nodes[i]).value;
  auto integrals = at::zeros({n}, at::kDouble);
  integrals[0] = 1;
  const auto weights = at::linalg_solve(polynomials, integrals);
  const auto* const first = weights.const_data_ptr<double>();
  return {first, first + n};
}

NestedQuadrature make_patterson() {
  // Positive nodes on [-1, 1], in the order in which the rules add them. All rules have 0 as well.
  constexpr double kNodes[] = {
      0.77459666924148337704,                          // 3
      0.434243749346802558,   0.96049126870802028342,  // 7
      0.22338668642896688163, 0.62110294673722640294, 0.88845923287225699889,
      0.99383196321275502221,  // 15
      0.11248894313318662575, 0.33113539325797683309, 0.53131974364437562397,
      0.70249620649152707861, 0.8367259381688687355,  0.92965485742974005667,
      0.98153114955374010687, 0.99909812496766759766};  // 31
  std::vector<double> nodes{0};
  NestedQuadrature rules{{}, {{1}}};
  for (const double x : kNodes) {
    nodes.insert(nodes.end(), {-x, x});
    const size_t n = nodes.size();
    if ((n & (n + 1)) == 0) rules.weights.push_back(interpolatory_weights(nodes));
  }
  for (const double x : nodes) rules.nodes.push_back((1 + x) / 2);
  return rules;
}

}  // namespace

const NestedQuadrature& patterson() {
  static const NestedQuadrature rules = make_patterson();
  return rules;
}

}  // namespace fastexai
