// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <tuple>

#include "bindings.h"
#include "fastexai/pruning/masked_evaluation.h"
#include "fastexai/pruning/search.h"

namespace py = pybind11;

namespace fastexai {

void bind_pruning(py::module_& m) {
  m.def("masked_scores",
        torch::wrap_pybind_function_no_gil(
            [](const ScriptModel& model, const at::Tensor& clips, const at::Tensor& baseline,
               const at::Tensor& kept) { return masked_scores(model, clips, baseline, kept); }),
        py::arg("model"), py::arg("clips"), py::kw_only(), py::arg("baseline"), py::arg("kept"));

  m.def("search_by_relevance",
        torch::wrap_pybind_function_no_gil([](const ScriptModel& model, const at::Tensor& clips,
                                              const at::Tensor& labels, const at::Tensor& baseline,
                                              const at::Tensor& relevance,
                                              const std::vector<int64_t>& sizes) {
          auto search = search_by_relevance(model, clips, labels, baseline, relevance, sizes);
          return std::tuple(search.kept, search.balanced_accuracy, search.roc_auc);
        }),
        py::arg("model"), py::arg("clips"), py::arg("labels"), py::kw_only(), py::arg("baseline"),
        py::arg("relevance"), py::arg("sizes"));
}

}  // namespace fastexai
