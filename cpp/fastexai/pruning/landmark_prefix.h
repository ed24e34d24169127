// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>

#include "fastexai/attribution/path_plan.h"

namespace fastexai {

/// Note [Separable prefix]: most prefixes treat all frames alike: they apply one matrix to every
/// frame and mix frames, in either order:  linear(x)[t] = sum over s of mix[t, s] * x[s] * weight.
/// The identity mixes nothing; the mean face is subtracted by 1 - 1/T on and -1/T off the diagonal.
/// The two are read off the responses to impulses and verified with numbers. Then a few landmarks
/// cost their own columns only; any other prefix runs as a whole, with the other landmarks at zero.
struct SeparablePrefix {
  at::Tensor mix;     // (T, T); undefined: the identity
  at::Tensor weight;  // (L, 3, H)
};

/// The affine prefix of a plan as the sum of what each landmark adds to a baseline's points.
/// `landmarks`, (K,) int64, are those that may differ from the baseline; the others are held there.
/// Thread-safe.
class LandmarkPrefix {
 public:
  ///   baseline  (T, L, 3)
  LandmarkPrefix(std::shared_ptr<const PathPlan> plan, const at::Tensor& baseline,
                 const Checkpoint& checkpoint = {});

  /// clips (n, T, L, 3) -> points (n, ...)
  at::Tensor points(const at::Tensor& clips, const at::Tensor& landmarks) const;

  /// What `landmarks` add to the points, (n, ...): of disjoint sets, the sum.
  at::Tensor contribution(const at::Tensor& clips, const at::Tensor& landmarks) const;

  /// The gradient by the points, (n, ...), as the gradient by `landmarks`, (n, T, K, 3).
  at::Tensor pull_back(const at::Tensor& gradient, const at::Tensor& landmarks) const;

  const PathPlan& plan() const { return *plan_; }
  const at::Tensor& baseline() const { return baseline_; }
  bool is_separable() const { return separable_.has_value(); }

 private:
  std::shared_ptr<const PathPlan> plan_;
  at::Tensor baseline_, zero_;  // (T, L, 3) and the points of zeros, (1, ...)
  at::Tensor baseline_points_;  // (1, ...)
  std::optional<SeparablePrefix> separable_;
};

}  // namespace fastexai
