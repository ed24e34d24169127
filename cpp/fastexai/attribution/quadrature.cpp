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

NestedQuadrature gauss_kronrod() {
  // On [-1, 1], from the outermost positive node to the middle.
  constexpr double kNodes[] = {
      0.991455371120812639206854697526329, 0.949107912342758524526189684047851,
      0.864864423359769072789712788640926, 0.741531185599394439863864773280788,
      0.586087235467691130294144691693013, 0.405845151377397166906606412076961,
      0.207784955007898467600689403773245, 0.0};
  constexpr double kKronrod[] = {
      0.022935322010529224963732008058970, 0.063092092629978553290700663189204,
      0.104790010322250183839876322541518, 0.140653259715525918745189590510238,
      0.169004726639267902826583426598550, 0.190350578064785409913256402421014,
      0.204432940075298892414161999234649, 0.209482141084727828012999174891714};
  constexpr double kGauss[] = {
      0.129484966168869693270611432679082, 0.279705391489276667901467771423780,
      0.381830050505118944950369775488975, 0.417959183673469387755102040816327};
  NestedQuadrature rule{std::vector<double>(15), std::vector<double>(15), std::vector<double>(15)};
  for (int k = 0; k < 8; ++k) {
    const double gauss = k % 2 == 1 ? kGauss[k / 2] / 2 : 0;
    rule.nodes[k] = (1 - kNodes[k]) / 2;
    rule.nodes[14 - k] = (1 + kNodes[k]) / 2;
    rule.kronrod[k] = rule.kronrod[14 - k] = kKronrod[k] / 2;
    rule.gauss[k] = rule.gauss[14 - k] = gauss;
  }
  return rule;
}

}  // namespace fastexai
