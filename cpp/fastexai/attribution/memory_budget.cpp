// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/memory_budget.h"

#include <c10/core/Allocator.h>
#include <c10/util/Exception.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <memory>

namespace fastexai {
namespace {

/// LibTorch reports every allocation to the profiler; this one only keeps the sum.
class Meter final : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override {
    now_ += bytes;
    peak_ = std::max(peak_, now_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }

 private:
  int64_t now_ = 0, peak_ = 0;
};

}  // namespace

int64_t peak_bytes(const std::function<void()>& work) {
  const auto meter = std::make_shared<Meter>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter);
  work();
  return meter->peak();
}

Tiles fit_into_memory(int64_t max_bytes, const Tiles& wanted, int64_t rows_per_clip,
                      const std::function<void(int64_t, int64_t)>& work) {
  constexpr int64_t kMany = 16;
  constexpr double kHeap =
      2.25;  // resident bytes for each byte asked for: heaps fragment; measured
  const auto needed = [&](int64_t clips, int64_t rows) {
    return static_cast<int64_t>(kHeap * peak_bytes([&] { work(clips, rows); }));
  };
  work(1, 1);  // what is allocated once and for all
  const int64_t least = needed(1, 1);
  const int64_t per_row = std::max<int64_t>(0, needed(1, kMany) - least) / (kMany - 1);
  const int64_t per_clip = std::max<int64_t>(0, needed(2, 2) - least - per_row);
  TORCH_CHECK_VALUE(max_bytes >= least, "max_memory: expected at least ", least,
                    " bytes, for one clip of this model, got ", max_bytes);
  Tiles tiles = wanted;
  tiles.workers = std::clamp<int64_t>(max_bytes / least, 1, wanted.workers);
  const auto fits = [&](int64_t rows) {
    const int64_t clips = std::max<int64_t>(1, rows / rows_per_clip);
    return least + per_row * (rows - 1) + per_clip * (clips - 1) <= max_bytes / tiles.workers;
  };
  while (tiles.rows > 1 && !fits(tiles.rows)) tiles.rows -= std::max<int64_t>(1, tiles.rows / 8);
  tiles.chunk = std::clamp<int64_t>(tiles.rows / rows_per_clip, 1, wanted.chunk);
  return tiles;
}

}  // namespace fastexai
