// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace fastexai {

/// Which landmarks a search may remove, and which only together.
struct Constraints {
  at::Tensor groups;       // (L,) int64: landmarks of one number are kept or removed together
  at::Tensor fixed;        // (L,) bool: always kept
  at::Tensor excluded;     // (L,) bool: never kept
  at::Tensor positions;    // (L, 3) float64
  double min_spacing = 0;  // in units of `positions`
};

/// What is kept or removed as one.
struct Unit {
  std::vector<int64_t> landmarks;  // ascending
  bool fixed = false;
};

/// Units by their place in a list.
using Order = std::vector<int64_t>;

/// The landmarks that are not excluded, as units in ascending order of their first landmark.
class Units {
 public:
  explicit Units(const Constraints& constraints);

  const Unit& operator[](int64_t unit) const { return units_[unit]; }
  int64_t size() const { return static_cast<int64_t>(units_.size()); }
  int64_t count(const Order& units) const;         // of their landmarks
  at::Tensor landmarks(const Order& units) const;  // (K,) int64, in their order

  /// Fixed units first, then by falling value; ties by the lower index.
  Order by_value(const Order& units, const std::vector<double>& value) const;

  /// The same, with every value lowered by what the units before it already tell: by the share
  /// `redundancy` of the largest |correlation| of its `signal` with one of theirs.
  /// Source: Ding & Peng, J. Bioinform. Comput. Biol. 3(2), 2005 (minimum redundancy, maximum
  /// relevance), with the largest instead of the mean correlation.
  ///   signal  one vector for each of `units`
  Order by_new_value(const Order& units, const std::vector<double>& value,
                     const std::vector<std::vector<double>>& signal, double redundancy) const;

  /// The same order, but units closer than `min_spacing` to an earlier one move to its end.
  Order spaced(const Order& order) const;

  /// From the front, every unit that still fits: at most `size` landmarks.
  Order first(const Order& order, int64_t size) const;

 private:
  bool is_crowded(int64_t unit, const Order& others) const;

  std::vector<Unit> units_;
  at::Tensor positions_;
  double min_spacing_;
};

}  // namespace fastexai
