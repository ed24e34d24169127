// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/pull_back.h"

#include <algorithm>

namespace fastexai {
namespace {

constexpr int64_t kTile = 1 << 16;  // numbers; three tiles of floats fit into an L2 cache

/// Columns of one tile of so many rows: no fewer than make a product worth its call.
int64_t columns_of_tile(int64_t rows, int64_t columns) {
  return std::min(columns, std::max<int64_t>(256, kTile / rows));
}

}  // namespace

at::Tensor pull_back(const at::Tensor& weight, const at::Tensor& gradients,
                     const at::Tensor& inputs, const at::Tensor& baselines,
                     at::Tensor attributions) {
  const int64_t clips = inputs.size(0), paths = gradients.size(1), columns = weight.size(1);
  const auto rows_of = [&](const at::Tensor& t) { return t.view({t.size(0), -1, columns}); };
  const auto ends = rows_of(inputs), starts = rows_of(baselines), result = rows_of(attributions);
  const int64_t rows = clips * ends.size(1), width = columns_of_tile(rows, columns);
  auto sums = at::zeros({clips}, inputs.options());
  auto scratch = at::empty({rows * width}, inputs.options());
  for (int64_t from = 0; from < columns; from += width) {
    const int64_t count = std::min(width, columns - from);
    const auto tile = [&](const at::Tensor& t) { return t.narrow(-1, from, count); };
    auto product = scratch.narrow(0, 0, rows * count).view({rows, count});
    const auto mean = product.view({clips, -1, count});
    auto out = tile(result);
    const auto end = tile(ends);
    for (int64_t k = 0; k < paths; ++k) {
      at::mm_out(product, gradients.select(1, k).reshape({rows, -1}), tile(weight));
      const auto start = paths > 1 ? starts.narrow(0, k, 1) : starts;
      if (k == 0)
        at::sub_out(out, end, tile(start)).mul_(mean);
      else
        out.addcmul_(mean, end - tile(start));
    }
    if (paths > 1) out.div_(paths);
    sums += out.sum({1, 2});
  }
  return sums;
}

}  // namespace fastexai
