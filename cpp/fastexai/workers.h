// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <atomic>
#include <cstdint>
#include <functional>

namespace fastexai {

/// Called between forward passes; may throw to stop the run.
using Checkpoint = std::function<void()>;

/// Runs `work(worker, checkpoint)` on several threads. When one fails, the others stop at their
/// next checkpoint and its exception surfaces. Only worker 0 runs on the calling thread, so that it
/// alone asks `caller` whether to stop.
inline void on_threads(int64_t workers, const Checkpoint& caller,
                       const std::function<void(int64_t, const Checkpoint&)>& work) {
  struct Stopped {};
  std::atomic<bool> stop{false};
  at::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    const c10::InferenceMode ordinary_mode(false);
    const at::NoGradGuard no_grad;
    for (int64_t worker = begin; worker < end; ++worker) try {
        work(worker, [&stop, &caller, worker] {
          if (stop) throw Stopped();
          if (worker == 0 && caller) caller();
        });
      } catch (const Stopped&) {  // the other worker's exception tells why
      } catch (...) {
        stop = true;
        throw;
      }
  });
}

}  // namespace fastexai
