// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include "bindings.h"
#include "fastexai/attribution/path_integrator.h"
#include "fastexai/attribution/script_model.h"
#include "progress.h"

namespace py = pybind11;

namespace fastexai {

void bind_attribution(py::module_& m) {
  py::class_<ScriptModel, std::shared_ptr<ScriptModel>>(m, "ScriptModel")
      .def_static("from_file", torch::wrap_pybind_function_no_gil(ScriptModel::from_file),
                  py::arg("path"))
      .def_static("from_buffer", torch::wrap_pybind_function_no_gil(ScriptModel::from_buffer),
                  py::arg("buffer"))
      .def("with_target", torch::wrap_pybind_function(&ScriptModel::with_target), py::arg("target"))
      .def("value", torch::wrap_pybind_function_no_gil(&ScriptModel::value), py::arg("inputs"));

  m.def("gauss_legendre", torch::wrap_pybind_function([](int64_t n) {
          auto rule = gauss_legendre(n);
          return std::pair(std::move(rule.nodes), std::move(rule.weights));
        }),
        py::arg("n"));

  m.def("integrate_path",
        torch::wrap_pybind_function([](const ScriptModel& model, const at::Tensor& inputs,
                                       const at::Tensor& baselines, int64_t n_steps,
                                       int64_t max_rows, const py::object& progress) {
          const PathOptions options{max_rows, interruptible(progress)};
          const py::gil_scoped_release no_gil;
          auto result = integrate_path(model, inputs, baselines, gauss_legendre(n_steps), options);
          return std::pair(result.attributions, result.delta);
        }),
        py::arg("model"), py::arg("inputs"), py::arg("baselines"), py::kw_only(),
        py::arg("n_steps"), py::arg("max_rows"), py::arg("progress") = py::none());
}

}  // namespace fastexai
