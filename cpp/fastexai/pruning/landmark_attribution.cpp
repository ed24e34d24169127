// SPDX-License-Identifier: Apache-2.0
#include "fastexai/pruning/landmark_attribution.h"

#include <ATen/Dispatch.h>

#include <algorithm>
#include <atomic>
#include <cmath>

namespace fastexai {
namespace {

constexpr int64_t kBlockClips = 32;  // clips of one product with the prefix's matrix

/// One worker's view of a run.
class Attributor {
 public:
  Attributor(const LandmarkPrefix& prefix, const at::Tensor& baselines, const at::Tensor& landmarks,
             const Quadrature& rule, const Checkpoint& checkpoint)
      : prefix_(prefix),
        landmarks_(landmarks),
        rows_(prefix.plan().good_rows()),
        integrand_(prefix.plan().integrand(rows_, checkpoint)),
        start_(prefix.points(baselines, landmarks)),
        moved_start_(moved(baselines)) {
    const auto options = baselines.options();
    nodes_ = at::tensor(rule.nodes, at::kDouble).to(options);
    weights_ = at::tensor(rule.weights, at::kDouble).to(options).unsqueeze(0);
  }

  /// clips (n, T, L, 3), result (n, M, 3) float64
  void attribute(const at::Tensor& clips, at::Tensor result) {
    const auto gradient = mean_gradients(prefix_.points(clips, landmarks_));
    const auto moved_clips = moved(clips);
    result.zero_();
    for (int64_t k = 0; k < start_.size(0); ++k)
      add_products(moved_clips, moved_start_[k],
                   prefix_.pull_back(gradient.select(1, k), landmarks_), result);
    result.div_(start_.size(0));
  }

 private:
  /// How far the landmarks are from the baseline that they may be held at, (n, T, M, 3).
  at::Tensor moved(const at::Tensor& clips) const {
    return clips.index_select(2, landmarks_) - prefix_.baseline().index_select(1, landmarks_);
  }

  /// end (n, ...) -> the mean gradient on the path from every baseline, (n, K, ...)
  at::Tensor mean_gradients(const at::Tensor& end) {
    const int64_t clips = end.size(0), each = start_.size(0);
    const int64_t width = std::max<int64_t>(1, rows_ / (each * nodes_.size(0)));
    std::vector<at::Tensor> parts;
    for (int64_t first = 0; first < clips; first += width) {
      const auto tile = end.narrow(0, first, std::min(width, clips - first));
      const auto difference = tile.unsqueeze(1) - start_.unsqueeze(0);
      const auto start = start_.unsqueeze(0).expand_as(difference).flatten(0, 1);
      parts.push_back(
          integrand_->gradient_sums(start, difference.flatten(0, 1), nodes_, weights_)[0].unflatten(
              0, {tile.size(0), each}));
    }
    return at::cat(parts);
  }

  /// Adds the sum over time of (clips - baseline) * gradient: one pass over large tensors.
  static void add_products(const at::Tensor& clips, const at::Tensor& baseline,
                           const at::Tensor& gradient, at::Tensor& result) {
    const auto from = baseline.contiguous(), to = clips.contiguous(), slope = gradient.contiguous();
    const int64_t frames = to.size(1), width = to.size(2) * 3;
    auto* const sums = result.mutable_data_ptr<double>();
    AT_DISPATCH_FLOATING_TYPES(to.scalar_type(), "add_products", [&] {
      const auto* b = from.const_data_ptr<scalar_t>();
      for (int64_t i = 0; i < to.size(0); ++i)
        for (int64_t t = 0; t < frames; ++t) {
          const auto* x = to.const_data_ptr<scalar_t>() + (i * frames + t) * width;
          const auto* g = slope.const_data_ptr<scalar_t>() + (i * frames + t) * width;
          for (int64_t j = 0; j < width; ++j)
            sums[i * width + j] += static_cast<double>((x[j] - b[t * width + j]) * g[j]);
        }
    });
  }

  const LandmarkPrefix& prefix_;
  at::Tensor landmarks_;
  int64_t rows_;
  std::unique_ptr<Integrand> integrand_;
  at::Tensor start_, moved_start_;  // (K, ...) and (K, T, M, 3)
  at::Tensor nodes_, weights_;
};

/// The mean of some clips' attributions to one coordinate, and the squared distances from it,
/// summed.
struct Spread {
  double mean = 0, squares = 0;
};

Spread spread_of(const at::TensorAccessor<double, 3>& values, const at::Tensor& clips,
                 int64_t landmark, int64_t coordinate) {
  const auto index = clips.accessor<int64_t, 1>();
  Spread spread;
  for (int64_t i = 0; i < index.size(0); ++i)
    spread.mean += values[index[i]][landmark][coordinate] / static_cast<double>(index.size(0));
  for (int64_t i = 0; i < index.size(0); ++i) {
    const double rest = values[index[i]][landmark][coordinate] - spread.mean;
    spread.squares += rest * rest;
  }
  return spread;
}

}  // namespace

at::Tensor attribute_landmarks(const LandmarkPrefix& prefix, const at::Tensor& clips,
                               const at::Tensor& baselines, const at::Tensor& landmarks,
                               const Quadrature& rule, const Checkpoint& checkpoint) {
  const int64_t count = clips.size(0);
  auto result = at::empty({count, landmarks.size(0), 3}, at::kDouble);
  std::atomic<int64_t> next{0};
  const int64_t workers = prefix.plan().is_parallel() ? at::get_num_threads() : 1;
  on_threads(workers, checkpoint, [&](int64_t, const Checkpoint& own) {
    Attributor attributor(prefix, baselines, landmarks, rule, own);
    for (int64_t first; (first = next.fetch_add(kBlockClips)) < count;) {
      own();
      const int64_t width = std::min(kBlockClips, count - first);
      attributor.attribute(clips.narrow(0, first, width), result.narrow(0, first, width));
    }
  });
  return result;
}

Evidence weigh_evidence(const at::Tensor& attributions, const at::Tensor& labels,
                        const at::Tensor& neutral) {
  const auto values = attributions.accessor<double, 3>();
  const auto others = labels.logical_not(), resting = others.logical_and(neutral);
  const auto shown = labels.nonzero().flatten(), rest = others.nonzero().flatten();
  const auto calm = resting.any().item<bool>() ? resting.nonzero().flatten() : rest;
  const int64_t landmarks = values.size(1);
  Evidence evidence{std::vector<double>(landmarks, 0), std::vector<double>(landmarks, 0)};
  for (int64_t l = 0; l < landmarks; ++l) {
    double squares = 0;
    for (int64_t c = 0; c < 3; ++c) {
      const auto own = spread_of(values, shown, l, c);
      evidence.relevance[l] += std::abs(own.mean - spread_of(values, rest, l, c).mean);
      const auto before = spread_of(values, calm, l, c);
      const double clips = static_cast<double>(shown.size(0) + calm.size(0));
      const double variance = (own.squares + before.squares) / clips;
      const double contrast = own.mean - before.mean;
      if (variance > 0) squares += contrast * contrast / variance;
    }
    evidence.effect[l] = std::sqrt(squares);
  }
  return evidence;
}

}  // namespace fastexai
