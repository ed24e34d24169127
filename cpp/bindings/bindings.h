// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

namespace fastexai {

void bind_landmarks(pybind11::module_& m);
void bind_attribution(pybind11::module_& m);
void bind_pruning(pybind11::module_& m);

}  // namespace fastexai
