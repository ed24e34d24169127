// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

/// The one home of messages about arguments: which one, what was expected, what came.
/// Never prints a tensor's contents. The caller's fault is a ValueError or a TypeError in Python.
namespace fastexai {

inline void check_floating(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble, name,
                   ": expected float32 or float64, got ", tensor.scalar_type());
}

inline void check_on_cpu(const at::Tensor& tensor, const char* name) {
  check_floating(tensor, name);
  TORCH_CHECK_VALUE(tensor.device().is_cpu(), name, ": expected a CPU tensor, got ",
                    tensor.device());
}

inline void check_landmarks(const at::Tensor& tensor, const char* name) {
  check_on_cpu(tensor, name);
  TORCH_CHECK_VALUE(tensor.dim() >= 2 && tensor.size(-1) == 3, name, ": expected (..., L, 3), got ",
                    tensor.sizes());
}

/// Finite everywhere; the message names the first sample (row of dimension 0, counted from `first`)
/// that is not.
inline void check_finite(const at::Tensor& tensor, const char* name, int64_t first = 0) {
  if (tensor.numel() == 0 || at::isfinite(tensor.sum()).item<bool>()) return;
  const auto row_is_finite = at::isfinite(tensor.reshape({tensor.size(0), -1})).all(1);
  const auto bad_rows = at::nonzero(row_is_finite.logical_not());
  if (bad_rows.numel() == 0) return;  // only the sum overflowed
  const auto row = bad_rows[0].item<int64_t>();
  const auto flat = tensor[row].reshape({-1});
  const auto value = flat.masked_select(at::isfinite(flat).logical_not())[0].item<double>();
  TORCH_CHECK_VALUE(false, name, ": expected finite values, got ", value, " in sample ",
                    first + row);
}

}  // namespace fastexai
