// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <tuple>

#include "bindings.h"
#include "fastexai/check.h"
#include "fastexai/landmarks/alignment.h"
#include "fastexai/landmarks/clips.h"
#include "fastexai/landmarks/one_euro.h"
#include "fastexai/landmarks/resample.h"

namespace py = pybind11;

namespace fastexai {
namespace {

using Tensors = std::vector<at::Tensor>;

/// `procrustes` is (reference, basis); without it faces are aligned by the eyes. `smoothing` is
/// (min_cutoff, beta, derivative_cutoff).
std::tuple<at::Tensor, at::Tensor, at::Tensor> bound_normalize_clips(
    const Tensors& clips, const Tensors& timestamps, int64_t frames,
    const std::optional<std::tuple<at::Tensor, at::Tensor>>& procrustes,
    const std::optional<std::tuple<double, double, double>>& smoothing, int64_t neutral_frames) {
  Normalization how{EyeCorners{}, std::nullopt, frames, neutral_frames};
  if (procrustes && !clips.empty()) {
    check_landmarks(clips[0], "clips");
    const auto& [reference, basis] = *procrustes;
    how.alignment = read_reference(reference, basis, clips[0].size(-2));
  }
  if (smoothing) how.smoothing = std::make_from_tuple<OneEuro>(*smoothing);
  const auto [landmarks, detected, longest_gap] = normalize_clips(clips, timestamps, how);
  return {landmarks, detected, longest_gap};
}

}  // namespace

void bind_landmarks(py::module_& m) {
  m.def("align_eyes", torch::wrap_pybind_function_no_gil([](const at::Tensor& landmarks) {
          return align_eyes(landmarks);
        }),
        py::arg("landmarks"));
  m.def("align_to_reference", torch::wrap_pybind_function_no_gil(align_to_reference),
        py::arg("landmarks"), py::kw_only(), py::arg("reference"), py::arg("basis"));
  m.def("resample", torch::wrap_pybind_function_no_gil(resample), py::arg("landmarks"),
        py::arg("timestamps"), py::kw_only(), py::arg("frames"), py::arg("max_gap") = py::none());
  m.def("fill_gaps", torch::wrap_pybind_function_no_gil(fill_gaps), py::arg("landmarks"),
        py::arg("timestamps"), py::kw_only(), py::arg("max_gap"));
  m.def("smooth",
        torch::wrap_pybind_function_no_gil([](const at::Tensor& landmarks,
                                              const at::Tensor& timestamps, double min_cutoff,
                                              double beta, double derivative_cutoff) {
          return smooth(landmarks, timestamps, {min_cutoff, beta, derivative_cutoff});
        }),
        py::arg("landmarks"), py::arg("timestamps"), py::kw_only(), py::arg("min_cutoff"),
        py::arg("beta"), py::arg("derivative_cutoff"));
  m.def("normalize_clips", torch::wrap_pybind_function_no_gil(bound_normalize_clips),
        py::arg("clips"), py::arg("timestamps"), py::kw_only(), py::arg("frames"),
        py::arg("procrustes") = py::none(), py::arg("smoothing") = py::none(),
        py::arg("neutral_frames") = 0);
}

}  // namespace fastexai
