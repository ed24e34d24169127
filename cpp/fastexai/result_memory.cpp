// SPDX-License-Identifier: Apache-2.0
#include "fastexai/result_memory.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <memory>
#include <mutex>
#include <new>
#include <utility>

namespace fastexai {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kLarge = size_t{1} << 22;     // smaller ones the allocator itself keeps at hand
constexpr size_t kMostKept = size_t{1} << 25;  // bytes

struct FreePages {
  void operator()(void* data) const { ::operator delete(data, std::align_val_t{kPage}); }
};

/// Pages that begin at `data`.
struct Block {
  std::unique_ptr<void, FreePages> data;
  size_t bytes = 0;
};

/// The one block that waits for the next result.
struct Spare {
  std::mutex mutex;
  Block block;
};

Spare& spare() {
  static auto& one = *new Spare;  // never destroyed: a result may be freed after all statics are
  return one;
}

/// Asks for huge pages, as NumPy does: a fault each 2 MB, not each 4 kB.
Block fresh_block(size_t bytes) {
  Block block{{::operator new(bytes, std::align_val_t{kPage}), {}}, bytes};
#ifdef MADV_HUGEPAGE
  madvise(block.data.get(), bytes, MADV_HUGEPAGE);
#endif
  return block;
}

/// A block of `bytes` to twice as many.
Block take_block(size_t bytes) {
  {
    const std::lock_guard lock(spare().mutex);
    Block& kept = spare().block;
    if (kept.bytes >= bytes && kept.bytes <= 2 * bytes) return std::exchange(kept, Block{});
  }
  return fresh_block(bytes);
}

void give_back(Block block) {
  if (block.bytes > kMostKept) return;
  const std::lock_guard lock(spare().mutex);
  std::swap(spare().block, block);  // the one that waited is freed after the lock
}

}  // namespace

at::Tensor empty_result(at::IntArrayRef sizes, const at::TensorOptions& options) {
  const size_t bytes = c10::multiply_integers(sizes) * options.dtype().itemsize();
  if (bytes < kLarge || !options.device().is_cpu()) return at::empty(sizes, options);
  auto block = std::make_shared<Block>(take_block(bytes));
  void* data = block->data.get();
  return at::from_blob(data, sizes, [block](void*) { give_back(std::move(*block)); }, options);
}

}  // namespace fastexai
