// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/recurrent.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "fastexai/attribution/activations.h"

namespace {

using fastexai::Recurrent;
using fastexai::RecurrentKind;
using fastexai::RecurrentTape;

constexpr int64_t kInputs = 4;

at::Tensor draw(at::IntArrayRef shape, double scale = 1.0) {
  return at::randn(shape, at::kDouble) * scale;
}

Recurrent random_recurrent(RecurrentKind kind, int64_t hidden, int64_t layers, bool bidirectional,
                           bool biased = true) {
  Recurrent recurrent{kind, hidden, bidirectional, {}};
  const auto stacked = recurrent.gates() * hidden;
  const auto scale = 1.0 / std::sqrt(static_cast<double>(hidden));
  for (int64_t layer = 0; layer < layers; ++layer) {
    const auto inputs = layer == 0 ? kInputs : recurrent.ways() * hidden;
    for (int64_t way = 0; way < recurrent.ways(); ++way) {
      const auto bias = [&] { return biased ? draw({stacked}, 0.5) : at::Tensor(); };
      recurrent.directions.push_back(
          {draw({stacked, inputs}, 0.5), draw({stacked, hidden}, scale), bias(), bias()});
    }
  }
  return recurrent;
}

/// LibTorch's own LSTM or GRU on inputs (T, B, I).
at::Tensor reference(const Recurrent& recurrent, const at::Tensor& inputs) {
  std::vector<at::Tensor> parameters;
  const bool biased = recurrent.directions[0].input_bias.defined();
  for (const auto& direction : recurrent.directions) {
    parameters.insert(parameters.end(), {direction.input_weight, direction.hidden_weight});
    if (biased) parameters.insert(parameters.end(), {direction.input_bias, direction.hidden_bias});
  }
  const auto layers = recurrent.layers();
  const auto state =
      at::zeros({layers * recurrent.ways(), inputs.size(1), recurrent.hidden}, inputs.options());
  if (recurrent.kind == RecurrentKind::kLstm)
    return std::get<0>(at::lstm(inputs, {state, state}, parameters, biased, layers, 0.0, false,
                                recurrent.bidirectional, false));
  return std::get<0>(at::gru(inputs, state, parameters, biased, layers, 0.0, false,
                             recurrent.bidirectional, false));
}

/// Paths from `from` to `to`, both (T, n, I), at nodes (S,), with an output gradient to pull back.
struct Problem {
  at::Tensor from, to, nodes, output_gradient, weights;
};

Problem random_problem(const Recurrent& recurrent, int64_t frames, int64_t clips, int64_t nodes) {
  return {draw({frames, clips, kInputs}), draw({frames, clips, kInputs}),
          at::rand({nodes}, at::kDouble),
          draw({frames, nodes * clips, recurrent.ways() * recurrent.hidden}),
          at::rand({2, nodes}, at::kDouble)};
}

struct Answer {
  at::Tensor output;     // (T, S*n, D*H)
  at::Tensor gradients;  // (R, T, n, I): with respect to the inputs
};

Answer by_autograd(const Recurrent& recurrent, const Problem& problem) {
  const auto frames = problem.from.size(0), clips = problem.from.size(1);
  const auto alpha = problem.nodes.view({1, -1, 1, 1});
  auto inputs = problem.from.unsqueeze(1) + alpha * (problem.to - problem.from).unsqueeze(1);
  inputs = inputs.reshape({frames, -1, kInputs}).requires_grad_();
  const auto output = reference(recurrent, inputs);
  const auto loss = (output * problem.output_gradient).sum();
  const auto gradient = torch::autograd::grad({loss}, {inputs})[0];
  const auto per_node = gradient.view({frames, -1, clips, kInputs});
  return {output.detach(), at::einsum("rs,tsni->rtni", {problem.weights, per_node})};
}

Answer by_tape(RecurrentTape& tape, const Recurrent& recurrent, const Problem& problem,
               at::ScalarType dtype = at::kDouble) {
  const auto [weight, bias] = fastexai::first_projection(recurrent);
  const auto start = at::matmul(problem.from, weight.t()) + bias;
  const auto difference = at::matmul(problem.to - problem.from, weight.t());
  const auto output = tape.forward(start.to(dtype), difference.to(dtype), problem.nodes)
                          .to(at::kDouble, false, true);
  const auto sums = tape.backward(problem.output_gradient.to(dtype), problem.weights);
  return {output, at::matmul(sums.to(at::kDouble), weight)};
}

void expect_close(const at::Tensor& actual, const at::Tensor& expected, double tolerance) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  const auto scale = expected.abs().max().item<double>();
  EXPECT_LE((actual - expected).abs().max().item<double>(), tolerance * scale);
}

