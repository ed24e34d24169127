// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "fastexai/attribution/memory_budget.h"
#include "fastexai/attribution/path_integrator.h"
#include "fastexai/attribution/quadrature.h"
#include "fastexai/attribution/row_projection.h"

namespace fastexai {
namespace {

/// A plan for a model that is no TorchScript.
std::shared_ptr<const PathPlan> plan_for(std::shared_ptr<const Model> model) {
  return plan_whole_model(std::move(model), at::zeros({1, 4, 3}));
}

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
  const auto result =
      integrate_path(*plan_for(std::make_shared<Cubic>()), inputs, baselines, gauss_legendre(2));
  EXPECT_TRUE(at::allclose(result.attributions, inputs.pow(3) - baselines.pow(3), 1e-12, 1e-12));
  EXPECT_LT(result.delta.abs().max().item<double>(), 1e-12);
}

TEST(IntegratePath, KeepsToItsRowsAndDoesNotDependOnThem) {
  const auto inputs = at::randn({13, 4, 3}, at::kDouble), baselines = at::zeros_like(inputs);
  const auto whole =
      integrate_path(*plan_for(std::make_shared<Cubic>()), inputs, baselines, gauss_legendre(10));
  for (const int64_t max_rows : {1, 3, 64}) {
    const auto model = std::make_shared<Cubic>();
    const auto tiled = integrate_path(*plan_for(model), inputs, baselines, gauss_legendre(10),
                                      {.max_rows = max_rows});
    EXPECT_LE(model->rows, max_rows);
    EXPECT_TRUE(at::allclose(tiled.attributions, whole.attributions, 1e-12, 1e-12));
  }
}

TEST(IntegratePath, SurfacesAnExceptionFromProgress) {
  const auto inputs = at::randn({64, 4, 3});
  const PathOptions options{.max_rows = 1,
                            .progress = [](int64_t, int64_t) { throw std::runtime_error("stop"); }};
  EXPECT_THROW(integrate_path(*plan_for(std::make_shared<Cubic>()), inputs, at::zeros_like(inputs),
                              gauss_legendre(3), options),
               std::runtime_error);
}

TEST(IntegratePath, RefusesWhatDoesNotFit) {
  const auto inputs = at::randn({2, 4, 3});
  const auto rule = gauss_legendre(3);
  EXPECT_THROW(
      integrate_path(*plan_for(std::make_shared<Cubic>()), inputs, at::zeros({1, 5, 3}), rule),
      c10::ValueError);
  EXPECT_THROW(
      integrate_path(*plan_for(std::make_shared<Cubic>()), inputs.to(at::kLong), inputs, rule),
      c10::TypeError);
  EXPECT_THROW(integrate_path(*plan_for(std::make_shared<Cubic>()), inputs / 0, inputs, rule),
               c10::ValueError);
  EXPECT_THROW(gauss_legendre(0), c10::ValueError);
}

TEST(Patterson, EachRuleIsExactUpToItsDegree) {
  const auto& rules = patterson();
  const int degrees[] = {1, 5, 11, 23, 47};
  for (int64_t rule = 0; rule < 5; ++rule) {
    ASSERT_EQ(rules.count(rule), (int64_t{2} << rule) - 1);
    const auto integral = [&](int power) {
      double sum = 0;
      for (int64_t k = 0; k < rules.count(rule); ++k)
        sum += rules.weights[rule][k] * std::pow(rules.nodes[k], power);
      return sum;
    };
    for (int power = 0; power <= degrees[rule]; ++power)
      EXPECT_NEAR(integral(power), 1.0 / (power + 1), 1e-15) << "degree " << power;
  }
}

/// The transpose of x -> x W^T, times x - b, averaged over baselines.
at::Tensor slowly_pulled_back(const at::Tensor& weight, const at::Tensor& gradients,
                              const at::Tensor& inputs, const at::Tensor& baselines) {
  const auto pulled = at::matmul(gradients, weight);  // (n, K, rows, D)
  const int64_t paths = gradients.size(1);
  const auto starts = paths > 1 ? baselines.unsqueeze(0) : baselines.unsqueeze(1);
  return (pulled * (inputs.unsqueeze(1) - starts)).mean(1);
}

TEST(RowProjection, PullsBackByTheTransposeTimesTheLengthWhateverTheTiles) {
  for (const auto& [clips, starts, paths] :
       {std::array<int64_t, 3>{3, 3, 1}, {3, 1, 1}, {3, 4, 4}, {70, 1, 1}})
    for (const int64_t columns : {5, 3000}) {
      const auto weight = at::randn({4, columns}, at::kDouble);
      const auto gradients = at::randn({clips, paths, 2, 4}, at::kDouble);
      const auto inputs = at::randn({clips, 2, columns}, at::kDouble);
      const auto baselines = at::randn({starts, 2, columns}, at::kDouble);
      const auto found = at::empty_like(inputs);
      const RowProjection layer(weight, at::zeros_like(inputs.narrow(0, 0, 1)),
                                at::zeros({1, 2, 4}, at::kDouble));
      const auto sums = layer.pull_back(gradients, inputs, baselines, found);
      const auto expected = slowly_pulled_back(weight, gradients, inputs, baselines);
      EXPECT_TRUE(at::allclose(found, expected, 1e-12, 1e-12));
      EXPECT_TRUE(at::allclose(sums, expected.sum({1, 2}), 1e-10, 1e-10));
    }
}

TEST(RowProjection, ProjectsEveryRowFromItsOrigin) {
  for (const auto dtype : {at::kFloat, at::kDouble})
    for (const int64_t columns : {5, 3000}) {
      const auto weight = at::randn({4, columns}, dtype), point = at::randn({1, 4, 4}, dtype);
      const auto somewhere = at::randn({1, 4, columns}, dtype);
      for (const auto& origin : {at::zeros_like(somewhere), somewhere}) {
        const RowProjection layer(weight, origin, point);
        for (const int64_t clips : {1, 7}) {
          const auto inputs = at::randn({clips, 4, columns}, dtype);
          const auto expected = at::matmul(inputs - origin, weight.t()) + point;
          const double tolerance = dtype == at::kFloat ? 1e-3 : 1e-11;
          for (int time = 0; time < 2; ++time)
            EXPECT_TRUE(at::allclose(layer.project(inputs), expected, 0, tolerance));
        }
      }
    }
}

/// F(x) = sum |x - 0.3|: one kink per feature on the way from 0 to 1.
class Kinked final : public Model {
 public:
  at::Tensor value(const at::Tensor& inputs) const override {
    return (inputs - 0.3).abs().flatten(1).sum(1);
  }
  at::Tensor weighted_gradient(const at::Tensor& inputs,
                               const at::Tensor& row_weights) const override {
    return (inputs - 0.3).sign() * row_weights.view({-1, 1, 1});
  }
};

TEST(IntegratePathAdaptively, BisectsTowardsAKink) {
  const auto inputs = at::rand({6, 4, 3}, at::kDouble) + 0.5, baselines = at::zeros_like(inputs);
  const auto plan = plan_for(std::make_shared<Kinked>());
  const auto fixed = integrate_path(*plan, inputs, baselines, gauss_legendre(50));
  const auto result = integrate_path_adaptively(*plan, inputs, baselines, {1e-6, 20000});
  const auto expected = (inputs - 0.3).abs() - 0.3;
  EXPECT_TRUE(result.converged.all().item<bool>());
  EXPECT_TRUE(at::allclose(result.attributions, expected, 1e-5, 1e-5));
  EXPECT_LT(result.delta.abs().max().item<double>(), 1e-5);
  EXPECT_GT(fixed.delta.abs().max().item<double>(), 1e-3);
}

TEST(IntegratePathAdaptively, SaysWhatHasNotConverged) {
  const auto inputs = at::rand({3, 4, 3}, at::kDouble) + 0.5, baselines = at::zeros_like(inputs);
  const auto result = integrate_path_adaptively(*plan_for(std::make_shared<Kinked>()), inputs,
                                                baselines, {1e-9, 60});
  EXPECT_FALSE(result.converged.any().item<bool>());
  EXPECT_LE(result.nodes.max().item<int64_t>(), 60);
}

TEST(IntegratePath, AsksBetweenPassesWhetherToStop) {
  // One chunk of many passes: progress comes too late to stop it.
  const auto inputs = at::randn({1, 4, 3});
  int64_t passes = 0;
  const PathOptions options{.max_rows = 1, .checkpoint = [&] {
                              if (++passes == 5) throw std::runtime_error("stop");
                            }};
  const auto plan = plan_for(std::make_shared<Cubic>());
  for (const auto& baselines : {at::zeros({1, 4, 3}), at::zeros({2, 4, 3})}) {
    auto own = options;
    own.mean_over_baselines = true;
    passes = 0;
    EXPECT_THROW(integrate_path(*plan, inputs, baselines, gauss_legendre(100), own),
                 std::runtime_error);
    EXPECT_EQ(passes, 5);
  }
}

TEST(MemoryBudget, CountsWhatIsHeldAtOnce) {
  const auto bytes = peak_bytes([] {
    for (int i = 0; i < 3; ++i) at::empty({1 << 20}, at::kByte);
    const auto one = at::empty({1 << 20}, at::kByte), two = at::empty({1 << 20}, at::kByte);
  });
  EXPECT_GE(bytes, 2 << 20);
  EXPECT_LT(bytes, 3 << 20);
}

TEST(MemoryBudget, ShrinksTilesUntilTheyFit) {
  const auto work = [](int64_t clips, int64_t rows) {
    at::empty({1000 * clips + 100 * rows}, at::kByte);
  };
  const Tiles wanted{.workers = 2, .rows = 1000, .chunk = 100};
  const auto roomy = fit_into_memory(int64_t{1} << 40, wanted, 10, work);
  EXPECT_EQ(roomy.workers, 2);
  EXPECT_EQ(roomy.rows, 1000);
  EXPECT_EQ(roomy.chunk, 100);
  int64_t rows = 1000;
  for (const int64_t budget : {200000, 50000, 10000, 5000}) {
    const auto tiles = fit_into_memory(budget, wanted, 10, work);
    const auto needed = peak_bytes([&] { work(tiles.chunk, tiles.rows); });
    EXPECT_LE(tiles.workers * needed, budget);
    EXPECT_LT(tiles.rows, rows);
    rows = tiles.rows;
  }
  EXPECT_THROW(fit_into_memory(500, wanted, 10, work), c10::ValueError);
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
