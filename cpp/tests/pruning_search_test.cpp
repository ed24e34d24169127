// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "fastexai/pruning/landmark_search.h"
#include "fastexai/pruning/landmark_units.h"
#include "fastexai/pruning/objective.h"

namespace fastexai {
namespace {

constexpr int64_t kLandmarks = 6;

/// Reads landmark 2 and, ten times less, landmark 4.
class ReadsTwoLandmarks final : public Model {
 public:
  at::Tensor value(const at::Tensor& inputs) const override {
    return (inputs * weight(inputs)).flatten(1).sum(1);
  }
  at::Tensor weighted_gradient(const at::Tensor& inputs, const at::Tensor& rows) const override {
    return weight(inputs).expand_as(inputs) * rows.view({-1, 1, 1, 1});
  }

 private:
  static at::Tensor weight(const at::Tensor& like) {
    auto weight = at::zeros({kLandmarks, 1}, like.options());
    weight[2] = 1;
    weight[4] = 0.1;
    return weight;
  }
};

Constraints free_landmarks() {
  return {at::arange(kLandmarks), at::zeros({kLandmarks}, at::kBool),
          at::zeros({kLandmarks}, at::kBool), at::zeros({kLandmarks, 3}, at::kDouble), 0};
}

LabelledClips labelled_clips() {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(7);
  const auto clips = at::randn({40, 5, kLandmarks, 3}, generator, at::kDouble);
  const auto nobody = at::zeros({40}, at::kBool);
  return {clips, ReadsTwoLandmarks().value(clips) > 0, nobody, nobody,
          at::zeros({2, 5, kLandmarks, 3}, at::kDouble)};
}

LandmarkPath search(Strategy strategy, std::vector<int64_t> sizes,
                    const Constraints& constraints = free_landmarks()) {
  const auto data = labelled_clips();
  SearchOptions options;
  options.sizes = std::move(sizes);
  options.strategy = strategy;
  options.constraints = constraints;
  const auto plan = plan_whole_model(std::make_shared<ReadsTwoLandmarks>(), data.clips);
  return search_landmarks(plan, data, options);
}

TEST(Objective, ScoresKnownOutputs) {
  const auto score = score_outputs({2, -1, 0.5, -3}, {1, 1, 0, 0});
  EXPECT_DOUBLE_EQ(score.balanced_accuracy, 0.5);
  EXPECT_DOUBLE_EQ(score.roc_auc, 0.75);
  const double present = std::log1p(std::exp(-2.0)) + std::log1p(std::exp(1.0));
  const double absent = std::log1p(std::exp(0.5)) + std::log1p(std::exp(-3.0));
  EXPECT_NEAR(score.log_loss, 0.25 * (present + absent), 1e-12);
}

TEST(Objective, ClassesCountOneHalfEach) {
  const auto few = score_outputs({1, -1}, {1, 0});
  const auto many = score_outputs({1, -1, -1, -1, -1}, {1, 0, 0, 0, 0});
  EXPECT_DOUBLE_EQ(few.balanced_accuracy, many.balanced_accuracy);
  EXPECT_DOUBLE_EQ(few.log_loss, many.log_loss);
}

TEST(Objective, ATieInTheOrderCountsOneHalf) {
  EXPECT_DOUBLE_EQ(score_outputs({1, 1, 1, 1}, {1, 0, 1, 0}).roc_auc, 0.5);
}

TEST(Units, ATieKeepsTheLowerIndex) {
  const Units units(free_landmarks());
  EXPECT_EQ(units.by_value({0, 1, 2, 3, 4, 5}, {1, 2, 1, 2, 0, 2}), (Order{1, 3, 5, 0, 2, 4}));
}

TEST(Units, AnEchoIsWorthLessThanNews) {
  const Units units(free_landmarks());
  const std::vector<std::vector<double>> signal{{1, -1, 0}, {2, -2, 0}, {1, 1, -2}};
  EXPECT_EQ(units.by_new_value({0, 1, 2}, {3, 2.9, 2}, signal, 0.7), (Order{0, 2, 1}));
  EXPECT_EQ(units.by_new_value({0, 1, 2}, {3, 2.9, 2}, signal, 0), (Order{0, 1, 2}));
}

TEST(Units, CrowdedOnesMoveToTheEnd) {
  auto constraints = free_landmarks();
  constraints.positions.select(1, 0).copy_(at::tensor({0, 1, 5, 6, 10, 11}));
  constraints.min_spacing = 2;
  EXPECT_EQ(Units(constraints).spaced({1, 0, 2, 4, 3, 5}), (Order{1, 2, 4, 0, 3, 5}));
}

TEST(Units, APairThatDoesNotFitMakesRoomForASingleLandmark) {
  auto constraints = free_landmarks();
  constraints.groups = at::tensor({0, 0, 2, 3, 2, 5}, at::kLong);
  const Units units(constraints);
  EXPECT_EQ(units.size(), 4);
  const auto kept = units.landmarks(units.first({0, 1, 2, 3}, 3));
  EXPECT_TRUE(at::equal(kept, at::tensor({0, 1, 3}, at::kLong)));
}

TEST(SearchLandmarks, EveryStrategyKeepsWhatTheModelReads) {
  for (const auto strategy : {Strategy::kRelevance, Strategy::kRecursive, Strategy::kRedundancy,
                              Strategy::kGreedy, Strategy::kBeam}) {
    const auto path = search(strategy, {6, 2, 1});
    EXPECT_TRUE(at::equal(path.kept[1], at::tensor({2, 4}, at::kLong)));
    EXPECT_TRUE(at::equal(path.kept[2], at::tensor({2}, at::kLong)));
    EXPECT_DOUBLE_EQ(path.scores[1].roc_auc, 1.0);
    EXPECT_EQ(path.relevance[0].count_nonzero().item<int64_t>(), 2);
  }
}

TEST(SearchLandmarks, ThreadsChangeNothing) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = search(Strategy::kBeam, {5, 2});
  at::set_num_threads(2);
  const auto two = search(Strategy::kBeam, {5, 2});
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one.kept[1], two.kept[1]));
  EXPECT_TRUE(at::equal(one.relevance, two.relevance));
  EXPECT_EQ(one.scores[1].log_loss, two.scores[1].log_loss);
}

