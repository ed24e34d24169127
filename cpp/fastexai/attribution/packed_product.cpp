// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/packed_product.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "fastexai/simd.h"

// The size of a tile follows the size of the registers, so that a function for each size is written
// out and chosen here; a clone of one function would have the same tile everywhere.
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define FASTEXAI_WIDER_VECTORS
#endif

namespace fastexai {
namespace {

/// So many bytes of numbers as one value; a single number where `bytes` is its size.
template <typename scalar_t, int bytes>
struct VectorOf {
#if defined(__GNUC__) || defined(__clang__)
  typedef scalar_t type __attribute__((vector_size(bytes), aligned(sizeof(scalar_t)), may_alias));
#else
  static_assert(bytes == sizeof(scalar_t));
  using type = scalar_t;
#endif
};

template <typename scalar_t>
constexpr int64_t kPanelColumns = PackedMatrix::kPanelBytes / sizeof(scalar_t);

template <typename Vector, typename scalar_t>
FASTEXAI_INLINE Vector& vector_at(scalar_t* data) {
  return *reinterpret_cast<Vector*>(data);
}

/// A product for `kRows` rows and two vectors of columns, all of whose sums stay in registers.
template <typename scalar_t, int bytes, int kRows>
struct Tile {
  using Vector = typename VectorOf<scalar_t, bytes>::type;
  static constexpr int kLanes = bytes / sizeof(scalar_t), kColumns = 2 * kLanes;

  /// Adds the product of `count` rows; beyond them the last one stands in, for nothing.
  FASTEXAI_INLINE void multiply(Rows<const scalar_t> left, int64_t count, const scalar_t* panel,
                                int64_t depth) {
    int64_t offset[kRows];
    FASTEXAI_UNROLLED
    for (int r = 0; r < kRows; ++r) offset[r] = std::min<int64_t>(r, count - 1) * left.stride;
    for (int64_t k = 0; k < depth; ++k, panel += kPanelColumns<scalar_t>) {
      const Vector low = vector_at<const Vector>(panel);
      const Vector high = vector_at<const Vector>(panel + kLanes);
      FASTEXAI_UNROLLED
      for (int r = 0; r < kRows; ++r) {
        const scalar_t value = left.data[offset[r] + k];
        lows[r] += value * low;
        highs[r] += value * high;
      }
    }
  }

  FASTEXAI_INLINE void store(Rows<scalar_t> product, int64_t count, bool add) const {
    FASTEXAI_UNROLLED
    for (int r = 0; r < kRows; ++r) {
      if (r >= count) break;
      auto& low = vector_at<Vector>(product[r]);
      auto& high = vector_at<Vector>(product[r] + kLanes);
      low = add ? low + lows[r] : lows[r];
      high = add ? high + highs[r] : highs[r];
    }
  }

  /// The same for fewer columns than the tile has.
  FASTEXAI_INLINE void store(Rows<scalar_t> product, int64_t count, bool add,
                             int64_t columns) const {
    if (columns >= kColumns) return store(product, count, add);
    scalar_t sums[kRows * kColumns];
    Tile(*this).store({sums, kColumns}, kRows, false);
    for (int64_t r = 0; r < count; ++r)
      for (int64_t j = 0; j < columns; ++j)
        product[r][j] = (add ? product[r][j] : 0) + sums[r * kColumns + j];
  }

  Vector lows[kRows] = {}, highs[kRows] = {};
};

template <typename scalar_t>
struct Product {
  Product(Rows<const scalar_t> left, int64_t rows, const PackedMatrix& matrix,
          Rows<scalar_t> product, bool add)
      : left(left),
        rows(rows),
        panels(matrix.panels.template const_data_ptr<scalar_t>()),
        depth(matrix.panels.size(1)),
        columns(matrix.columns),
        product(product),
        add(add) {}

