// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

namespace fastexai {

/// Memory for a result, uninitialised. Thread-safe.
///
/// Fresh memory costs more than all that is done here: the kernel clears each page of it, 0.5 us
/// for the landmarks of one frame. So the block of a large result is kept when the result is freed,
/// and the next one of about its size is written there. At most one block waits, of at most 32 MiB.
at::Tensor empty_result(at::IntArrayRef sizes, const at::TensorOptions& options);

}  // namespace fastexai
