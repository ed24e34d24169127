// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "fastexai/simd.h"

/// Activations of recurrent cells as branch-free arithmetic. The float32 ones vectorise with any
/// compiler and need no FMA or rounding instruction; the float64 ones call libm.
/// NaN stays NaN, and infinities saturate.
namespace fastexai {

/// A fraction that is not yet divided. A cell has four or five activations, whose divisions would
/// be most of its time: it divides once for several and shares the reciprocal. All denominators
/// below lie in [1, 2], so products of a few of them are harmless.
template <typename scalar_t>
struct Fraction {
  scalar_t numerator;
  scalar_t denominator;
};

/// exp(x) = scale * (1 + fraction) * 2^-bias, with fraction = exp(r) - 1 and |r| <= log(2) / 2.
struct SplitExp {
  float scale;     // a power of two
  float fraction;  // relatively accurate around 0
};

/// For x in [-104, 0]. A bias of 64 keeps the scale normal where exp(x) is not, below -87.3.
template <int bias>
FASTEXAI_INLINE SplitExp split_exp(float x) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa; adding
  // the exponent's own bias as well makes these bits, shifted into place, the power of two.
  constexpr float kRound = 12582912.0F + 127.0F + bias;
  const float rounded = x * 1.44269504F + kRound;
  const float n = rounded - kRound;
  // log(2) in two parts; n times the first one is exact.
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  // Minimax for (exp(r) - 1 - r) / r^2: error below 0.06 ulp of exp(r). The two
  // halves are independent: the length of the chain is what costs.
  const float r2 = r * r;
  const float low = 4.9999994e-1F + r * 1.666652e-1F;
  const float high = 4.16684e-2F + r * 8.368851e-3F + r2 * 1.3814312e-3F;
  return {std::bit_cast<float>(std::bit_cast<uint32_t>(rounded) << 23), r + r2 * (low + r2 * high)};
}

/// exp(x) for x <= 0.
FASTEXAI_INLINE float exp_nonpositive(float x) {
  const auto [scale, fraction] = split_exp<64>(x < -104.0F ? -104.0F : x);
  return (scale + scale * fraction) * 0x1p-64F;
}
FASTEXAI_INLINE double exp_nonpositive(double x) { return std::exp(x); }

/// exp(x) - 1 for x <= 0, relatively accurate around 0.
FASTEXAI_INLINE float expm1_nonpositive(float x) {
  const auto [scale, fraction] = split_exp<0>(x < -40.0F ? -40.0F : x);
  return (scale - 1.0F) + scale * fraction;
}
FASTEXAI_INLINE double expm1_nonpositive(double x) { return std::expm1(x); }

template <typename scalar_t>
FASTEXAI_INLINE Fraction<scalar_t> sigmoid_fraction(scalar_t x) {
  const scalar_t e = exp_nonpositive(-std::abs(x));
  return {x < 0 ? e : scalar_t(1), 1 + e};
}

/// -expm1(-2|x|) / (2 + expm1(-2|x|)), with the sign of x.
template <typename scalar_t>
FASTEXAI_INLINE Fraction<scalar_t> tanh_fraction(scalar_t x) {
  const scalar_t e = expm1_nonpositive(-2 * std::abs(x));
  return {std::copysign(e, x), 2 + e};
}

template <typename scalar_t>
FASTEXAI_INLINE scalar_t divided(Fraction<scalar_t> fraction) {
  return fraction.numerator / fraction.denominator;
}

template <typename scalar_t>
FASTEXAI_INLINE scalar_t sigmoid(scalar_t x) {
  return divided(sigmoid_fraction(x));
}

template <typename scalar_t>
FASTEXAI_INLINE scalar_t tanh(scalar_t x) {
  return divided(tanh_fraction(x));
}

}  // namespace fastexai