  Rows<const scalar_t> left;
  int64_t rows;
  const scalar_t* panels;
  int64_t depth, columns;
  Rows<scalar_t> product;
  bool add;
};

/// A stretch of the sums' terms, and the columns from `column` on.
struct Block {
  int64_t begin, depth, column;
};

/// Rows [row, row + count).
template <int bytes, int kRows, typename scalar_t>
FASTEXAI_INLINE void multiply_tile(const Product<scalar_t>& task, int64_t row, int64_t count,
                                   const Block& block) {
  const int64_t within = block.column % kPanelColumns<scalar_t>;
  const auto* panel = task.panels + (block.column - within) * task.depth + within +
                      block.begin * kPanelColumns<scalar_t>;
  Tile<scalar_t, bytes, kRows> tile;
  tile.multiply({task.left[row] + block.begin, task.left.stride}, count, panel, block.depth);
  tile.store({task.product[row] + block.column, task.product.stride}, count,
             task.add || block.begin > 0, task.columns - block.column);
}

/// Columns outside, rows inside: a panel stays near the first-level cache. Long sums are cut, for
/// the cache's sake and for their rounding's.
template <int bytes, typename scalar_t>
FASTEXAI_INLINE void multiply_with(const Product<scalar_t>& task) {
  // Two vectors of sums for each row, two of the matrix and one number: of 32 registers, or of 16.
  constexpr int kMany = bytes == 64 ? 12 : 6, kFew = 4;
  constexpr int64_t kColumns = Tile<scalar_t, bytes, kFew>::kColumns, kDepth = 512;
  for (int64_t begin = 0; begin < task.depth; begin += kDepth)
    for (int64_t column = 0; column < task.columns; column += kColumns) {
      const Block block{begin, std::min(kDepth, task.depth - begin), column};
      int64_t row = 0;
      for (; row + kMany <= task.rows; row += kMany)
        multiply_tile<bytes, kMany>(task, row, kMany, block);
      for (; row < task.rows; row += kFew)
        multiply_tile<bytes, kFew>(task, row, std::min<int64_t>(kFew, task.rows - row), block);
    }
}

#ifdef FASTEXAI_WIDER_VECTORS
template <typename scalar_t>
__attribute__((target("avx512f"))) void multiply_avx512(const Product<scalar_t>& task) {
  multiply_with<64>(task);
}
template <typename scalar_t>
__attribute__((target("avx2,fma"))) void multiply_avx2(const Product<scalar_t>& task) {
  multiply_with<32>(task);
}
#endif

template <typename scalar_t>
void multiply_anywhere(const Product<scalar_t>& task, [[maybe_unused]] int vector_bytes) {
#ifdef FASTEXAI_WIDER_VECTORS
  if (vector_bytes == 64) return multiply_avx512(task);
  if (vector_bytes == 32) return multiply_avx2(task);
#endif
#if defined(__GNUC__) || defined(__clang__)
  multiply_with<16>(task);
#else
  multiply_with<sizeof(scalar_t)>(task);
#endif
}

}  // namespace

PackedMatrix packed(const at::Tensor& matrix) {
  const auto width = PackedMatrix::kPanelBytes / static_cast<int64_t>(matrix.element_size());
  const auto depth = matrix.size(0), columns = matrix.size(1);
  const auto panels = (columns + width - 1) / width;
  const auto padded = at::constant_pad_nd(matrix, {0, panels * width - columns});
  return {padded.view({depth, panels, width}).transpose(0, 1).contiguous(), columns};
}

PackedMatrix PackedMatrix::narrow(int64_t first, int64_t count) const {
  const auto width = panel_columns();
  return {panels.narrow(0, first / width, (count + width - 1) / width), count};
}

int widest_vectors() {
#ifdef FASTEXAI_WIDER_VECTORS
  if (__builtin_cpu_supports("avx512f")) return 64;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 32;
#endif
  return 16;
}

void multiply(Rows<const float> left, int64_t rows, const PackedMatrix& matrix, Rows<float> product,
              bool add, int vector_bytes) {
  multiply_anywhere<float>({left, rows, matrix, product, add}, vector_bytes);
}
void multiply(Rows<const double> left, int64_t rows, const PackedMatrix& matrix,
              Rows<double> product, bool add, int vector_bytes) {
  multiply_anywhere<double>({left, rows, matrix, product, add}, vector_bytes);
}

}  // namespace fastexai