void expect_close(const Answer& actual, const Answer& expected, double tolerance) {
  expect_close(actual.output, expected.output, tolerance);
  expect_close(actual.gradients, expected.gradients, tolerance);
}

class EveryRecurrent : public testing::TestWithParam<std::tuple<RecurrentKind, int64_t, bool>> {
 protected:
  void SetUp() override { at::manual_seed(0); }
  Recurrent draw_recurrent(int64_t hidden, bool biased = true) const {
    const auto [kind, layers, bidirectional] = GetParam();
    return random_recurrent(kind, hidden, layers, bidirectional, biased);
  }
};

TEST_P(EveryRecurrent, AgreesWithAutograd) {
  for (const int64_t hidden : {1, 3, 5, 7, 33, 64}) {
    for (const auto& [frames, clips, nodes] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{
             {1, 1, 1}, {1, 3, 2}, {2, 1, 5}, {2, 3, 1}, {7, 1, 2}, {7, 3, 5}}) {
      SCOPED_TRACE("H " + std::to_string(hidden) + " T " + std::to_string(frames) + " n " +
                   std::to_string(clips) + " S " + std::to_string(nodes));
      const auto recurrent = draw_recurrent(hidden, hidden != 5);
      const auto problem = random_problem(recurrent, frames, clips, nodes);
      const auto expected = by_autograd(recurrent, problem);
      RecurrentTape exact(recurrent, at::kDouble), fast(recurrent, at::kFloat);
      expect_close(by_tape(exact, recurrent, problem), expected, 1e-10);
      expect_close(by_tape(fast, recurrent, problem, at::kFloat), expected, 1e-5);
    }
  }
}

TEST_P(EveryRecurrent, AgreesWithAutogradOverSeveralBlocksOfRows) {
  const auto recurrent = draw_recurrent(64);
  const auto problem = random_problem(recurrent, 3, 7, 43);
  RecurrentTape tape(recurrent, at::kDouble);
  expect_close(by_tape(tape, recurrent, problem), by_autograd(recurrent, problem), 1e-10);
}

TEST_P(EveryRecurrent, BroadcastsAConstantOutputGradient) {
  const auto recurrent = draw_recurrent(9);
  auto problem = random_problem(recurrent, 4, 3, 5);
  const auto constant = problem.output_gradient.narrow(1, 0, 1);
  RecurrentTape tape(recurrent, at::kDouble);
  problem.output_gradient = constant;
  const auto broadcast = by_tape(tape, recurrent, problem);
  problem.output_gradient = constant.expand({-1, 15, -1});
  const auto expanded = by_tape(tape, recurrent, problem);
  expect_close(broadcast, expanded, 0.0);
  problem.output_gradient = constant.expand({-1, 15, -1}).contiguous();
  expect_close(broadcast, by_autograd(recurrent, problem), 1e-10);
}

TEST_P(EveryRecurrent, ReusesItsTapeForSmallerTiles) {
  const auto recurrent = draw_recurrent(6);
  RecurrentTape tape(recurrent, at::kDouble);
  for (const auto& [frames, clips, nodes] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{
           {6, 3, 5}, {6, 1, 5}, {2, 3, 2}, {6, 3, 5}, {8, 4, 7}}) {
    const auto problem = random_problem(recurrent, frames, clips, nodes);
    expect_close(by_tape(tape, recurrent, problem), by_autograd(recurrent, problem), 1e-10);
  }
}

