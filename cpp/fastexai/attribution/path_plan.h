// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>

#include "fastexai/attribution/row_projection.h"
#include "fastexai/attribution/script_model.h"
#include "fastexai/workers.h"

namespace fastexai {

/// The model behind its affine prefix, for one thread: it may keep buffers between calls.
/// A point is what the prefix makes of one clip; points of n clips are (n, ...), clips first.
class Integrand {
 public:
  virtual ~Integrand() = default;

  /// points (n, ...) -> F, (n,)
  virtual at::Tensor value(const at::Tensor& points) = 0;

  /// Weighted sums over nodes of the gradient on straight paths, for several rules at once.
  ///   start, difference  (n, ...)
  ///   nodes              (S,) in [0, 1]
  ///   weights            (R, S), one rule a row
  ///   returns            (R, n, ...)
  virtual at::Tensor gradient_sums(const at::Tensor& start, const at::Tensor& difference,
                                   const at::Tensor& nodes, const at::Tensor& weights) = 0;
};

/// How to integrate along the straight paths of one model, for clips of one shape and dtype.
///
/// Note [Affine prefix]: F = S(P(x)) with P affine maps the straight path from b to x onto the
/// straight path from P(b) to P(x). So P runs at the two ends only, S at the nodes, and P's
/// transpose once, on the node-weighted sum of S's gradients. The plan finds P in the TorchScript
/// graph by itself, verifies it with numbers, and does without wherever anything is doubtful.
/// Thread-safe.
class PathPlan {
 public:
  virtual ~PathPlan() = default;

  /// inputs (n, ...) -> points (n, ...); differentiable where grad mode is on
  virtual at::Tensor project(const at::Tensor& inputs) const = 0;

  /// The prefix where it is such a layer, for clips on the CPU; null elsewhere.
  virtual const RowProjection* row_projection() const { return nullptr; }

  /// `max_rows` bounds the rows (clips x nodes) of one forward pass.
  virtual std::unique_ptr<Integrand> integrand(int64_t max_rows,
                                               Checkpoint checkpoint = {}) const = 0;

  /// Where the integral has a closed form: an integrand whose gradient sums are exact whatever the
  /// nodes. Null elsewhere.
  virtual std::unique_ptr<Integrand> closed_form() const { return nullptr; }

  /// Whether several threads may work on it, each with an integrand of its own.
  virtual bool is_parallel() const { return true; }

  /// Rows of one forward pass that keep its working set near the caches.
  virtual int64_t good_rows() const = 0;

  /// Clips that should go together even where one of them fills a pass.
  virtual int64_t least_clips() const { return 1; }

  /// What was found, in words.
  virtual std::string description() const = 0;
};

/// A plan without a prefix for any model: every node runs all of it, for the `reason` given.
std::shared_ptr<const PathPlan> plan_whole_model(std::shared_ptr<const Model> model,
                                                 const at::Tensor& example,
                                                 std::string reason = "");

/// Plans for clips like `example`, (N, ...). With `use_structure` off the plan has no prefix: every
/// node runs the whole model.
std::shared_ptr<const PathPlan> plan_paths(std::shared_ptr<const ScriptModel> model,
                                           const at::Tensor& example, bool use_structure = true);

}  // namespace fastexai