TEST(SearchLandmarks, KeepsAndExcludesWhatItIsTold) {
  auto constraints = free_landmarks();
  constraints.fixed[5] = true;
  constraints.excluded[2] = true;
  for (const auto strategy : {Strategy::kRecursive, Strategy::kGreedy}) {
    const auto path = search(strategy, {4, 2}, constraints);
    EXPECT_TRUE(at::equal(path.kept[1], at::tensor({5, 4}, at::kLong)));
  }
}

TEST(SearchLandmarks, APairTooManyLeavesOneFewer) {
  auto constraints = free_landmarks();
  constraints.groups = at::tensor({0, 0, 2, 3, 2, 3}, at::kLong);
  for (const auto strategy : {Strategy::kRecursive, Strategy::kGreedy, Strategy::kBeam}) {
    const auto path = search(strategy, {5, 3}, constraints);
    EXPECT_EQ(path.kept[0].size(0), 4);
    EXPECT_TRUE(at::equal(path.kept[1], at::tensor({2, 4}, at::kLong)));
  }
}

TEST(SearchLandmarks, RefusesSizesThatCannotBe) {
  EXPECT_THROW(search(Strategy::kRecursive, {}), c10::ValueError);
  EXPECT_THROW(search(Strategy::kRecursive, {7}), c10::ValueError);
  EXPECT_THROW(search(Strategy::kRecursive, {0}), c10::ValueError);
  EXPECT_THROW(search(Strategy::kRecursive, {3, 4}), c10::ValueError);
  auto constraints = free_landmarks();
  constraints.excluded[0] = true;
  EXPECT_THROW(search(Strategy::kRecursive, {6}, constraints), c10::ValueError);
}

}  // namespace
}  // namespace fastexai
