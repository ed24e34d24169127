// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "fastexai/attribution/path_plan.h"

namespace fastexai {

/// The straight paths of a few clips, behind the affine prefix. Each clip has one, or as many as
/// there are shared baselines; these lie together.
struct Paths {
  at::Tensor leaf;                    // (n, ...), the inputs
  at::Tensor end;                     // (n, ...), what the prefix makes of them
  at::Tensor start, difference;       // (paths, ...)
  at::Tensor start_value, end_value;  // (paths,)
};

/// Where the paths of a run begin and end: what comes before the integral and after it. Threads
/// share it, each with an integrand of its own.
class PathEnds {
 public:
  /// baselines: one for each clip; or, where `shared`, those that every clip starts from.
  PathEnds(const PathPlan& plan, const at::Tensor& inputs, const at::Tensor& baselines, bool shared,
           bool multiply_by_inputs, Integrand& integrand);

  /// The paths of clips [first, first + count).
  Paths paths(Integrand& integrand, int64_t first, int64_t count) const;

  /// Pulls mean gradients, (paths, ...), back through the prefix. Writes the attributions of clips
  /// [first, first + n) and their sums minus the change of F, (n,), as means over baselines.
  void finish(const Paths& paths, const at::Tensor& mean_gradients, int64_t first,
              const at::Tensor& attributions, const at::Tensor& delta) const;

  /// That `numbers`, one for each clip from `first` on, are finite; if not, says what is to blame.
  void check(const at::Tensor& numbers, const char* name, int64_t first) const;

 private:
  at::Tensor own_baselines(int64_t first, int64_t count) const;
  void pull_back_by_autograd(const Paths& paths, const at::Tensor& gradients, int64_t first,
                             at::Tensor attributions) const;

  const PathPlan& plan_;
  at::Tensor inputs_, baselines_;
  bool shared_, multiply_by_inputs_;
  const RowProjection* row_projection_;           // null where autograd pulls back
  at::Tensor shared_start_, shared_start_value_;  // behind the prefix; undefined unless `shared_`
};

}  // namespace fastexai
