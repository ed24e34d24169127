// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <tuple>

#include "bindings.h"
#include "callable_model.h"
#include "fastexai/attribution/path_integrator.h"
#include "fastexai/attribution/path_plan.h"
#include "fastexai/attribution/script_model.h"
#include "progress.h"

namespace py = pybind11;

namespace fastexai {
namespace {

auto as_tuple(const PathIntegral& result) {
  return std::tuple(result.attributions, result.delta, result.nodes, result.converged);
}

}  // namespace

void bind_attribution(py::module_& m) {
  py::class_<Model, std::shared_ptr<Model>>(m, "Model")
      .def("value", torch::wrap_pybind_function_no_gil(&Model::value), py::arg("inputs"));

  py::class_<CallableModel, Model, std::shared_ptr<CallableModel>>(m, "CallableModel")
      .def(py::init<py::function, std::vector<int64_t>>(), py::arg("forward"),
           py::arg("target") = std::vector<int64_t>());

  py::class_<ScriptModel, Model, std::shared_ptr<ScriptModel>>(m, "ScriptModel")
      .def_static("from_file", torch::wrap_pybind_function_no_gil(ScriptModel::from_file),
                  py::arg("path"))
      .def_static("from_buffer", torch::wrap_pybind_function_no_gil(ScriptModel::from_buffer),
                  py::arg("buffer"))
      .def("with_target", torch::wrap_pybind_function(&ScriptModel::with_target),
           py::arg("target"));

  m.def("gauss_legendre", torch::wrap_pybind_function([](int64_t n) {
          auto rule = gauss_legendre(n);
          return std::pair(std::move(rule.nodes), std::move(rule.weights));
        }),
        py::arg("n"));

  py::class_<PathPlan, std::shared_ptr<PathPlan>>(m, "PathPlan")
      .def_property_readonly("description", &PathPlan::description);

  m.def("plan_paths",
        torch::wrap_pybind_function_no_gil(
            [](const std::shared_ptr<Model>& model, const at::Tensor& example, bool use_structure) {
              const auto script = std::dynamic_pointer_cast<ScriptModel>(model);
              return std::const_pointer_cast<PathPlan>(
                  script ? plan_paths(script, example, use_structure)
                         : plan_whole_model(model, example, "not TorchScript"));
            }),
        py::arg("model"), py::arg("example"), py::kw_only(), py::arg("use_structure") = true);

  m.def("integrate_path",
        torch::wrap_pybind_function([](const PathPlan& plan, const at::Tensor& inputs,
                                       const at::Tensor& baselines, std::vector<double> nodes,
                                       std::vector<double> weights, int64_t max_rows,
                                       int64_t max_bytes, bool multiply_by_inputs,
                                       bool mean_over_baselines, const py::object& progress) {
          const PathOptions options{multiply_by_inputs, mean_over_baselines, max_rows,
                                    max_bytes,          under_gil(progress), interruptible()};
          const Quadrature rule{std::move(nodes), std::move(weights)};
          const py::gil_scoped_release no_gil;
          return as_tuple(integrate_path(plan, inputs, baselines, rule, options));
        }),
        py::arg("plan"), py::arg("inputs"), py::arg("baselines"), py::kw_only(), py::arg("nodes"),
        py::arg("weights"), py::arg("max_rows") = 0, py::arg("max_bytes") = 0,
        py::arg("multiply_by_inputs") = true, py::arg("mean_over_baselines") = false,
        py::arg("progress") = py::none());

  m.def("integrate_path_adaptively",
        torch::wrap_pybind_function([](const PathPlan& plan, const at::Tensor& inputs,
                                       const at::Tensor& baselines, double tol, int64_t max_nodes,
                                       int64_t max_rows, int64_t max_bytes, bool multiply_by_inputs,
                                       bool mean_over_baselines, const py::object& progress) {
          const PathOptions options{multiply_by_inputs, mean_over_baselines, max_rows,
                                    max_bytes,          under_gil(progress), interruptible()};
          const py::gil_scoped_release no_gil;
          return as_tuple(
              integrate_path_adaptively(plan, inputs, baselines, {tol, max_nodes}, options));
        }),
        py::arg("plan"), py::arg("inputs"), py::arg("baselines"), py::kw_only(), py::arg("tol"),
        py::arg("max_nodes"), py::arg("max_rows") = 0, py::arg("max_bytes") = 0,
        py::arg("multiply_by_inputs") = true, py::arg("mean_over_baselines") = false,
        py::arg("progress") = py::none());
}

}  // namespace fastexai
