// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/clips.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <limits>

#include "fastexai/check.h"
#include "fastexai/landmarks/frames.h"
#include "fastexai/landmarks/resample.h"
#include "fastexai/result_memory.h"

namespace fastexai {
namespace {

/// One clip in memory: frames `stride` values apart.
template <typename scalar_t>
struct ClipView {
  const scalar_t* data;
  const double* seconds;
  int64_t frames, stride, landmarks;

  const scalar_t* frame(int64_t t) const { return data + t * stride; }
};

/// The frames with a face, and how to align each of them.
template <typename scalar_t>
struct Faces {
  std::vector<int64_t> detected;
  std::vector<Similarity<scalar_t>> transforms;  // by frame; of detected ones only
};

template <typename scalar_t>
Faces<scalar_t> find_faces(const ClipView<scalar_t>& clip, const Alignment& alignment) {
  Faces<scalar_t> faces;
  faces.transforms.resize(clip.frames);
  std::array<int64_t, kBlock> times;
  std::array<const scalar_t*, kBlock> block;
  std::array<std::optional<Similarity<scalar_t>>, kBlock> fits;
  for (int64_t t = 0; t < clip.frames;) {
    int count = 0;
    for (; t < clip.frames && count < kBlock; ++t) {
      if (t + 1 < clip.frames) prefetch(clip.frame(t + 1), 3 * clip.landmarks);
      if (!is_detected(clip.frame(t), 3 * clip.landmarks)) continue;
      times[count] = t;
      block[count++] = clip.frame(t);
    }
    std::visit([&](const auto& known) { fit(block.data(), count, known, fits.data()); }, alignment);
    for (int m = 0; m < count; ++m) {
      if (!fits[m]) continue;
      faces.detected.push_back(times[m]);
      faces.transforms[times[m]] = *fits[m];
    }
  }
  return faces;
}

/// Most frames in a row that are not detected.
int64_t longest_gap(const std::vector<int64_t>& detected, int64_t frames) {
  int64_t longest = 0, previous = -1;
  for (const int64_t t : detected) {
    longest = std::max(longest, t - previous - 1);
    previous = t;
  }
  return std::max(longest, frames - previous - 1);
}

/// Blends the frames that each place lies between, aligning them on the way.
template <typename scalar_t>
void blend(const ClipView<scalar_t>& clip, const std::vector<Similarity<scalar_t>>& transforms,
           const std::vector<Place>& places, scalar_t* out) {
  for (const auto& [left, right, alpha] : places) {
    transform(transforms[left].times(1 - alpha), clip.frame(left), out, clip.landmarks);
    if (alpha > 0)
      add_transformed(transforms[right].times(alpha), clip.frame(right), out, clip.landmarks);
    out += 3 * clip.landmarks;
  }
}

/// Aligned and filtered detected frames, (T, L, 3); the others are left as they are.
template <typename scalar_t>
std::vector<scalar_t> smoothed(const ClipView<scalar_t>& clip, const Faces<scalar_t>& faces,
                               const OneEuro& filter) {
  const int64_t values = 3 * clip.landmarks;
  std::vector<scalar_t> result(clip.frames * values), derivative(values);
  int64_t previous = -1;
  for (const int64_t t : faces.detected) {
    auto* frame = result.data() + t * values;
    transform(faces.transforms[t], clip.frame(t), frame, clip.landmarks);
    if (previous >= 0)
      filter_step(filter, clip.seconds[t] - clip.seconds[previous],
                  result.data() + previous * values, derivative.data(), frame, values);
    previous = t;
  }
  return result;
}

/// Takes the mean of the first `neutral` frames off all frames.
template <typename scalar_t>
void subtract_neutral(scalar_t* data, int64_t frames, int64_t values, int64_t neutral) {
  std::vector<scalar_t> mean(values);
  for (int64_t t = 0; t < neutral; ++t)
    for (int64_t k = 0; k < values; ++k) mean[k] += data[t * values + k];
  for (auto& value : mean) value /= static_cast<scalar_t>(neutral);
  for (int64_t t = 0; t < frames; ++t)
    for (int64_t k = 0; k < values; ++k) data[t * values + k] -= mean[k];
}

template <typename scalar_t>
void normalize_clip(const ClipView<scalar_t>& clip, const Faces<scalar_t>& faces,
                    const Normalization& how, scalar_t* out) {
  const int64_t values = 3 * clip.landmarks;
  if (faces.detected.empty()) {
    std::fill_n(out, how.frames * values, std::numeric_limits<scalar_t>::quiet_NaN());
    return;
  }
  const auto instants = even_instants(clip.seconds[0], clip.seconds[clip.frames - 1], how.frames);
  const auto places = place(instants, clip.seconds, clip.frames, faces.detected);
  if (how.smoothing) {
    const auto frames = smoothed(clip, faces, *how.smoothing);
    const ClipView<scalar_t> aligned{frames.data(), clip.seconds, clip.frames, values,
                                     clip.landmarks};
    const Similarity<scalar_t> identity({}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}, {});
    blend(aligned, std::vector(clip.frames, identity), places, out);
  } else {
    blend(clip, faces.transforms, places, out);
  }
  if (how.neutral_frames > 0) subtract_neutral(out, how.frames, values, how.neutral_frames);
}

void check_normalization(const Normalization& how, int64_t landmarks) {
  check_alignment(how.alignment, landmarks);
  if (how.smoothing) check_one_euro(*how.smoothing);
  TORCH_CHECK_VALUE(how.frames >= 1, "frames: expected at least 1, got ", how.frames);
  TORCH_CHECK_VALUE(how.neutral_frames >= 0 && how.neutral_frames <= how.frames,
                    "neutral_frames: expected 0 to ", how.frames, " (frames), got ",
                    how.neutral_frames);
}

void check_clips(const std::vector<at::Tensor>& clips, const std::vector<at::Tensor>& timestamps) {
  TORCH_CHECK_VALUE(!clips.empty(), "clips: expected at least one clip, got none");
  TORCH_CHECK_VALUE(clips.size() == timestamps.size(), "timestamps: expected ", clips.size(),
                    " (one per clip), got ", timestamps.size());
  for (size_t i = 0; i < clips.size(); ++i) {
    check_clip(clips[i], timestamps[i]);
    TORCH_CHECK_VALUE(clips[i].size(1) == clips[0].size(1), "clips: expected ", clips[0].size(1),
                      " landmarks in each, got ", clips[i].size(1), " in clip ", i);
    TORCH_CHECK_TYPE(clips[i].scalar_type() == clips[0].scalar_type(),
                     "clips: expected one dtype (", clips[0].scalar_type(), "), got ",
                     clips[i].scalar_type(), " in clip ", i);
  }
}

}  // namespace

