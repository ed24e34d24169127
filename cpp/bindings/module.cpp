// SPDX-License-Identifier: Apache-2.0
#include "bindings.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled core of fastexai.";
  fastexai::bind_landmarks(m);
  fastexai::bind_attribution(m);
  fastexai::bind_pruning(m);
}
