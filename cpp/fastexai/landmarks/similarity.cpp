// SPDX-License-Identifier: Apache-2.0
#include "fastexai/landmarks/similarity.h"

#include "fastexai/simd.h"

namespace fastexai {
namespace {

template <bool add, typename scalar_t>
FASTEXAI_INLINE void transform_points(const Similarity<scalar_t>& similarity,
                                      const scalar_t* __restrict__ in, scalar_t* __restrict__ out,
                                      int64_t points) {
  const Similarity<scalar_t> s = similarity;  // a copy that `out` cannot alias
  for (int64_t i = 0; i < points; ++i) {
    const scalar_t x = in[3 * i] - s.center[0];
    const scalar_t y = in[3 * i + 1] - s.center[1];
    const scalar_t z = in[3 * i + 2] - s.center[2];
    for (int k = 0; k < 3; ++k) {
      const scalar_t value = s.turn[k][0] * x + s.turn[k][1] * y + s.turn[k][2] * z + s.shift[k];
      out[3 * i + k] = add ? out[3 * i + k] + value : value;
    }
  }
}

}  // namespace

// A clone cannot be a template: one line per type.
FASTEXAI_SIMD_CLONES void transform(const Similarity<float>& similarity, const float* in,
                                    float* out, int64_t points) {
  transform_points<false>(similarity, in, out, points);
}
FASTEXAI_SIMD_CLONES void transform(const Similarity<double>& similarity, const double* in,
                                    double* out, int64_t points) {
  transform_points<false>(similarity, in, out, points);
}
FASTEXAI_SIMD_CLONES void add_transformed(const Similarity<float>& similarity, const float* in,
                                          float* out, int64_t points) {
  transform_points<true>(similarity, in, out, points);
}
FASTEXAI_SIMD_CLONES void add_transformed(const Similarity<double>& similarity, const double* in,
                                          double* out, int64_t points) {
  transform_points<true>(similarity, in, out, points);
}

}  // namespace fastexai
