// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/one_euro.h"

#include <ATen/Dispatch.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "fastexai/landmarks/frames.h"
#include "fastexai/landmarks/resample.h"
#include "fastexai/result_memory.h"
#include "fastexai/simd.h"

namespace fastexai {
namespace {

template <typename scalar_t>
FASTEXAI_INLINE void step(const OneEuro& filter, double seconds,
                          const scalar_t* __restrict__ previous, scalar_t* __restrict__ derivative,
                          scalar_t* __restrict__ values, int64_t count) {
  // The paper's alpha, 1 / (1 + tau / Te) with tau = 1 / (2 pi fc), is w / (1 + w), w = 2 pi fc Te.
  const double turn = 2 * std::numbers::pi * seconds;
  const double w = turn * filter.derivative_cutoff;
  const auto derivative_alpha = static_cast<scalar_t>(w / (1 + w));
  const auto resting = static_cast<scalar_t>(turn * filter.min_cutoff);
  const auto moving = static_cast<scalar_t>(turn * filter.beta);
  const auto rate = static_cast<scalar_t>(1 / seconds);
  for (int64_t i = 0; i < count; ++i) {
    const scalar_t change = values[i] - previous[i];
    const scalar_t speed = derivative[i] + derivative_alpha * (change * rate - derivative[i]);
    const scalar_t cutoff = resting + moving * std::abs(speed);
    derivative[i] = speed;
    values[i] = previous[i] + cutoff / (1 + cutoff) * change;
  }
}

}  // namespace

void check_one_euro(const OneEuro& filter) {
  TORCH_CHECK_VALUE(filter.min_cutoff > 0 && std::isfinite(filter.min_cutoff),
                    "min_cutoff: expected a positive number of hertz, got ", filter.min_cutoff);
  TORCH_CHECK_VALUE(filter.beta >= 0 && std::isfinite(filter.beta),
                    "beta: expected a number from 0, got ", filter.beta);
  TORCH_CHECK_VALUE(filter.derivative_cutoff > 0 && std::isfinite(filter.derivative_cutoff),
                    "derivative_cutoff: expected a positive number of hertz, got ",
                    filter.derivative_cutoff);
}

FASTEXAI_SIMD_CLONES void filter_step(const OneEuro& filter, double seconds, const float* previous,
                                      float* derivative, float* values, int64_t count) {
  step(filter, seconds, previous, derivative, values, count);
}
FASTEXAI_SIMD_CLONES void filter_step(const OneEuro& filter, double seconds, const double* previous,
                                      double* derivative, double* values, int64_t count) {
  step(filter, seconds, previous, derivative, values, count);
}

at::Tensor smooth(const at::Tensor& landmarks, const at::Tensor& timestamps,
                  const OneEuro& filter) {
  check_clip(landmarks, timestamps);
  check_one_euro(filter);
  const auto in = as_frames(landmarks);
  const auto times = timestamps.contiguous();
  auto out = empty_result(landmarks.sizes(), landmarks.options());
  const int64_t stride = 3 * in.size(1);
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "smooth", [&] {
    const auto* source = in.const_data_ptr<scalar_t>();
    const auto* seconds = times.const_data_ptr<double>();
    auto* target = out.mutable_data_ptr<scalar_t>();
    std::vector<scalar_t> derivative(stride);
    int64_t previous = -1;
    for (int64_t t = 0; t < in.size(0); ++t) {
      const auto* raw = source + t * in.stride(0);
      auto* frame = target + t * stride;
      if (!is_detected(raw, stride)) {
        std::fill_n(frame, stride, std::numeric_limits<scalar_t>::quiet_NaN());
        continue;
      }
      std::copy_n(raw, stride, frame);
      if (previous >= 0)
        filter_step(filter, seconds[t] - seconds[previous], target + previous * stride,
                    derivative.data(), frame, stride);
      previous = t;
    }
  });
  return out;
}

}  // namespace fastexai
