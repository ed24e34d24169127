// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/row_projection.h"

#include <ATen/Dispatch.h>

#include <algorithm>

#include "fastexai/simd.h"

namespace fastexai {
namespace {

constexpr int64_t kTileBytes = int64_t{1} << 18;  // of products: an eighth of a large L2 cache

/// Fewer rows are for a product of a matrix and a vector, which does not read padding.
constexpr int64_t kLeastRows = 4;

/// One row of a tile: attributions = share * products * (ends - starts), or added to them.
template <typename scalar_t>
struct Stretch {
  const scalar_t *products, *ends, *starts;
  scalar_t* attributions;
  int64_t count;
  scalar_t share;
  bool add;

  FASTEXAI_INLINE scalar_t attribute(int64_t j) const {
    const scalar_t value = share * products[j] * (ends[j] - starts[j]);
    attributions[j] = add ? attributions[j] + value : value;
    return value;
  }
};

/// Returns the sum of what it wrote or added.
template <typename scalar_t>
FASTEXAI_INLINE double attribute_stretch(const Stretch<scalar_t>& row) {
  constexpr int64_t kLanes = 64 / sizeof(scalar_t);
  scalar_t sums[kLanes] = {};
  int64_t j = 0;
  for (; j + kLanes <= row.count; j += kLanes) {
    FASTEXAI_INDEPENDENT
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += row.attribute(j + lane);
  }
  double sum = 0;
  for (; j < row.count; ++j) sum += row.attribute(j);
  for (const scalar_t part : sums) sum += part;
  return sum;
}

// A clone cannot be a template: one line per type.
FASTEXAI_SIMD_CLONES double attribute(const Stretch<float>& row) { return attribute_stretch(row); }
FASTEXAI_SIMD_CLONES double attribute(const Stretch<double>& row) { return attribute_stretch(row); }

/// A contiguous tensor as rows of so many numbers.
template <typename scalar_t>
Rows<scalar_t> rows_of(const at::Tensor& tensor, int64_t width) {
  return {static_cast<scalar_t*>(tensor.data_ptr()), width};
}

/// `RowProjection::pull_back` for one baseline of each clip.
template <typename scalar_t>
struct PullBack {
  const PackedMatrix& weight;
  Rows<const scalar_t> gradients, ends, starts;
  Rows<scalar_t> attributions;
  int64_t rows, rows_per_clip, starting_rows;  // `starts` repeats after so many
  scalar_t share;
  bool add;

  void run(double* sums) const {
    const int64_t columns = weight.columns, panel = weight.panel_columns();
    const int64_t bytes_of_a_panel = rows * PackedMatrix::kPanelBytes;
    const int64_t width = panel * std::max<int64_t>(1, kTileBytes / bytes_of_a_panel);
    const auto tile =
        at::empty({rows, std::min(width, columns)}, at::CppTypeToScalarType<scalar_t>::value);
    const auto products = rows_of<scalar_t>(tile, tile.size(1));
    for (int64_t from = 0; from < columns; from += width) {
      const int64_t count = std::min(width, columns - from);
      multiply(gradients, rows, weight.narrow(from, count), products, false);
      for (int64_t row = 0; row < rows; ++row)
        sums[row / rows_per_clip] += attribute(
            Stretch<scalar_t>{products[row], ends[row] + from, starts[row % starting_rows] + from,
                              attributions[row] + from, count, share, add});
    }
  }
};

}  // namespace

RowProjection::RowProjection(const at::Tensor& weight, const at::Tensor& origin,
                             const at::Tensor& point_of_origin)
    : weight_(weight),
      forward_(packed(weight.t())),
      backward_(packed(weight)),
      origin_(origin),
      point_of_origin_(point_of_origin),
      from_zeros_(origin.eq(0).all().item<bool>()) {}

at::Tensor RowProjection::project(const at::Tensor& inputs) const {
  auto shape = point_of_origin_.sizes().vec();
  shape[0] = inputs.size(0);
  const auto points = point_of_origin_.expand(shape).clone(at::MemoryFormat::Contiguous);
  const int64_t rows = points.numel() / forward_.columns;
  const auto ends = from_zeros_ ? inputs.contiguous() : (inputs - origin_).contiguous();
  if (rows < kLeastRows) return points + at::matmul(ends.view({rows, -1}), weight_.t()).view(shape);
  AT_DISPATCH_FLOATING_TYPES(points.scalar_type(), "project", [&] {
    multiply(rows_of<const scalar_t>(ends, backward_.columns), rows, forward_,
             rows_of<scalar_t>(points, forward_.columns), true);
  });
  return points;
}

at::Tensor RowProjection::pull_back(const at::Tensor& gradients, const at::Tensor& inputs,
                                    const at::Tensor& baselines, at::Tensor attributions) const {
  const int64_t clips = inputs.size(0), paths = gradients.size(1), columns = backward_.columns;
  const int64_t rows = inputs.numel() / columns;
  const auto sums = at::zeros({clips}, at::kDouble);
  AT_DISPATCH_FLOATING_TYPES(inputs.scalar_type(), "pull_back", [&] {
    for (int64_t k = 0; k < paths; ++k) {
      const auto own = gradients.select(1, k).contiguous();
      const auto starts = paths > 1 ? baselines.select(0, k) : baselines;
      PullBack<scalar_t>{.weight = backward_,
                         .gradients = rows_of<const scalar_t>(own, forward_.columns),
                         .ends = rows_of<const scalar_t>(inputs, columns),
                         .starts = rows_of<const scalar_t>(starts, columns),
                         .attributions = rows_of<scalar_t>(attributions, columns),
                         .rows = rows,
                         .rows_per_clip = rows / clips,
                         .starting_rows = starts.numel() / columns,
                         .share = scalar_t(1) / static_cast<scalar_t>(paths),
                         .add = k > 0}
          .run(sums.mutable_data_ptr<double>());
    }
  });
  return sums.to(inputs.scalar_type());
}

}  // namespace fastexai
