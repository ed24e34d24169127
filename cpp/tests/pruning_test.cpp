// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "fastexai/pruning/masked_evaluation.h"
#include "fastexai/pruning/search.h"

namespace fastexai {
namespace {

constexpr int64_t kLandmarks = 6;

/// Reads landmark 2 and nothing else.
class ReadsOneLandmark final : public Model {
 public:
  at::Tensor value(const at::Tensor& inputs) const override {
    return inputs.select(2, 2).flatten(1).sum(1);
  }
  at::Tensor weighted_gradient(const at::Tensor& inputs, const at::Tensor&) const override {
    return at::zeros_like(inputs);
  }
};

TEST(MaskedScores, HoldsRemovedLandmarksAtTheBaseline) {
  const auto clips = at::randn({150, 5, kLandmarks, 3});
  const auto baseline = at::ones({5, kLandmarks, 3});
  auto kept = at::ones({2, kLandmarks}, at::kBool);
  kept[1][2] = false;
  const auto scores = masked_scores(ReadsOneLandmark(), clips, baseline, kept);
  EXPECT_TRUE(at::allclose(scores[0], ReadsOneLandmark().value(clips)));
  EXPECT_TRUE(at::allclose(scores[1], at::full({150}, 15.0)));
}

TEST(SearchByRelevance, KeepsTheMostRelevantInNestedSubsets) {
  const auto clips = at::randn({40, 5, kLandmarks, 3});
  const auto labels = ReadsOneLandmark().value(clips) > 0;
  const auto relevance = at::tensor({0.1, 0.2, 0.9, 0.2, 0.0, 0.2}, at::kDouble);
  const auto search = search_by_relevance(ReadsOneLandmark(), clips, labels,
                                          at::zeros({5, kLandmarks, 3}), relevance, {6, 2, 1});
  EXPECT_TRUE(at::equal(search.kept.sum(1), at::tensor({6, 2, 1}, at::kLong)));
  // Landmarks 1, 3 and 5 tie for the second place: the lower index stays.
  EXPECT_TRUE(at::equal(search.kept[1].nonzero().flatten(), at::tensor({1, 2}, at::kLong)));
  EXPECT_TRUE(at::equal(search.kept[2].nonzero().flatten(), at::tensor({2}, at::kLong)));
  EXPECT_TRUE(at::allclose(search.roc_auc, at::ones({3}, at::kDouble)));
  EXPECT_TRUE(at::allclose(search.balanced_accuracy, at::ones({3}, at::kDouble)));
}

TEST(SearchByRelevance, RefusesOneClassAndSizesThatDoNotDecrease) {
  const auto clips = at::randn({4, 5, kLandmarks, 3});
  const auto baseline = at::zeros({5, kLandmarks, 3});
  const auto relevance = at::ones({kLandmarks}, at::kDouble);
  const auto both = at::tensor({1, 0, 1, 0}, at::kLong).to(at::kBool);
  const ReadsOneLandmark model;
  EXPECT_THROW(
      search_by_relevance(model, clips, at::ones({4}, at::kBool), baseline, relevance, {6}),
      c10::ValueError);
  EXPECT_THROW(search_by_relevance(model, clips, both, baseline, relevance, {2, 6}),
               c10::ValueError);
  EXPECT_THROW(search_by_relevance(model, clips, both, baseline, relevance, {7}), c10::ValueError);
}

}  // namespace
}  // namespace fastexai
