// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "fastexai/attribution/path_integrator.h"
#include "fastexai/attribution/quadrature.h"

namespace fastexai {
namespace {

/// F(x) = sum over features of x^3, whose attribution of each feature is x^3 - b^3.
class Cubic final : public Model {
 public:
  at::Tensor value(const at::Tensor& inputs) const override {
    return inputs.pow(3).flatten(1).sum(1);
  }
  at::Tensor weighted_gradient(const at::Tensor& inputs,
                               const at::Tensor& row_weights) const override {
    rows = std::max<int64_t>(rows, inputs.size(0));
    return 3 * inputs.square() * row_weights.view({-1, 1, 1});
  }
  mutable std::atomic<int64_t> rows{0};
};

TEST(GaussLegendre, WeightsSumToOneAndPolynomialsAreExact) {
  for (const int64_t n : {1, 2, 5, 50, 201}) {
    const auto rule = gauss_legendre(n);
    EXPECT_NEAR(std::accumulate(rule.weights.begin(), rule.weights.end(), 0.0), 1, 1e-13);
    const int64_t degree = 2 * n - 1;
    double integral = 0;
    for (int64_t k = 0; k < n; ++k)
      integral += rule.weights[k] * std::pow(rule.nodes[k], static_cast<double>(degree));
    EXPECT_NEAR(integral, 1.0 / (degree + 1), 1e-13) << n << " nodes";
  }
}

TEST(IntegratePath, IsExactForACubic) {
  const auto inputs = at::randn({9, 4, 3}, at::kDouble),
             baselines = at::randn({1, 4, 3}, at::kDouble);
  const auto result = integrate_path(Cubic(), inputs, baselines, gauss_legendre(2));
  EXPECT_TRUE(at::allclose(result.attributions, inputs.pow(3) - baselines.pow(3), 1e-12, 1e-12));
  EXPECT_LT(result.delta.abs().max().item<double>(), 1e-12);
}

TEST(IntegratePath, KeepsToItsRowsAndDoesNotDependOnThem) {
  const auto inputs = at::randn({13, 4, 3}, at::kDouble), baselines = at::zeros_like(inputs);
  const auto whole = integrate_path(Cubic(), inputs, baselines, gauss_legendre(10));
  for (const int64_t max_rows : {1, 3, 64}) {
    const Cubic model;
    const auto tiled = integrate_path(model, inputs, baselines, gauss_legendre(10), {max_rows, {}});
    EXPECT_LE(model.rows, max_rows);
    EXPECT_TRUE(at::allclose(tiled.attributions, whole.attributions, 1e-12, 1e-12));
  }
}

TEST(IntegratePath, SurfacesAnExceptionFromProgress) {
  const auto inputs = at::randn({64, 4, 3});
  PathOptions options{1, [](int64_t, int64_t) { throw std::runtime_error("stop"); }};
  EXPECT_THROW(integrate_path(Cubic(), inputs, at::zeros_like(inputs), gauss_legendre(3), options),
               std::runtime_error);
}

TEST(IntegratePath, RefusesWhatDoesNotFit) {
  const auto inputs = at::randn({2, 4, 3});
  const auto rule = gauss_legendre(3);
  EXPECT_THROW(integrate_path(Cubic(), inputs, at::zeros({1, 5, 3}), rule), c10::ValueError);
  EXPECT_THROW(integrate_path(Cubic(), inputs.to(at::kLong), inputs, rule), c10::TypeError);
  EXPECT_THROW(integrate_path(Cubic(), inputs / 0, inputs, rule), c10::ValueError);
  EXPECT_THROW(gauss_legendre(0), c10::ValueError);
}

TEST(ScriptModel, RefusesWhatIsNoTorchScript) {
  EXPECT_THROW(ScriptModel::from_buffer("no model"), c10::ValueError);
}

TEST(Threads, ParallelForUsesThem) {
  // Compiled without OpenMP the loops would silently run on one thread.
  if (at::get_num_threads() < 2) GTEST_SKIP() << "one thread only";
  std::atomic<int64_t> parts{0};
  at::parallel_for(0, 2, 1, [&](int64_t, int64_t) { ++parts; });
  EXPECT_EQ(parts, 2);
}

}  // namespace
}  // namespace fastexai
