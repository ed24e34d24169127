// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <functional>
#include <memory>

namespace fastexai {

/// Raises KeyboardInterrupt soon after Ctrl-C. For the thread that called from Python, without the
/// GIL, which it takes 20 times a second at most.
inline std::function<void()> interruptible() {
  using Clock = std::chrono::steady_clock;
  return [last = Clock::now()]() mutable {
    if (Clock::now() - last < std::chrono::milliseconds(50)) return;
    const pybind11::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
    last = Clock::now();
  };
}

/// A progress callback that takes the GIL for each call. `callback` is freed under the GIL.
inline std::function<void(int64_t, int64_t)> under_gil(const pybind11::object& callback) {
  if (callback.is_none()) return {};
  const auto free_under_gil = [](pybind11::object* object) {
    const pybind11::gil_scoped_acquire gil;
    delete object;
  };
  const std::shared_ptr<pybind11::object> held(new pybind11::object(callback), free_under_gil);
  return [held](int64_t done, int64_t total) {
    const pybind11::gil_scoped_acquire gil;
    (*held)(done, total);
  };
}

}  // namespace fastexai
