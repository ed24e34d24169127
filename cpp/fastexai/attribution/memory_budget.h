// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace fastexai {

/// The most bytes that LibTorch holds on this thread while `work` runs, above what it held before.
int64_t peak_bytes(const std::function<void()>& work);

/// How a run is cut into pieces: workers at a time, rows of one forward pass, clips of one chunk.
struct Tiles {
  int64_t workers, rows, chunk;
};

/// The largest tiles, up to `wanted`, that `max_bytes` can hold. What they need is measured, not
/// guessed: `work(clips, rows)` processes a chunk of so many clips with that many rows at a time.
/// `rows_per_clip` of them make one clip.
Tiles fit_into_memory(int64_t max_bytes, const Tiles& wanted, int64_t rows_per_clip,
                      const std::function<void(int64_t clips, int64_t rows)>& work);

}  // namespace fastexai
