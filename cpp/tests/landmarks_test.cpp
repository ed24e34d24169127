// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fastexai/landmarks/eyes.h"
#include "fastexai/landmarks/procrustes.h"
#include "fastexai/landmarks/resample.h"

namespace fastexai {
namespace {

constexpr int64_t kLandmarks = 468;

at::Tensor random_faces(int64_t frames) {
  at::manual_seed(0);
  return at::randn({frames, kLandmarks, 3}, at::kDouble);
}

at::Tensor rotation(double yaw, double roll) {
  const double a = std::cos(yaw), b = std::sin(yaw), c = std::cos(roll), d = std::sin(roll);
  const auto turn_y = at::tensor({a, 0.0, b, 0.0, 1.0, 0.0, -b, 0.0, a}, at::kDouble).view({3, 3});
  const auto turn_z = at::tensor({c, -d, 0.0, d, c, 0.0, 0.0, 0.0, 1.0}, at::kDouble).view({3, 3});
  return turn_z.matmul(turn_y);
}

TEST(AlignEyes, IgnoresShiftScaleAndRoll) {
  const auto faces = random_faces(7);
  const auto moved = 2.5 * faces.matmul(rotation(0, 0.7).t()) + at::tensor({3.0, -1.0, 9.0});
  EXPECT_TRUE(at::allclose(align_eyes(moved), align_eyes(faces), 1e-10, 1e-10));
}

TEST(AlignEyes, LeavesUndetectedFramesNan) {
  auto faces = random_faces(3);
  faces[1].fill_(NAN);
  const auto aligned = align_eyes(faces);
  EXPECT_TRUE(aligned[1].isnan().all().item<bool>());
  EXPECT_FALSE(aligned[0].isnan().any().item<bool>());
  EXPECT_FALSE(aligned[2].isnan().any().item<bool>());
}

TEST(AlignEyes, RefusesOtherShapesAndIntegers) {
  EXPECT_THROW(align_eyes(at::zeros({5, kLandmarks, 2})), c10::ValueError);
  EXPECT_THROW(align_eyes(at::zeros({5, 300, 3})), c10::ValueError);
  EXPECT_THROW(align_eyes(at::zeros({5, kLandmarks, 3}, at::kLong)), c10::TypeError);
}

TEST(AlignToReference, UndoesASimilarityTransform) {
  const auto reference = random_faces(1)[0];
  const auto moved = 0.3 * reference.matmul(rotation(0.9, -0.4).t()) + at::tensor({5.0, 2.0, -7.0});
  const auto basis = at::arange(0, kLandmarks, 9);
  EXPECT_TRUE(at::allclose(align_to_reference(moved, reference, basis), reference, 1e-10, 1e-10));
}

TEST(AlignToReference, NeverReflects) {
  const auto reference = random_faces(1)[0];
  const auto mirrored = reference * at::tensor({-1.0, 1.0, 1.0}, at::kDouble);
  const auto aligned = align_to_reference(mirrored, reference, at::arange(kLandmarks));
  EXPECT_GT((aligned - reference).abs().max().item<double>(), 0.1);
}

TEST(Resample, IsLinearInTimeAndBridgesGaps) {
  const auto seconds = at::tensor({0.0, 0.1, 0.5, 0.6, 1.0}, at::kDouble);
  auto clip = seconds.view({-1, 1, 1}).expand({5, 4, 3}).contiguous();
  clip[2].fill_(NAN);
  const auto wanted = at::linspace(0, 1, 11, at::kDouble).view({-1, 1, 1}).expand({11, 4, 3});
  EXPECT_TRUE(at::allclose(resample(clip, seconds, 11), wanted, 0, 1e-12));
}

TEST(Resample, RefusesAClipWithoutAFaceAndTimeThatStands) {
  const auto seconds = at::tensor({0.0, 1.0}, at::kDouble);
  EXPECT_THROW(resample(at::full({2, 4, 3}, NAN), seconds, 5), c10::ValueError);
  EXPECT_THROW(resample(at::zeros({2, 4, 3}), at::zeros({2}, at::kDouble), 5), c10::ValueError);
}

}  // namespace
}  // namespace fastexai
