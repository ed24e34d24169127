// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "fastexai/attribution/rows.h"

/// Products of a few rows with the same matrix, over and over: what a recurrence does at every time
/// step, and a prefix for every few clips. A general product packs the matrix again each time and
/// pays for its call; with 100 rows and 64 hidden units that is a tenth of its time, with fewer
/// more.
namespace fastexai {

/// A matrix (K, N) in panels of columns, of which one row has kPanelBytes.
struct PackedMatrix {
  static constexpr int64_t kPanelBytes = 128;
  at::Tensor panels;  // (P, K, panel_columns()), zeros beyond the last column
  int64_t columns = 0;

  int64_t panel_columns() const { return panels.size(2); }
  /// `count` columns from `first` on, the first of a panel.
  PackedMatrix narrow(int64_t first, int64_t count) const;
};

/// `matrix` is (K, N), float32 or float64, CPU.
PackedMatrix packed(const at::Tensor& matrix);

/// The bytes of the widest vectors that `multiply` has on this machine: 64, 32 or 16.
int widest_vectors();

/// product = left matrix, or product += left matrix, for so many rows; one thread. What a row
/// becomes does not depend on the rows beside it.
///   left          (rows, K)
///   product       (rows, N), no part of `left`
///   vector_bytes  at most widest_vectors()
void multiply(Rows<const float> left, int64_t rows, const PackedMatrix& matrix, Rows<float> product,
              bool add, int vector_bytes = widest_vectors());
void multiply(Rows<const double> left, int64_t rows, const PackedMatrix& matrix,
              Rows<double> product, bool add, int vector_bytes = widest_vectors());

}  // namespace fastexai
