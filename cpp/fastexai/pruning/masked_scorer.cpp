// SPDX-License-Identifier: Apache-2.0
#include "fastexai/pruning/masked_scorer.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "fastexai/check.h"

namespace fastexai {
namespace {

constexpr int64_t kBlockClips = 32;  // of one forward pass, whatever the number of threads

/// Hands blocks of clips to the threads, for every subset: `work(rest, subset, first, count)`. What
/// a block gives never depends on the number of threads.
template <typename Work>
void for_blocks(const PathPlan& plan, int64_t subsets, int64_t clips, const Checkpoint& caller,
                const Work& work) {
  const int64_t blocks = (clips + kBlockClips - 1) / kBlockClips;
  std::atomic<int64_t> next{0};
  on_threads(plan.is_parallel() ? at::get_num_threads() : 1, caller,
             [&](int64_t, const Checkpoint& checkpoint) {
               const auto integrand = plan.integrand(plan.good_rows(), checkpoint);
               for (int64_t task; (task = next++) < subsets * blocks;) {
                 checkpoint();
                 const int64_t first = task % blocks * kBlockClips;
                 work(*integrand, task / blocks, first, std::min(kBlockClips, clips - first));
               }
             });
}

}  // namespace

MaskedScorer::MaskedScorer(const LandmarkPrefix& prefix, at::Tensor clips, const at::Tensor& labels,
                           Checkpoint checkpoint)
    : prefix_(prefix), clips_(std::move(clips)), checkpoint_(std::move(checkpoint)) {
  const auto flags = labels.contiguous();
  const auto* const begin = flags.const_data_ptr<bool>();
  labels_.assign(begin, begin + flags.size(0));
}

at::Tensor MaskedScorer::points(const at::Tensor& landmarks) const {
  const at::NoGradGuard no_grad;
  auto shape = prefix_.points(clips_.narrow(0, 0, 1), landmarks).sizes().vec();
  shape[0] = clips_.size(0);
  auto points = at::empty(shape, clips_.options());
  for_blocks(prefix_.plan(), 1, clips_.size(0), checkpoint_,
             [&](Integrand&, int64_t, int64_t first, int64_t count) {
               points.narrow(0, first, count)
                   .copy_(prefix_.points(clips_.narrow(0, first, count), landmarks));
             });
  return points;
}

at::Tensor MaskedScorer::points_after(const Removal& removal) const {
  auto points = at::empty_like(removal.points);
  for_blocks(prefix_.plan(), 1, clips_.size(0), checkpoint_,
             [&](Integrand&, int64_t, int64_t first, int64_t count) {
               auto after = points.narrow(0, first, count);
               at::sub_out(after, removal.points.narrow(0, first, count),
                           prefix_.contribution(clips_.narrow(0, first, count), removal.landmarks));
             });
  return points;
}

at::Tensor MaskedScorer::outputs(const std::vector<Removal>& removals) const {
  const auto subsets = static_cast<int64_t>(removals.size());
  auto outputs = at::empty({subsets, clips_.size(0)}, at::kDouble);
  for_blocks(prefix_.plan(), subsets, clips_.size(0), checkpoint_,
             [&](Integrand& rest, int64_t subset, int64_t first, int64_t count) {
               const auto& [points, landmarks] = removals[subset];
               auto part = points.narrow(0, first, count);
               if (landmarks.numel() > 0)
                 part = part - prefix_.contribution(clips_.narrow(0, first, count), landmarks);
               outputs[subset].narrow(0, first, count).copy_(rest.value(part));
             });
  check_finite(outputs, "model output");
  return outputs;
}

std::vector<Score> MaskedScorer::scores(const std::vector<Removal>& removals) const {
  const auto all = outputs(removals);
  std::vector<Score> scores;
  for (int64_t subset = 0; subset < all.size(0); ++subset) {
    const auto* const row = all[subset].const_data_ptr<double>();
    scores.push_back(score_outputs(std::vector<double>(row, row + all.size(1)), labels_));
  }
  return scores;
}

}  // namespace fastexai