TEST_P(EveryRecurrent, AllocatesNothingForTilesOfTheSameSize) {
  const auto recurrent = draw_recurrent(6);
  const auto problem = random_problem(recurrent, 5, 3, 4);
  const auto start = draw({5, 3, recurrent.ways() * recurrent.gates() * 6});
  RecurrentTape tape(recurrent, at::kDouble);
  const auto* output = tape.forward(start, start, problem.nodes).const_data_ptr();
  const auto* sums = tape.backward(problem.output_gradient, problem.weights).const_data_ptr();
  EXPECT_EQ(output, tape.forward(start, start, problem.nodes).const_data_ptr());
  EXPECT_EQ(sums, tape.backward(problem.output_gradient, problem.weights).const_data_ptr());
}

TEST_P(EveryRecurrent, DoesNotDependOnHowClipsAreTiled) {
  const auto recurrent = draw_recurrent(20);
  const int64_t clips = 5, nodes = 6, frames = 4;
  const auto problem = random_problem(recurrent, frames, clips, nodes);
  RecurrentTape tape(recurrent, at::kFloat);
  const auto whole = by_tape(tape, recurrent, problem, at::kFloat);
  const auto gradient = problem.output_gradient.view({frames, nodes, clips, -1});
  std::vector<at::Tensor> parts;
  for (int64_t clip = 0; clip < clips; ++clip) {
    const Problem part{problem.from.narrow(1, clip, 1), problem.to.narrow(1, clip, 1),
                       problem.nodes, gradient.select(2, clip), problem.weights};
    parts.push_back(by_tape(tape, recurrent, part, at::kFloat).gradients);
  }
  expect_close(at::cat(parts, 2), whole.gradients, 1e-6);
}

TEST_P(EveryRecurrent, SaturatesOnHugePreActivations) {
  const auto recurrent = draw_recurrent(5);
  auto problem = random_problem(recurrent, 3, 2, 2);
  problem.from *= 1e4;
  RecurrentTape exact(recurrent, at::kDouble), fast(recurrent, at::kFloat);
  const auto expected = by_autograd(recurrent, problem);
  expect_close(by_tape(exact, recurrent, problem).output, expected.output, 1e-10);
  expect_close(by_tape(fast, recurrent, problem, at::kFloat).output, expected.output, 1e-3);
  EXPECT_TRUE(
      at::isfinite(by_tape(fast, recurrent, problem, at::kFloat).gradients).all().item<bool>());
}

TEST_P(EveryRecurrent, KeepsNaNToItsOwnClip) {
  const auto recurrent = draw_recurrent(18);
  auto problem = random_problem(recurrent, 4, 3, 2);
  const auto healthy = by_autograd(recurrent, problem);
  problem.from[1][2][0] = std::numeric_limits<double>::quiet_NaN();
  RecurrentTape tape(recurrent, at::kFloat);
  const auto answer = by_tape(tape, recurrent, problem, at::kFloat);
  EXPECT_TRUE(at::isnan(answer.gradients.select(2, 2)).all().item<bool>());
  expect_close(answer.gradients.narrow(2, 0, 2), healthy.gradients.narrow(2, 0, 2), 1e-5);
  const auto output = answer.output.view({4, 2, 3, -1});
  EXPECT_TRUE(at::isnan(output.select(2, 2)[1]).any().item<bool>());
  EXPECT_FALSE(at::isnan(output.narrow(2, 0, 2)).any().item<bool>());
}

