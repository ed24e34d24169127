// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <functional>
#include <memory>

namespace fastexai {

/// A progress callback that takes the GIL for each call, raises KeyboardInterrupt after Ctrl-C, and
/// then calls `callback(done, total)` unless it is None. `callback` is freed under the GIL.
inline std::function<void(int64_t, int64_t)> interruptible(const pybind11::object& callback) {
  const auto free_under_gil = [](pybind11::object* object) {
    const pybind11::gil_scoped_acquire gil;
    delete object;
  };
  const std::shared_ptr<pybind11::object> held(new pybind11::object(callback), free_under_gil);
  return [held](int64_t done, int64_t total) {
    const pybind11::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
    if (!held->is_none()) (*held)(done, total);
  };
}

}  // namespace fastexai
