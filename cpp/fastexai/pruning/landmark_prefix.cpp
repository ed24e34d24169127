// SPDX-License-Identifier: Apache-2.0
#include "fastexai/pruning/landmark_prefix.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <utility>

namespace fastexai {
namespace {

constexpr int64_t kImpulses = 16;  // at a time: 16 clips of 20 frames are 2 MB

/// The linear part of a prefix, frame by frame.
class Responses {
 public:
  Responses(const PathPlan& plan, const at::Tensor& baseline, at::Tensor zero)
      : plan_(plan),
        zero_(std::move(zero)),
        frames_(baseline.size(0)),
        options_(baseline.options()),
        shape_{0, baseline.size(0), 3 * baseline.size(1)} {}

  int64_t frames() const { return frames_; }
  int64_t inputs() const { return shape_[2]; }

  /// `fill` sets rows [first, first + n) of (n, T, 3L) zeros; returns what they cause, (n, T, H).
  at::Tensor of(int64_t count, const Checkpoint& caller,
                const std::function<void(at::Tensor&, int64_t first)>& fill) const {
    const int64_t blocks = (count + kImpulses - 1) / kImpulses;
    std::vector<at::Tensor> parts(blocks);
    std::atomic<int64_t> next{0};
    on_threads(at::get_num_threads(), caller, [&](int64_t, const Checkpoint& checkpoint) {
      for (int64_t block; (block = next++) < blocks;) {
        checkpoint();
        const int64_t first = block * kImpulses;
        auto rows = at::zeros({std::min(kImpulses, count - first), shape_[1], shape_[2]}, options_);
        fill(rows, first);
        const auto points = plan_.project(rows.unflatten(2, {-1, 3})) - zero_;
        parts[block] = points.reshape({points.size(0), frames_, -1});
      }
    });
    return at::cat(parts);
  }

 private:
  const PathPlan& plan_;
  at::Tensor zero_;
  int64_t frames_;
  at::TensorOptions options_;
  std::vector<int64_t> shape_;
};

at::Tensor mixed(const at::Tensor& mix, const at::Tensor& frames) {
  return mix.defined() ? at::matmul(mix, frames) : frames;
}

/// Whether `a` is `b` up to rounding.
bool agree(const at::Tensor& a, const at::Tensor& b) {
  const double tolerance = a.scalar_type() == at::kDouble ? 1e-11 : 1e-5;
  return (a - b).abs().max().item<double>() <= tolerance * b.abs().max().item<double>();
}

/// See Note [Separable prefix].
std::optional<SeparablePrefix> find_separable(const Responses& responses, const at::Tensor& zero,
                                              const Checkpoint& checkpoint) {
  if (zero.dim() < 3 || zero.size(1) != responses.frames()) return std::nullopt;
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(20240714);
  const int64_t frames = responses.frames(), inputs = responses.inputs();
  const auto face = at::randn({inputs}, generator, zero.options());
  const auto by_frame = responses.of(frames, checkpoint, [&](at::Tensor& rows, int64_t first) {
    for (int64_t i = 0; i < rows.size(0); ++i) rows[i][first + i] = face;
  });
  // The frame where a frame shows most of itself.
  const auto strength = by_frame.square().sum(2);
  const int64_t strongest = strength.argmax().item<int64_t>();
  const int64_t from = strongest / frames, to = strongest % frames;
  const auto direction = by_frame[from][to];
  if (!(strength[from][to].item<double>() > 0)) return std::nullopt;
  SeparablePrefix prefix;
  prefix.mix = (at::matmul(by_frame, direction) / direction.square().sum()).t().contiguous();
  const auto columns = responses.of(inputs, checkpoint, [&](at::Tensor& rows, int64_t first) {
    for (int64_t i = 0; i < rows.size(0); ++i) rows[i][from][first + i] = 1;
  });
  prefix.weight = columns.select(1, to).contiguous().view({-1, 3, columns.size(2)});
  const auto samples = at::randn({2, frames, inputs}, generator, zero.options());
  const auto expected =
      responses.of(2, checkpoint, [&](at::Tensor& rows, int64_t) { rows.copy_(samples); });
  const auto found = at::matmul(samples, prefix.weight.flatten(0, 1));
  if (!agree(mixed(prefix.mix, found), expected)) return std::nullopt;
  if (agree(found, expected)) prefix.mix = at::Tensor();
  return prefix;
}

}  // namespace

LandmarkPrefix::LandmarkPrefix(std::shared_ptr<const PathPlan> plan, const at::Tensor& baseline,
                               const Checkpoint& checkpoint)
    : plan_(std::move(plan)), baseline_(baseline.contiguous()) {
  const at::NoGradGuard no_grad;
  const auto nothing = at::zeros_like(baseline_).unsqueeze(0);
  zero_ = plan_->project(nothing);
  baseline_points_ = plan_->project(baseline_.unsqueeze(0));
  if (zero_.is_same(nothing)) return;  // no prefix: the point is the clip
  separable_ = find_separable(Responses(*plan_, baseline_, zero_), zero_, checkpoint);
}

at::Tensor LandmarkPrefix::points(const at::Tensor& clips, const at::Tensor& landmarks) const {
  if (separable_) return contribution(clips, landmarks).add_(baseline_points_);
  auto masked = baseline_.expand_as(clips).clone(at::MemoryFormat::Contiguous);
  masked.index_copy_(2, landmarks, clips.index_select(2, landmarks));
  return plan_->project(masked);
}

at::Tensor LandmarkPrefix::contribution(const at::Tensor& clips,
                                        const at::Tensor& landmarks) const {
  const auto moved = clips.index_select(2, landmarks) - baseline_.index_select(1, landmarks);
  if (separable_) {
    const auto weight = separable_->weight.index_select(0, landmarks).flatten(0, 1);
    const auto points = mixed(separable_->mix, at::matmul(moved.flatten(2), weight));
    auto shape = zero_.sizes().vec();
    shape[0] = clips.size(0);
    return points.view(shape);
  }
  return plan_->project(at::zeros_like(clips).index_copy_(2, landmarks, moved)) - zero_;
}

at::Tensor LandmarkPrefix::pull_back(const at::Tensor& gradient,
                                     const at::Tensor& landmarks) const {
  if (separable_) {
    const auto mix = separable_->mix.defined() ? separable_->mix.t() : at::Tensor();
    const auto weight = separable_->weight.index_select(0, landmarks).flatten(0, 1);
    return at::matmul(mixed(mix, gradient.flatten(2)), weight.t()).unflatten(2, {-1, 3});
  }
  auto shape = baseline_.sizes().vec();
  shape.insert(shape.begin(), gradient.size(0));
  const at::AutoGradMode grad(true);
  const auto leaf = at::zeros(shape, baseline_.options()).requires_grad_();
  const auto pulled = torch::autograd::grad({plan_->project(leaf)}, {leaf}, {gradient})[0];
  return pulled.index_select(2, landmarks);
}

}  // namespace fastexai