NormalizedClips normalize_clips(const std::vector<at::Tensor>& clips,
                                const std::vector<at::Tensor>& timestamps,
                                const Normalization& normalization) {
  check_clips(clips, timestamps);
  const int64_t landmarks = clips[0].size(1);
  check_normalization(normalization, landmarks);
  const auto count = static_cast<int64_t>(clips.size());
  NormalizedClips result{
      empty_result({count, normalization.frames, landmarks, 3}, clips[0].options()),
      at::empty({count}, at::kLong), at::empty({count}, at::kLong)};
  auto* detected = result.detected.mutable_data_ptr<int64_t>();
  auto* gaps = result.longest_gap.mutable_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES(clips[0].scalar_type(), "normalize_clips", [&] {
    auto* out = result.landmarks.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto frames = as_frames(clips[i]);
        const auto times = timestamps[i].contiguous();
        const ClipView<scalar_t> clip{frames.const_data_ptr<scalar_t>(),
                                      times.const_data_ptr<double>(), frames.size(0),
                                      frames.stride(0), landmarks};
        const auto faces = find_faces(clip, normalization.alignment);
        detected[i] = static_cast<int64_t>(faces.detected.size());
        gaps[i] = longest_gap(faces.detected, clip.frames);
        normalize_clip(clip, faces, normalization, out + i * normalization.frames * 3 * landmarks);
      }
    });
  });
  return result;
}

}  // namespace fastexai
