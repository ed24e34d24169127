// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "fastexai/pruning/masked_evaluation.h"

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

}  // namespace
}  // namespace fastexai
