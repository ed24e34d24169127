// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

namespace fastexai {

/// The One-Euro filter: a low-pass filter whose cutoff grows with the speed, so that what rests
/// does not tremble and what moves does not lag.
/// Source: Casiez, Roussel & Vogel, CHI 2012, algorithm 1.
struct OneEuro {
  double min_cutoff;         // hertz, of what rests
  double beta;               // hertz per unit of speed (landmark units per second)
  double derivative_cutoff;  // hertz, of the speed's own filter
};

void check_one_euro(const OneEuro& filter);

/// Filters one frame in place, coordinate by coordinate.
///   values      (count,) in: raw, out: filtered
///   previous    (count,) the filtered values of `seconds` ago
///   derivative  (count,) filtered speeds: the state; zeros before the second frame
void filter_step(const OneEuro& filter, double seconds, const float* previous, float* derivative,
                 float* values, int64_t count);
void filter_step(const OneEuro& filter, double seconds, const double* previous, double* derivative,
                 double* values, int64_t count);

/// Filters a clip over its detected frames; the others stay NaN. Thread-safe.
///   landmarks   (T, L, 3) float32 or float64, CPU; a frame with any NaN or Inf is "not detected"
///   timestamps  (T,) float64, seconds, strictly increasing
///   returns     (T, L, 3)
at::Tensor smooth(const at::Tensor& landmarks, const at::Tensor& timestamps, const OneEuro& filter);

}  // namespace fastexai
