// SPDX-License-Identifier: Apache-2.0
#include "fastexai/pruning/landmark_units.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace fastexai {
namespace {

/// Mean 0 and length 1; a constant signal becomes zeros.
std::vector<double> standardized(std::vector<double> signal) {
  double mean = 0, squares = 0;
  for (const double value : signal) mean += value / static_cast<double>(signal.size());
  for (double& value : signal) {
    value -= mean;
    squares += value * value;
  }
  const double length = std::sqrt(squares);
  for (double& value : signal) value = length > 0 ? value / length : 0;
  return signal;
}

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return std::abs(sum);
}

}  // namespace

Units::Units(const Constraints& constraints)
    : positions_(constraints.positions.contiguous()), min_spacing_(constraints.min_spacing) {
  const auto groups = constraints.groups.accessor<int64_t, 1>();
  const auto fixed = constraints.fixed.accessor<bool, 1>();
  const auto excluded = constraints.excluded.accessor<bool, 1>();
  std::map<int64_t, int64_t> unit_of;
  for (int64_t landmark = 0; landmark < groups.size(0); ++landmark) {
    if (excluded[landmark]) continue;
    const auto [entry, is_new] = unit_of.try_emplace(groups[landmark], size());
    if (is_new) units_.emplace_back();
    auto& unit = units_[entry->second];
    unit.landmarks.push_back(landmark);
    unit.fixed = unit.fixed || fixed[landmark];
  }
}

int64_t Units::count(const Order& units) const {
  int64_t landmarks = 0;
  for (const int64_t unit : units) landmarks += static_cast<int64_t>(units_[unit].landmarks.size());
  return landmarks;
}

at::Tensor Units::landmarks(const Order& units) const {
  std::vector<int64_t> all;
  for (const int64_t unit : units)
    all.insert(all.end(), units_[unit].landmarks.begin(), units_[unit].landmarks.end());
  return at::tensor(all, at::kLong);
}

Order Units::by_value(const Order& units, const std::vector<double>& value) const {
  Order places(units.size());
  for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<int64_t>(i);
  std::stable_sort(places.begin(), places.end(), [&](int64_t a, int64_t b) {
    const bool fixed_a = units_[units[a]].fixed, fixed_b = units_[units[b]].fixed;
    if (fixed_a != fixed_b) return fixed_a;
    if (value[a] != value[b]) return value[a] > value[b];
    return units[a] < units[b];
  });
  for (auto& place : places) place = units[place];
  return places;
}

Order Units::by_new_value(const Order& units, const std::vector<double>& value,
                          const std::vector<std::vector<double>>& signal, double redundancy) const {
  std::vector<std::vector<double>> standard;
  for (const auto& one : signal) standard.push_back(standardized(one));
  std::vector<double> told(units.size(), 0);  // the largest correlation with a unit chosen before
  std::vector<bool> chosen(units.size(), false);
  Order order;
  while (order.size() < units.size()) {
    size_t best = units.size();
    const auto is_better = [&](size_t a, size_t b) {
      const bool fixed_a = units_[units[a]].fixed, fixed_b = units_[units[b]].fixed;
      if (fixed_a != fixed_b) return fixed_a;
      const double own_a = value[a] * (1 - redundancy * told[a]);
      const double own_b = value[b] * (1 - redundancy * told[b]);
      return own_a > own_b || (own_a == own_b && units[a] < units[b]);
    };
    for (size_t i = 0; i < units.size(); ++i)
      if (!chosen[i] && (best == units.size() || is_better(i, best))) best = i;
    chosen[best] = true;
    order.push_back(units[best]);
    for (size_t i = 0; i < units.size(); ++i)
      if (!chosen[i]) told[i] = std::max(told[i], correlation(standard[i], standard[best]));
  }
  return order;
}

bool Units::is_crowded(int64_t unit, const Order& others) const {
  const auto positions = positions_.accessor<double, 2>();
  const auto is_near = [&](int64_t a, int64_t b) {
    double squares = 0;
    for (int64_t c = 0; c < 3; ++c) squares += std::pow(positions[a][c] - positions[b][c], 2);
    return squares < min_spacing_ * min_spacing_;
  };
  for (const int64_t other : others)
    for (const int64_t a : units_[unit].landmarks)
      for (const int64_t b : units_[other].landmarks)
        if (is_near(a, b)) return true;
  return false;
}

Order Units::spaced(const Order& order) const {
  if (min_spacing_ <= 0) return order;
  Order apart, crowded;
  for (const int64_t unit : order)
    (!units_[unit].fixed && is_crowded(unit, apart) ? crowded : apart).push_back(unit);
  apart.insert(apart.end(), crowded.begin(), crowded.end());
  return apart;
}

Order Units::first(const Order& order, int64_t size) const {
  Order kept;
  int64_t room = size;
  for (const int64_t unit : order) {
    const auto needed = static_cast<int64_t>(units_[unit].landmarks.size());
    if (needed > room) continue;
    kept.push_back(unit);
    room -= needed;
  }
  return kept;
}

}  // namespace fastexai
