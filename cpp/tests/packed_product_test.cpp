// SPDX-License-Identifier: Apache-2.0
#include "fastexai/attribution/packed_product.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <tuple>

namespace {

using fastexai::PackedMatrix;
using fastexai::Rows;

/// The rows of a matrix whose elements are contiguous within a row.
template <typename scalar_t>
Rows<scalar_t> rows_of(const at::Tensor& matrix) {
  return {static_cast<scalar_t*>(matrix.data_ptr()), matrix.stride(0)};
}

void multiply_into(const at::Tensor& product, const at::Tensor& left, const PackedMatrix& matrix,
                   bool add, int vector_bytes) {
  AT_DISPATCH_FLOATING_TYPES(left.scalar_type(), "multiply", [&] {
    fastexai::multiply(rows_of<const scalar_t>(left), left.size(0), matrix,
                       rows_of<scalar_t>(product), add, vector_bytes);
  });
}

/// Whatever kind of number, and whatever vectors this machine has.
class EveryVector : public testing::TestWithParam<std::tuple<at::ScalarType, int>> {
 protected:
  void SetUp() override {
    at::manual_seed(0);
    if (bytes() > fastexai::widest_vectors()) GTEST_SKIP() << "not on this machine";
  }
  at::TensorOptions options() const { return std::get<0>(GetParam()); }
  int bytes() const { return std::get<1>(GetParam()); }
  double tolerance() const { return std::get<0>(GetParam()) == at::kFloat ? 1e-6 : 1e-14; }
};

TEST_P(EveryVector, AgreesWithAGeneralProduct) {
  for (const int64_t rows : {1, 2, 4, 5, 6, 11, 12, 13, 30}) {
    for (const int64_t depth : {1, 7, 64}) {
      for (const int64_t columns : {1, 3, 8, 15, 16, 31, 32, 33, 80}) {
        SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(depth) + " x " +
                     std::to_string(columns));
        const auto left = at::randn({rows, depth}, options());
        const auto matrix = at::randn({depth, columns}, options());
        const auto product = at::empty({rows, columns}, options());
        multiply_into(product, left, fastexai::packed(matrix), false, bytes());
        const auto expected = at::mm(left, matrix);
        EXPECT_LE((product - expected).abs().max().item<double>(), tolerance() * depth);
        multiply_into(product, left, fastexai::packed(matrix), true, bytes());
        EXPECT_LE((product - 2 * expected).abs().max().item<double>(), 2 * tolerance() * depth);
      }
    }
  }
}

TEST_P(EveryVector, WritesNothingBesideTheProduct) {
  const auto left = at::randn({7, 9}, options()), matrix = at::randn({9, 37}, options());
  const auto canvas = at::full({9, 50}, 3, options());
  const auto product = canvas.narrow(0, 1, 7).narrow(1, 5, 37);
  multiply_into(product, left, fastexai::packed(matrix), false, bytes());
  EXPECT_LE((product - at::mm(left, matrix)).abs().max().item<double>(), 9 * tolerance());
  product.fill_(3);
  EXPECT_TRUE(canvas.eq(3).all().item<bool>());
}

TEST_P(EveryVector, GivesARowTheSameSumsWhateverIsBesideIt) {
  const auto left = at::randn({29, 40}, options());
  const auto matrix = fastexai::packed(at::randn({40, 35}, options()));
  const auto together = at::empty({29, 35}, options()), alone = at::empty({29, 35}, options());
  multiply_into(together, left, matrix, false, bytes());
  for (int64_t row = 0; row < 29; ++row)
    multiply_into(alone.narrow(0, row, 1), left.narrow(0, row, 1), matrix, false, bytes());
  EXPECT_TRUE(at::equal(together, alone));
}

TEST_P(EveryVector, KeepsNaNToItsOwnRow) {
  const auto left = at::randn({14, 5}, options()), matrix = at::randn({5, 18}, options());
  left[3][2] = std::numeric_limits<double>::quiet_NaN();
  left[13][0] = std::numeric_limits<double>::infinity();
  const auto product = at::zeros({14, 18}, options());
  multiply_into(product, left, fastexai::packed(matrix), false, bytes());
  EXPECT_TRUE(at::isnan(product[3]).all().item<bool>());
  EXPECT_TRUE(at::isinf(product[13]).all().item<bool>());
  EXPECT_EQ(at::isfinite(product).sum().item<int64_t>(), 12 * 18);
}

INSTANTIATE_TEST_SUITE_P(PackedProduct, EveryVector,
                         testing::Combine(testing::Values(at::kFloat, at::kDouble),
                                          testing::Values(16, 32, 64)));

}  // namespace
