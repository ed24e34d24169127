// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <tuple>

#include "bindings.h"
#include "fastexai/pruning/landmark_search.h"
#include "fastexai/pruning/masked_evaluation.h"
#include "progress.h"

namespace py = pybind11;

namespace fastexai {

void bind_pruning(py::module_& m) {
  m.def("masked_scores",
        torch::wrap_pybind_function_no_gil(
            [](const ScriptModel& model, const at::Tensor& clips, const at::Tensor& baseline,
               const at::Tensor& kept) { return masked_scores(model, clips, baseline, kept); }),
        py::arg("model"), py::arg("clips"), py::kw_only(), py::arg("baseline"), py::arg("kept"));

  py::class_<Score>(m, "Score")
      .def_readonly("balanced_accuracy", &Score::balanced_accuracy)
      .def_readonly("roc_auc", &Score::roc_auc)
      .def_readonly("log_loss", &Score::log_loss);

  m.def("search_landmarks",
        torch::wrap_pybind_function(
            [](const std::shared_ptr<PathPlan>& plan, const at::Tensor& clips,
               const at::Tensor& labels, const at::Tensor& validation, const at::Tensor& neutral,
               const at::Tensor& baselines, std::vector<int64_t> sizes, const std::string& strategy,
               const std::string& objective, const at::Tensor& groups, const at::Tensor& fixed,
               const at::Tensor& excluded, const at::Tensor& positions, double min_spacing,
               int64_t candidates, int64_t beam_width, double redundancy, int64_t nodes,
               const py::object& progress) {
              const Constraints constraints{groups, fixed, excluded, positions, min_spacing};
              const SearchOptions options{std::move(sizes),
                                          strategy_named(strategy),
                                          objective_named(objective),
                                          constraints,
                                          candidates,
                                          beam_width,
                                          redundancy,
                                          nodes,
                                          under_gil(progress),
                                          interruptible()};
              const py::gil_scoped_release no_gil;
              auto path =
                  search_landmarks(plan, {clips, labels, validation, neutral, baselines}, options);
              return std::tuple(path.kept, path.scores, path.relevance, path.description);
            }),
        py::arg("plan"), py::arg("clips"), py::arg("labels"), py::kw_only(), py::arg("validation"),
        py::arg("neutral"), py::arg("baselines"), py::arg("sizes"), py::arg("strategy"),
        py::arg("objective"), py::arg("groups"), py::arg("fixed"), py::arg("excluded"),
        py::arg("positions"), py::arg("min_spacing"), py::arg("candidates"), py::arg("beam_width"),
        py::arg("redundancy"), py::arg("nodes"), py::arg("progress") = py::none());
}

}  // namespace fastexai
