// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fastexai/landmarks/alignment.h"
#include "fastexai/landmarks/clips.h"
#include "fastexai/landmarks/one_euro.h"
#include "fastexai/landmarks/resample.h"
#include "fastexai/result_memory.h"

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

TEST(AlignToReference, FitsFacesOfAllKindsSideBySide) {
  const auto reference = random_faces(1)[0];
  auto faces = random_faces(2 * kBlock + 3);
  faces[1] = reference * at::tensor({-1.0, 1.0, 1.0}, at::kDouble);  // mirrored
  faces[2].select(1, 2).zero_();                                     // flat
  faces[3].fill_(4);                                                 // a point
  faces[kBlock][100][1] = NAN;
  const auto basis = at::arange(kLandmarks);
  const auto together = align_to_reference(faces, reference, basis);
  for (int64_t f = 0; f < faces.size(0); ++f) {
    const auto alone = align_to_reference(faces[f], reference, basis);
    EXPECT_TRUE(at::allclose(together[f], alone, 1e-12, 1e-12, true)) << f;
    EXPECT_EQ(alone.isnan().all().item<bool>(), f == 3 || f == kBlock) << f;
  }
}

TEST(EmptyResult, TakesMemoryThatIsFreeAndNoOther) {
  const auto result = [] { return empty_result({1 << 21}, at::kFloat); };
  const auto one = result();
  auto other = result();
  const void* freed = other.data_ptr();
  EXPECT_NE(one.data_ptr(), freed);
  other.reset();
  const auto next = result();
  EXPECT_EQ(next.data_ptr(), freed);
  EXPECT_NE(result().data_ptr(), freed);
  EXPECT_EQ(empty_result({0, 3}, at::kDouble).numel(), 0);
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

TEST(FillGaps, KeepsWhatIsSeenAndLeavesLongGapsNan) {
  const auto seconds = at::tensor({0.0, 0.1, 0.5, 0.6, 0.7, 1.0, 1.1}, at::kDouble);
  const auto line = seconds.view({-1, 1, 1}).expand({7, 4, 3}).contiguous();
  auto clip = line.clone();
  clip[1].fill_(NAN);
  clip[3][2][1] = NAN;
  clip[4].fill_(NAN);
  const auto filled = fill_gaps(clip, seconds, 1);
  EXPECT_TRUE(at::equal(filled[0], clip[0]) && at::equal(filled[2], clip[2]));
  EXPECT_TRUE(at::allclose(filled[1], line[1], 0, 1e-12));
  EXPECT_TRUE(filled.slice(0, 3, 5).isnan().all().item<bool>());
  EXPECT_TRUE(at::allclose(fill_gaps(clip, seconds, 2), line, 0, 1e-12));
  EXPECT_THROW(fill_gaps(clip, seconds, -1), c10::ValueError);
}

TEST(OneEuro, KeepsWhatRestsAndSkipsGaps) {
  const auto seconds = at::arange(6, at::kDouble) / 25;
  auto clip = at::full({6, 4, 3}, 2.5, at::kFloat);
  clip[2].fill_(NAN);
  const auto smoothed = smooth(clip, seconds, {1, 1, 1});
  EXPECT_TRUE(at::equal(smoothed.isnan(), clip.isnan()));
  EXPECT_TRUE(at::equal(smoothed.nan_to_num(2.5), at::full_like(clip, 2.5)));
  EXPECT_THROW(smooth(clip, seconds, {0, 1, 1}), c10::ValueError);
}

TEST(NormalizeClips, IsAlignmentThenResampling) {
  std::vector<at::Tensor> clips{random_faces(9), random_faces(4), random_faces(5)};
  clips[0].slice(0, 2, 5).fill_(NAN);
  clips[2].fill_(NAN);
  std::vector<at::Tensor> seconds;
  for (const auto& clip : clips) seconds.push_back(at::arange(clip.size(0), at::kDouble));
  const auto reference = random_faces(1)[0];
  const auto basis = at::arange(0, kLandmarks, 9);
  const auto result =
      normalize_clips(clips, seconds, {read_reference(reference, basis, kLandmarks), {}, 7});
  for (int i = 0; i < 2; ++i) {
    const auto aligned = align_to_reference(clips[i], reference, basis);
    EXPECT_TRUE(at::allclose(result.landmarks[i], resample(aligned, seconds[i], 7), 0, 1e-10));
  }
  EXPECT_TRUE(result.landmarks[2].isnan().all().item<bool>());
  EXPECT_TRUE(at::equal(result.detected, at::tensor({6, 4, 0}, at::kLong)));
  EXPECT_TRUE(at::equal(result.longest_gap, at::tensor({3, 0, 5}, at::kLong)));
}

TEST(NormalizeClips, TakesTheNeutralFrameOff) {
  const std::vector<at::Tensor> clips{random_faces(9)}, seconds{at::arange(9, at::kDouble)};
  const auto faces = normalize_clips(clips, seconds, {EyeCorners{}, {}, 9}).landmarks;
  const auto moves = normalize_clips(clips, seconds, {EyeCorners{}, {}, 9, 2}).landmarks;
  const auto neutral = faces.slice(1, 0, 2).mean(1, true);
  EXPECT_TRUE(at::allclose(moves, faces - neutral, 0, 1e-12));
}

}  // namespace
}  // namespace fastexai
