// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include "bindings.h"
#include "fastexai/landmarks/eyes.h"
#include "fastexai/landmarks/procrustes.h"
#include "fastexai/landmarks/resample.h"

namespace py = pybind11;

namespace fastexai {

void bind_landmarks(py::module_& m) {
  m.def("align_eyes", torch::wrap_pybind_function_no_gil([](const at::Tensor& landmarks) {
          return align_eyes(landmarks);
        }),
        py::arg("landmarks"));
  m.def("align_to_reference", torch::wrap_pybind_function_no_gil(align_to_reference),
        py::arg("landmarks"), py::kw_only(), py::arg("reference"), py::arg("basis"));
  m.def("resample", torch::wrap_pybind_function_no_gil(resample), py::arg("landmarks"),
        py::arg("timestamps"), py::kw_only(), py::arg("frames"));
}

}  // namespace fastexai