TEST_P(EveryRecurrent, IsQuietAboutInfinity) {
  const auto recurrent = draw_recurrent(18);
  const auto width = recurrent.ways() * recurrent.gates() * 18;
  auto start = draw({3, 2, width}).to(at::kFloat);
  start.select(2, 0).fill_(std::numeric_limits<float>::infinity());
  start.select(2, 1).fill_(-std::numeric_limits<float>::infinity());
  RecurrentTape tape(recurrent, at::kFloat);
  const auto output = tape.forward(start, at::zeros_like(start), at::ones({2}));
  EXPECT_TRUE(at::isfinite(output).all().item<bool>());
  EXPECT_TRUE(at::isfinite(tape.backward(at::ones_like(output), at::ones({2}))).all().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Recurrent, EveryRecurrent,
                         testing::Combine(testing::Values(RecurrentKind::kLstm,
                                                          RecurrentKind::kGru),
                                          testing::Values(1, 2), testing::Bool()));

TEST(RecurrentTape, ChecksItsArguments) {
  const auto recurrent = random_recurrent(RecurrentKind::kLstm, 3, 1, true);
  RecurrentTape tape(recurrent, at::kFloat);
  const auto start = at::zeros({4, 2, 24}), nodes = at::zeros({5});
  EXPECT_THROW(tape.backward(at::zeros({4, 1, 6}), nodes), c10::ValueError);
  EXPECT_THROW(tape.forward(at::zeros({4, 2, 12}), start, nodes), c10::ValueError);
  EXPECT_THROW(tape.forward(start, at::zeros({4, 1, 24}), nodes), c10::ValueError);
  EXPECT_THROW(tape.forward(start, start, at::zeros({5, 1})), c10::ValueError);
  tape.forward(start, start, nodes);
  EXPECT_THROW(tape.backward(at::zeros({4, 2, 6}), nodes), c10::ValueError);
  EXPECT_THROW(tape.backward(at::zeros({4, 1, 6}), at::zeros({4})), c10::ValueError);
  tape.backward(at::zeros({4, 1, 6}), nodes);
  EXPECT_THROW(tape.backward(at::zeros({4, 1, 6}), nodes), c10::ValueError);
  auto wrong = recurrent;
  wrong.directions[1].hidden_weight = at::zeros({12, 4});
  EXPECT_THROW(RecurrentTape(wrong, at::kFloat), c10::ValueError);
}

TEST(BytesPerRow, CountsTheTape) {
  const auto lstm = random_recurrent(RecurrentKind::kLstm, 64, 1, true);
  EXPECT_EQ(fastexai::bytes_per_row(lstm, 20, at::kFloat), 4 * (20 * 2 * 64 * 6 + 6 * 64));
  const auto gru = random_recurrent(RecurrentKind::kGru, 8, 2, false);
  EXPECT_EQ(fastexai::bytes_per_row(gru, 3, at::kDouble), 8 * (3 * 8 * 11 + 6 * 8));
}

// Activations: compiled for each instruction set, compared with libm in double precision.

FASTEXAI_SIMD_CLONES void sigmoids(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = fastexai::sigmoid(x[i]);
}

FASTEXAI_SIMD_CLONES void tanhs(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = fastexai::tanh(x[i]);
}

double exact_sigmoid(double x) {
  return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}
double exact_tanh(double x) { return std::tanh(x); }

/// The distance in units of the last place of the exact value's float.
double ulps(float actual, double exact) {
  const float nearest = std::abs(static_cast<float>(exact));
  const double ulp = static_cast<double>(std::nextafter(nearest, HUGE_VALF)) - nearest;
  return std::abs(actual - exact) / ulp;
}

/// Every 2003rd float of the whole line: 2 million, subnormal ones, infinities and NaN included.
std::vector<float> floats() {
  std::vector<float> values{0.0F, -0.0F, HUGE_VALF, -HUGE_VALF, 88.7F, -88.7F, -103.9F, -104.1F};
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 2003)
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  return values;
}

void expect_accurate(void (*function)(const float*, float*, int64_t), double (*exact)(double)) {
  const auto x = floats();
  std::vector<float> y(x.size());
  function(x.data(), y.data(), static_cast<int64_t>(x.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i])) {
      ASSERT_TRUE(std::isnan(y[i]));
      continue;
    }
    ASSERT_EQ(std::signbit(y[i]), std::signbit(exact(x[i]))) << x[i];
    const auto error = ulps(y[i], exact(x[i]));
    ASSERT_FALSE(std::isnan(error)) << x[i];
    worst = std::max(worst, error);
  }
  EXPECT_LE(worst, 4.0);
}

TEST(Activations, SigmoidIsAccurateEverywhere) { expect_accurate(sigmoids, exact_sigmoid); }
TEST(Activations, TanhIsAccurateEverywhere) { expect_accurate(tanhs, exact_tanh); }

}  // namespace
