// SPDX-License-Identifier: Apache-2.0
#include "fastexai/pruning/masked_evaluation.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "fastexai/check.h"

namespace fastexai {
namespace {

constexpr int64_t kClipsPerForward = 64;

}  // namespace

at::Tensor masked_scores(const Model& model, const at::Tensor& clips, const at::Tensor& baseline,
                         const at::Tensor& kept) {
  check_landmarks(clips, "clips");
  TORCH_CHECK_VALUE(clips.dim() == 4 && clips.size(0) >= 1,
                    "clips: expected (N, T, L, 3) with N >= 1, got ", clips.sizes());
  TORCH_CHECK_VALUE(baseline.sizes() == clips.sizes().slice(1), "baseline: expected ",
                    clips.sizes().slice(1), ", got ", baseline.sizes());
  TORCH_CHECK_TYPE(baseline.scalar_type() == clips.scalar_type(), "baseline: expected ",
                   clips.scalar_type(), " like clips, got ", baseline.scalar_type());
  TORCH_CHECK_VALUE(kept.dim() == 2 && kept.size(1) == clips.size(2), "kept: expected (S, ",
                    clips.size(2), "), got ", kept.sizes());
  TORCH_CHECK_TYPE(kept.scalar_type() == at::kBool, "kept: expected bool, got ",
                   kept.scalar_type());
  check_finite(clips, "clips");
  check_finite(baseline, "baseline");
  const int64_t subsets = kept.size(0), count = clips.size(0);
  const int64_t chunks = (count + kClipsPerForward - 1) / kClipsPerForward;
  auto scores = at::empty({subsets, count}, clips.options());
  at::parallel_for(0, subsets * chunks, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t subset = task / chunks, first = task % chunks * kClipsPerForward;
      const int64_t width = std::min(kClipsPerForward, count - first);
      const auto masked = at::where(kept[subset].view({1, 1, -1, 1}), clips.narrow(0, first, width),
                                    baseline.unsqueeze(0));
      scores[subset].narrow(0, first, width).copy_(model.value(masked));
    }
  });
  return scores;
}

}  // namespace fastexai
