// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace fastexai {

/// A matrix with `stride` elements from row to row; stride 0 repeats one row.
template <typename scalar_t>
struct Rows {
  scalar_t* data = nullptr;
  int64_t stride = 0;
  scalar_t* operator[](int64_t row) const { return data + row * stride; }
  operator Rows<const scalar_t>() const { return {data, stride}; }
};

}  // namespace fastexai
