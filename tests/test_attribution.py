"""Integrated Gradients against its definition, against Captum, and against its axioms."""

from __future__ import annotations

import copy
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import captum.attr
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.legendre import leggauss
from torch import nn

import fastexai as fx
from fastexai import _core
from fastexai.attribution import Attribution, IntegratedGradients, integrated_gradients
from fastexai.model_loading import load_model
from fastexai.quadrature import METHODS, quadrature

# Captum keeps its quadrature weights in float32, so that its own answer is known to 6e-8 relative
# to its terms; they may cancel in the sum.
CAPTUM = 1e-6
# Float64 has 16 digits; a few hundred terms of either sign leave 12 of them.
ROUNDING = 1e-12


# --- Models ------------------------------------------------------------------------------------


class TimeConvolution(nn.Module):
    """Convolution over time, tanh, mean over time, linear readout."""

    def __init__(self, features, hidden):
        super().__init__()
        self.convolution = nn.Conv1d(features, hidden, 3, padding=1)
        self.readout = nn.Linear(hidden, 1)

    def forward(self, x):
        steps = torch.tanh(self.convolution(x.flatten(2).transpose(1, 2)))
        return self.readout(steps.mean(2)).squeeze(1)


class Recurrent(nn.Module):
    """LSTM in one or two directions, mean over time, linear readout."""

    def __init__(self, features, hidden, bidirectional):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True, bidirectional=bidirectional)
        self.readout = nn.Linear(hidden * (2 if bidirectional else 1), 1)

    def forward(self, x):
        steps, _ = self.lstm(x.flatten(2))
        return self.readout(steps.mean(1))


class Square(nn.Module):
    """Sum of squares: Integrated Gradients from zero is the square of each input."""

    def forward(self, x):
        return x.square().flatten(1).sum(1)


class WeightedSum(nn.Module):
    """Two models, added."""

    def __init__(self, one, other, a: float, b: float):
        super().__init__()
        self.one, self.other, self.a, self.b = one, other, a, b

    def forward(self, x):
        return self.a * self.one(x).flatten() + self.b * self.other(x).flatten()


class Columns(nn.Module):
    """Several outputs per sample."""

    def __init__(self, features, outputs):
        super().__init__()
        self.linear = nn.Linear(features, outputs)

    def forward(self, x):
        return torch.tanh(self.linear(x.flatten(1)))


class FirstLandmark(nn.Module):
    """Reads no other landmark."""

    def forward(self, x):
        return torch.sin(x[:, :, 0]).flatten(1).sum(1)


class Symmetric(nn.Module):
    """The first two landmarks play the same part."""

    def forward(self, x):
        return torch.tanh((x[:, :, 0] + x[:, :, 1]) * x[:, :, 2]).flatten(1).sum(1)


class Fixed(nn.Module):
    """Answers always the same."""

    def __init__(self, shape):
        super().__init__()
        self.answer = nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        return self.answer


class Pair(nn.Module):
    """Two outputs: not a model that one can attribute."""

    def forward(self, x):
        return x.flatten(1).sum(1), x


class Logarithm(nn.Module):
    """NaN for negative inputs."""

    def forward(self, x):
        return x.log().flatten(1).sum(1)


def perceptron(activation, features, hidden):
    layers = [nn.Flatten(), nn.Linear(features, hidden), activation, nn.Linear(hidden, hidden)]
    return nn.Sequential(*layers, activation, nn.Linear(hidden, 1), nn.Flatten(0))


FAMILIES = {
    "affine": lambda features, hidden: nn.Sequential(
        nn.Flatten(), nn.Linear(features[0] * features[1], hidden), nn.Linear(hidden, 1)
    ),
    "tanh": lambda features, hidden: perceptron(nn.Tanh(), features[0] * features[1], hidden),
    "softplus": lambda features, hidden: perceptron(
        nn.Softplus(), features[0] * features[1], hidden
    ),
    "relu": lambda features, hidden: perceptron(nn.ReLU(), features[0] * features[1], hidden),
    "convolution": lambda features, hidden: TimeConvolution(features[1], hidden),
    "lstm": lambda features, hidden: Recurrent(features[1], hidden, False),
    "bilstm": lambda features, hidden: Recurrent(features[1], hidden, True),
}
SMOOTH = [name for name in FAMILIES if name != "relu"]


def script_bytes(module):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def load_script(source):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        return torch.jit.load(source)


@st.composite
def problems(draw, families):
    """A random model in float64, inputs, and baselines: per sample, shared, a number, or none."""
    family = draw(st.sampled_from(families))
    frames, landmarks, hidden = (draw(st.integers(1, most)) for most in (6, 4, 8))
    samples, n_steps = draw(st.integers(1, 5)), draw(st.integers(1, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        model = FAMILIES[family]((frames, 3 * landmarks), hidden).double().eval()

    def numbers(rows):
        return torch.randn(rows, frames, landmarks, 3, generator=generator, dtype=torch.float64)

    kind = draw(st.sampled_from(["per sample", "shared", "number", "none"]))
    baselines = {
        "per sample": numbers(samples),
        "shared": numbers(1),
        "number": draw(st.floats(-1, 1)),
        "none": None,
    }[kind]
    return model, numbers(samples), baselines, n_steps


# --- References --------------------------------------------------------------------------------


def slow_reference(model, inputs, baselines, n_steps, target=None):
    """Sundararajan et al., ICML 2017, equations 1 and 3: one node after the other, in float64."""
    if not isinstance(baselines, torch.Tensor):
        baselines = torch.full_like(inputs[:1], baselines or 0.0)
    difference = inputs - baselines
    total = torch.zeros_like(inputs)
    for node, weight in zip(*leggauss(n_steps), strict=True):
        points = (baselines + (node + 1) / 2 * difference).detach().requires_grad_()
        output = model(points)
        output = output.flatten() if target is None else output[:, target]
        total += weight / 2 * torch.autograd.grad(output.sum(), points)[0]
    return total * difference


def by_captum(model, inputs, baselines, n_steps, **options):
    return captum.attr.IntegratedGradients(model).attribute(
        inputs, baselines, n_steps=n_steps, return_convergence_delta=True, **options
    )


def assert_close(one, other, tolerance):
    """Equal within a share of the largest attribution."""
    scale = max(float(other.abs().max()), 1e-12)
    assert float((one - other).abs().max()) <= tolerance * scale


# --- Quadrature --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [*range(1, 34), 49, 50, 64, 99, 100, 127, 128, 199, 200])
def test_gauss_legendre_nodes_and_weights_are_numpys(n):
    nodes, weights = (np.array(values) for values in _core.gauss_legendre(n))
    expected_nodes, expected_weights = leggauss(n)
    np.testing.assert_allclose(nodes, (expected_nodes + 1) / 2, rtol=0, atol=1e-13)
    np.testing.assert_allclose(weights, expected_weights / 2, rtol=0, atol=1e-13)
    assert (np.diff(nodes) > 0).all()
    assert nodes[0] > 0
    assert nodes[-1] < 1
    assert (weights > 0).all()


@given(n=st.integers(1, 200))
def test_weights_sum_to_one(n):
    assert sum(_core.gauss_legendre(n)[1]) == pytest.approx(1, abs=1e-13)


@given(n=st.integers(1, 200), data=st.data())
def test_polynomials_up_to_degree_2n_minus_1_integrate_exactly(n, data):
    degree = data.draw(st.integers(0, 2 * n - 1))
    seed = data.draw(st.integers(0, 2**32 - 1))
    coefficients = np.random.default_rng(seed).uniform(-1, 1, degree + 1)
    nodes, weights = (np.array(values) for values in _core.gauss_legendre(n))
    exact = (coefficients / np.arange(1, degree + 2)).sum()
    quadrature = weights @ np.polynomial.polynomial.polyval(nodes, coefficients)
    assert quadrature == pytest.approx(exact, abs=1e-13 * (degree + 1))


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_degree_2n_is_too_much(n):
    nodes, weights = (np.array(values) for values in _core.gauss_legendre(n))
    assert abs(weights @ nodes ** (2 * n) - 1 / (2 * n + 1)) > 1e-12


@pytest.mark.parametrize("n", [0, -3])
def test_quadrature_needs_a_node(n):
    with pytest.raises(ValueError, match=f"^n_steps: expected at least 1, got {n}"):
        _core.gauss_legendre(n)


# --- Against the definition and against Captum ---------------------------------------------------


@settings(max_examples=2 * settings().max_examples)  # seven families
@given(problem=problems(list(FAMILIES)))
def test_the_answer_is_the_definitions(problem):
    """ReLU networks too: a node lies on a kink, where gradients differ, with probability zero."""
    model, inputs, baselines, n_steps = problem
    values = IntegratedGradients(model).attribute(inputs, baselines, n_steps=n_steps)
    assert values.dtype == torch.float64
    assert not values.requires_grad
    assert_close(values, slow_reference(model, inputs, baselines, n_steps), ROUNDING)


@settings(max_examples=2 * settings().max_examples)
@given(problem=problems(list(FAMILIES)))
def test_the_answer_is_captums(problem):
    model, inputs, baselines, n_steps = problem
    options = {"n_steps": n_steps, "return_convergence_delta": True}
    values, delta = IntegratedGradients(model).attribute(inputs, baselines, **options)
    expected, expected_delta = by_captum(model, inputs, baselines, n_steps)
    assert_close(values, expected, CAPTUM)
    scale = float(expected.abs().flatten(1).sum(1).max())
    torch.testing.assert_close(delta, expected_delta, rtol=0, atol=CAPTUM * scale)


@pytest.mark.parametrize("name", ["exported", "exported_bilstm"])
@pytest.mark.parametrize("shared", [True, False])
def test_the_answer_for_an_exported_model_is_captums(name, shared, clips, request):
    path = request.getfixturevalue(name)
    inputs = torch.from_numpy(clips.X[:6])
    baselines = torch.from_numpy(clips.X[-1:] if shared else clips.X[-6:])
    values = IntegratedGradients(path).attribute(inputs, baselines, n_steps=20)
    theirs, _ = by_captum(load_script(path), inputs, baselines, 20)
    double = load_script(path).double()
    inputs, baselines = inputs.double(), baselines.double()
    exact = IntegratedGradients(double).attribute(inputs, baselines, n_steps=20)
    expected, _ = by_captum(double, inputs, baselines, 20)
    assert_close(exact, expected, CAPTUM)
    # In float32 a steep network magnifies rounding, Captum's as well: each is 5e-5 off the truth here.
    scale = float(expected.abs().max())
    error, their_error = (float((v.double() - expected).abs().max()) for v in (values, theirs))
    assert error <= max(1e-5 * scale, 2 * their_error)


@given(problem=problems(["affine"]))
def test_an_affine_model_is_complete_with_one_node(problem):
    model, inputs, baselines, _ = problem
    result = integrated_gradients(model, inputs, baselines, n_steps=1)
    assert float(result.completeness_error.max()) <= ROUNDING * float(result.values.abs().sum())


@given(problem=problems(SMOOTH))
def test_completeness_holds_when_nodes_grow(problem):
    """Smooth along the path, so that the error falls geometrically: 64 nodes leave rounding."""
    model, inputs, baselines, _ = problem
    result = integrated_gradients(model, inputs, baselines, n_steps=64)
    scale = float(result.values.abs().sum())
    assert float(result.completeness_error.max()) <= 1e-9 * scale


def test_too_few_nodes_show_in_delta():
    inputs = torch.full((1, 2, 2, 3), 3.0, dtype=torch.float64)
    errors = [
        float(integrated_gradients(FirstLandmark().eval(), inputs, n_steps=n).completeness_error)
        for n in (1, 2, 4, 8)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1
    assert errors[-1] < 1e-9


@given(problem=problems(list(FAMILIES)))
def test_delta_is_the_sum_minus_the_change(problem):
    model, inputs, baselines, n_steps = problem
    result = integrated_gradients(model, inputs, baselines, n_steps=n_steps)
    start = baselines if isinstance(baselines, torch.Tensor) else baselines or 0.0
    change = model(inputs).flatten() - model(torch.zeros_like(inputs) + start).flatten()
    expected = result.values.flatten(1).sum(1) - change
    atol = ROUNDING * (1 + float(result.values.abs().sum()))
    torch.testing.assert_close(result.delta, expected.detach(), rtol=0, atol=atol)
    torch.testing.assert_close(result.completeness_error, result.delta.abs())


# --- Axioms --------------------------------------------------------------------------------------


@given(problem=problems(["tanh"]), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_attribution_is_linear_in_the_model(problem, a, b):
    one, inputs, baselines, n_steps = problem
    other = nn.Sequential(nn.Flatten(), nn.Linear(inputs[0].numel(), 1), nn.Softplus()).double()
    mixed = WeightedSum(one, other.eval(), a, b).eval()
    values = [
        IntegratedGradients(model.eval()).attribute(inputs, baselines, n_steps=n_steps)
        for model in (one, other, mixed)
    ]
    scale = float(sum(v.abs().max() for v in values)) * (abs(a) + abs(b) + 1)
    difference = a * values[0] + b * values[1] - values[2]
    assert float(difference.abs().max()) <= ROUNDING * scale


def test_squares_are_attributed_to_themselves():
    inputs = torch.randn(3, 2, 4, 3, dtype=torch.float64)
    values = IntegratedGradients(Square().eval()).attribute(inputs, n_steps=1)
    torch.testing.assert_close(values, inputs.square(), rtol=1e-14, atol=0)


def test_unused_inputs_get_exactly_nothing():
    inputs = torch.randn(3, 2, 4, 3)
    values = IntegratedGradients(FirstLandmark().eval()).attribute(inputs, torch.randn(1, 2, 4, 3))
    assert (values[:, :, 1:] == 0).all()
    assert (values[:, :, 0] != 0).all()


def test_unchanged_inputs_get_exactly_nothing():
    inputs, baselines = torch.randn(3, 2, 4, 3), torch.randn(3, 2, 4, 3)
    inputs[:, 1, 2] = baselines[:, 1, 2]
    values = IntegratedGradients(Square().eval()).attribute(inputs, baselines)
    assert (values[:, 1, 2] == 0).all()


def test_symmetric_inputs_get_the_same():
    inputs, baselines = torch.randn(3, 2, 4, 3).double(), torch.randn(1, 2, 4, 3).double()
    inputs[:, :, 1], baselines[:, :, 1] = inputs[:, :, 0], baselines[:, :, 0]
    values = IntegratedGradients(Symmetric().eval()).attribute(inputs, baselines)
    assert values[:, :, 0].abs().max() > 0.01
    assert_close(values[:, :, 0], values[:, :, 1], 1e-14)  # they may add up in another order


# --- The plan --------------------------------------------------------------------------------------


class GatedRecurrentUnit(nn.Module):
    """Two GRU layers that read their input's last frame."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(12, 5, num_layers=2, batch_first=True)
        self.readout = nn.Linear(5, 1)

    def forward(self, x):
        return torch.sigmoid(self.readout(self.gru(x.flatten(2))[0][:, -1]))


class Normalized(nn.Module):
    """Evaluation-mode batch norm and dropout are affine; the frames are rows of a matrix."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(12)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.layers = nn.Sequential(nn.Dropout(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 1))

    def forward(self, x):
        rows = x.reshape(-1, 12)
        return self.layers(self.norm(rows)).view(x.size(0), x.size(1)).mean(1)


class OneHiddenLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(60, 9), nn.Linear(9, 1)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x.flatten(1)))).squeeze(1)


class Residual(nn.Module):
    """The input is read on both sides of the first nonlinearity: nothing to cut."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(60, 60)

    def forward(self, x):
        rows = x.flatten(1)
        return (torch.tanh(self.first(rows)) * rows).sum(1)


PLANS = {
    GatedRecurrentUnit: "fused kernel",
    Normalized: "affine prefix (reshape, batch_norm, dropout, linear)",
    OneHiddenLayer: "closed form",
    Residual: "whole model at every node (no single place",
    Square: "whole model at every node",
}


@pytest.mark.parametrize("kind", PLANS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("traced", [False, True])
def test_a_plan_is_found_and_gives_the_numbers_of_the_whole_model(kind, dtype, traced):
    model = kind().to(dtype).eval()
    inputs, baselines = torch.randn(7, 5, 4, 3, dtype=dtype), torch.randn(1, 5, 4, 3, dtype=dtype)
    if traced and kind is not Normalized:  # which would bake in the number of rows
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = torch.jit.trace(model, inputs[:2], check_trace=False)
    planned, whole = IntegratedGradients(model), IntegratedGradients(model, use_structure=False)
    values = planned.attribute(inputs, baselines, n_steps=9)
    if not (traced and kind is GatedRecurrentUnit):  # a trace bakes in the state's number of rows
        assert PLANS[kind] in planned.plan
    precision = 1e-5 if dtype == torch.float32 else 1e-11
    assert_close(values, whole.attribute(inputs, baselines, n_steps=9), precision)


class Prepared(nn.Module):
    """Shifts and scales every number before a network reads it."""

    def __init__(self, body, center, scale):
        super().__init__()
        self.body = body
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)

    def forward(self, x):
        return self.body(0.5 - 2 * ((x - self.center) / self.scale))


@pytest.mark.parametrize("kind", [GatedRecurrentUnit, OneHiddenLayer])
@pytest.mark.parametrize("shape", [(), (4, 3), (5, 1, 1)], ids=["number", "landmarks", "frames"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_may_be_shifted_and_scaled_first(kind, shape, dtype):
    # The numbers lie far from zero, as pixels do: float32 must not lose their differences.
    model = Prepared(kind(), 100 + torch.rand(shape), 0.5 + torch.rand(shape)).to(dtype).eval()
    inputs, baselines = (100 + torch.randn(n, 5, 4, 3, dtype=dtype) for n in (7, 1))
    ig = IntegratedGradients(model)
    values = ig.attribute(inputs, baselines, n_steps=9)
    assert "mul" in ig.plan
    assert PLANS[kind] in ig.plan
    expected = slow_reference(model.double(), inputs.double(), baselines.double(), 9)
    assert_close(values.double(), expected, 2e-5 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("kind", [GatedRecurrentUnit, OneHiddenLayer, Residual])
def test_a_tolerance_is_kept(kind):
    model = kind().double().eval()
    inputs, baselines = torch.randn(9, 5, 4, 3).double(), torch.zeros(1, 5, 4, 3).double()
    found = fx.integrated_gradients(model, inputs, baselines, tol=1e-6)
    with torch.no_grad():
        change = (model(inputs) - model(baselines)).reshape(-1).abs()
    assert found.converged.all()
    assert (found.completeness_error <= 1e-6 * change).all()
    exact = fx.integrated_gradients(model, inputs, baselines, n_steps=200)
    assert_close(found.values, exact.values, 1e-6)


def test_networks_of_many_kinks_converge():
    """What is accepted early must not add up to more than is allowed: nothing could cure it later."""
    torch.manual_seed(0)
    layers = (nn.Linear(60, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    model = nn.Sequential(nn.Flatten(), *layers).double().eval()
    inputs, baselines = 3 * torch.randn(200, 5, 4, 3).double(), torch.randn(1, 5, 4, 3).double()
    found = fx.integrated_gradients(model, inputs, baselines, tol=1e-3, max_nodes=20_000)
    assert found.converged.all()


def test_every_feature_of_a_steep_network_is_within_the_tolerance_not_just_their_sum():
    torch.manual_seed(0)
    model = perceptron(nn.Tanh(), 60, 64).double().eval().requires_grad_(False)
    model[1].weight.mul_(8)
    inputs, baselines = torch.randn(100, 5, 4, 3).double(), torch.randn(1, 5, 4, 3).double()
    found = fx.integrated_gradients(model, inputs, baselines, tol=1e-3)
    exact = fx.integrated_gradients(model, inputs, baselines, n_steps=1000)
    change = (model(inputs) - model(baselines)).abs()
    error = (found.values - exact.values).abs().flatten(1).amax(1)
    assert found.nodes.max() > 15  # steep enough to need refinement
    assert found.converged.all()
    assert (error <= 1e-3 * change).all()


def test_what_has_not_converged_is_named_and_warned_about():
    model = perceptron(nn.ReLU(), 60, 32).double().eval()
    inputs, baselines = 3 * torch.randn(5, 5, 4, 3).double(), torch.zeros(1, 5, 4, 3).double()
    with pytest.warns(RuntimeWarning, match="samples have not converged within max_nodes: 0"):
        found = fx.integrated_gradients(model, inputs, baselines, tol=1e-9, max_nodes=15)
    assert not found.converged.any()
    assert found.nodes.tolist() == [15] * 5


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_captums_with_weights_that_sum_to_one(method):
    model, n_steps = perceptron(nn.Tanh(), 60, 8).double().eval(), 11
    inputs, baselines = torch.randn(4, 5, 4, 3).double(), torch.zeros(1, 5, 4, 3).double()
    values = IntegratedGradients(model).attribute(inputs, baselines, n_steps=n_steps, method=method)
    theirs = captum.attr.IntegratedGradients(model).attribute(
        inputs, baselines, n_steps=n_steps, method=method
    )
    # Captum's trapezoid weights sum to (n - 1) / n.
    share = (n_steps - 1) / n_steps if method == "riemann_trapezoid" else 1
    assert_close(values * share, theirs, 1e-6)
    assert sum(quadrature(method, n_steps)[1]) == pytest.approx(1, abs=1e-12)


def test_each_sample_may_have_a_target_of_its_own():
    model = Columns(60, 3).eval()
    inputs, baselines = torch.randn(6, 5, 4, 3), torch.zeros(1, 5, 4, 3)
    targets = torch.tensor([0, 2, 1, 1, 0, 2])
    ig = IntegratedGradients(model)
    together = ig.attribute(inputs, baselines, target=targets)
    for row, target in enumerate(targets.tolist()):
        alone = ig.attribute(inputs[row : row + 1], baselines, target=target)
        assert_close(together[row : row + 1], alone, 1e-5)


class Grid(nn.Module):
    """Outputs in rows and columns."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(60, 6)

    def forward(self, x):
        return torch.tanh(self.layer(x.flatten(1))).reshape(-1, 2, 3)


@pytest.mark.parametrize(
    "target", [(1, 2), (0, 0), [(0, 1)] * 5, [(0, 1), (1, 2), (0, 1), (1, 0), (1, 1)]]
)
def test_a_tuple_picks_an_output_among_rows_and_columns(target):
    model, inputs = Grid().double().eval(), torch.randn(5, 5, 4, 3).double()
    values = IntegratedGradients(model).attribute(inputs, target=target, n_steps=9)
    assert_close(values, by_captum(model, inputs, None, 9, target=target)[0], CAPTUM)


def test_a_tuple_of_another_length_is_refused():
    ig = IntegratedGradients(Grid().eval())
    with pytest.raises(ValueError, match="target: expected 2 indices for an output of shape"):
        ig.attribute(torch.randn(5, 5, 4, 3), target=1)


# --- Other engines, other baselines, padding ---------------------------------------------------------


def plain(x):
    """A model that is no module."""
    return torch.exp(-x.square()).flatten(1).sum(1)


class Unscriptable(nn.Module):
    """TorchScript compiles no generator expression."""

    def forward(self, x):
        return sum(part.flatten(1).sum(1) ** 2 for part in x.unbind(1))


@pytest.mark.parametrize("model", [plain, Unscriptable().eval()])
def test_python_runs_what_torchscript_cannot(model):
    inputs = torch.randn(6, 5, 4, 3).double()
    with pytest.raises((TypeError, ValueError), match=r'engine="eager"') as caught:
        IntegratedGradients(model)
    assert "\n" not in str(caught.value)
    ig = IntegratedGradients(model, engine="eager")
    assert_close(ig.attribute(inputs), by_captum(model, inputs, None, 50)[0], CAPTUM)
    found = integrated_gradients(ig, inputs, tol=1e-8)
    assert found.converged.all()
    change = model(inputs) - model(inputs * 0)
    assert (found.completeness_error <= 1e-8 * change.abs()).all()
    assert ig.plan == "whole model at every node (not TorchScript)"


def test_what_goes_wrong_in_python_surfaces():
    def fail(x):
        raise KeyError("inside the model")

    with pytest.raises(KeyError, match="inside the model"):
        IntegratedGradients(fail, engine="eager").attribute(torch.randn(6, 5, 4, 3))
    with pytest.raises(TypeError, match="model: expected an nn.Module or a callable"):
        IntegratedGradients("model.pt", engine="eager")
    with pytest.raises(ValueError, match="model: expected evaluation mode, got training"):
        IntegratedGradients(Unscriptable(), engine="eager")
    with pytest.raises(ValueError, match="engine: expected 'script' or 'eager', got 'jax'"):
        IntegratedGradients(plain, engine="jax")


@pytest.mark.parametrize("rule", [{"n_steps": 9}, {"tol": 1e-6}, {"n_steps": 9, "max_rows": 4}])
@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("multiply_by_inputs", [True, False])
@pytest.mark.parametrize("kind", [GatedRecurrentUnit, OneHiddenLayer, Residual, Square])
def test_the_mean_over_baselines_is_the_mean_of_single_runs(
    kind, multiply_by_inputs, samples, rule
):
    ig = IntegratedGradients(kind().double().eval(), multiply_by_inputs)
    inputs = torch.randn(samples, 5, 4, 3).double()
    baselines = 0.3 * torch.randn(3, 5, 4, 3).double()
    together = integrated_gradients(ig, inputs, baselines, baseline_mode="mean", **rule)
    alone = [integrated_gradients(ig, inputs, b[None], **rule) for b in baselines]
    assert_close(together.values, sum(a.values for a in alone) / 3, 1e-12)
    if multiply_by_inputs:
        expected = sum(a.delta for a in alone) / 3
        torch.testing.assert_close(together.delta, expected, rtol=0, atol=1e-12)
    assert torch.equal(together.nodes, sum(a.nodes for a in alone))
    assert together.converged.all()


def test_padding_gets_exactly_nothing():
    ig = IntegratedGradients(GatedRecurrentUnit().double().eval())
    inputs = torch.randn(4, 5, 4, 3).double()
    lengths = torch.tensor([5, 1, 3, 4])
    padding = torch.arange(5) >= lengths[:, None]
    for options in ({}, {"baseline_mode": "mean"}):
        baselines = torch.randn(3 if options else 1, 5, 4, 3).double()
        found = integrated_gradients(ig, inputs, baselines, lengths=lengths, tol=1e-6, **options)
        assert (found.values[padding] == 0).all()
        assert (found.values[~padding] != 0).all()
        starts = torch.where(padding[:, None, :, None, None], inputs[:, None], baselines)
        change = ig.model.value(inputs)[:, None] - ig.model.value(starts.flatten(0, 1)).view(4, -1)
        expected = change.mean(1)
        torch.testing.assert_close(found.values.flatten(1).sum(1), expected, rtol=1e-5, atol=1e-9)
    assert torch.equal(
        integrated_gradients(ig, inputs, lengths=[5] * 4).values,
        integrated_gradients(ig, inputs, torch.zeros_like(inputs)).values,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": [5, 5]}, "lengths: expected 4 whole numbers for inputs"),
        ({"lengths": [1.0] * 4}, "lengths: expected 4 whole numbers"),
        ({"lengths": [5, 5, 5, 6]}, "lengths: expected 1 to 5 frames"),
        ({"lengths": [5, 5, 5, 0]}, "lengths: expected 1 to 5 frames"),
        ({"baseline_mode": "median"}, "baseline_mode: expected 'paired' or 'mean', got 'median'"),
        ({"baselines": torch.zeros(3, 5, 4, 3)}, r"baselines: expected \[4, 5, 4, 3\] or one row"),
        (
            {"baselines": torch.zeros(3, 5, 4, 2), "baseline_mode": "mean"},
            r"baselines: expected \[4, 5, 4, 3\] with any number of rows, got \[3, 5, 4, 2\]",
        ),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        integrated_gradients(Square().eval(), torch.randn(4, 5, 4, 3), **options)


@pytest.mark.parametrize("rule", [{"n_steps": 20}, {"tol": 1e-9}])
@pytest.mark.parametrize("kind", [GatedRecurrentUnit, Residual, Square])
def test_a_memory_budget_changes_nothing_but_memory(kind, rule):
    ig = IntegratedGradients(kind().double().eval())
    inputs = torch.randn(9, 5, 4, 3).double()
    free = integrated_gradients(ig, inputs, **rule)
    with pytest.raises(ValueError, match="max_memory: expected at least [0-9]+ bytes") as caught:
        integrated_gradients(ig, inputs, max_memory=10, **rule)
    least = re.search("[0-9]+", str(caught.value))[0]
    for budget in (int(least), f"{least} B", "1 MiB", "0.5GB"):
        bounded = integrated_gradients(ig, inputs, max_memory=budget, **rule)
        assert_close(bounded.values, free.values, 1e-12)
        assert torch.equal(bounded.nodes, free.nodes)


@pytest.mark.parametrize("size", [0, -1, "", "much", "1 XB", "1..5GB", "-1GB"])
def test_a_memory_budget_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match='max_memory: expected bytes or a size such as "1GiB"'):
        integrated_gradients(Square().eval(), torch.randn(4, 5, 4, 3), max_memory=size)


GROWTH = """
import re, sys, torch
from pathlib import Path
from torch import nn
import fastexai as fx

def resident(kind):
    return int(re.search(kind + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

layers = nn.Sequential(nn.Linear(1404, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
model = nn.Sequential(nn.Flatten(2), layers, nn.Flatten()).eval()
model = torch.jit.trace(nn.Sequential(model, nn.Linear(20, 1)).eval(), torch.zeros(2, 20, 468, 3))
inputs, budget = torch.randn(150, 20, 468, 3), None if sys.argv[1] == "0" else sys.argv[1]
ig = fx.IntegratedGradients(model, use_structure=False)
fx.integrated_gradients(ig, inputs[:2], max_memory=budget, tol=1e-5)
before = resident("VmHWM")
values = fx.integrated_gradients(ig, inputs, max_memory=budget, tol=1e-5).values
print(resident("VmHWM") - before - values.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_stays_within_the_budget():
    def growth(budget):
        command = [sys.executable, "-W", "ignore", "-c", GROWTH, budget]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert growth("6MiB") <= 6 * 2**20
    assert growth("0") > 6 * 2**20  # unbounded it takes more: the test can fail


def test_captums_noise_tunnel_wraps_it():
    model, inputs = GatedRecurrentUnit().eval(), torch.randn(3, 5, 4, 3)
    ig, theirs = IntegratedGradients(model), captum.attr.IntegratedGradients(model)
    options = {"nt_samples": 4, "nt_type": "smoothgrad_sq", "n_steps": 9}
    answers = []
    for method in (ig, theirs):
        torch.manual_seed(0)
        tunnel = captum.attr.NoiseTunnel(method)
        answers.append(
            tunnel.attribute(inputs, stdevs=0.1, return_convergence_delta=True, **options)
        )
    (ours, our_delta), (captums, their_delta) = answers
    assert_close(ours, captums, 1e-5)
    torch.testing.assert_close(our_delta, their_delta, rtol=0, atol=1e-5)


# --- What must not matter --------------------------------------------------------------------------


# In float64 an answer that depends on chunks shows at once. Float32 takes other code, and its
# rounding is magnified by networks that tell small movements of large coordinates apart.
PRECISIONS = {"exported": 1e-5, "exported_bilstm": 2e-4, "float64": 1e-11}


@pytest.fixture(params=PRECISIONS)
def many(request, clips):
    """A model, 40 samples, their baselines, and how well an answer is known."""
    inputs, baselines = torch.from_numpy(clips.X[:40]), torch.from_numpy(clips.X[40:80])
    if request.param == "float64":
        module = copy.deepcopy(request.getfixturevalue("bilstm").network_).double()
        ig, inputs, baselines = IntegratedGradients(module), inputs.double(), baselines.double()
    else:
        ig = IntegratedGradients(request.getfixturevalue(request.param))
    return ig, inputs, baselines, PRECISIONS[request.param]


def test_chunks_change_nothing(many):
    ig, inputs, baselines, tolerance = many
    expected = ig.attribute(inputs[:8], baselines[:8], n_steps=9)
    for rows in (1, 2, 7, 9, 20, 10_000):
        values = ig.attribute(inputs[:8], baselines[:8], n_steps=9, internal_batch_size=rows)
        assert_close(values, expected, tolerance)


def test_threads_change_nothing(many):
    ig, inputs, baselines, tolerance = many
    torch.set_num_threads(1)
    expected = ig.attribute(inputs, baselines, n_steps=6)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert_close(ig.attribute(inputs, baselines, n_steps=6), expected, tolerance)


@pytest.mark.parametrize("name", ["randomized", "bilstm"])
def test_float32_is_accurate_enough_for_an_exported_network(name, clips, request):
    """Movements are a hundredth of coordinates: subtracted first, they keep five digits."""
    network = request.getfixturevalue(name).network_
    inputs, baselines = torch.from_numpy(clips.X[:8]), torch.from_numpy(clips.X[40:48])
    values = IntegratedGradients(network).attribute(inputs, baselines, n_steps=9)
    exact = slow_reference(copy.deepcopy(network).double(), inputs.double(), baselines.double(), 9)
    # How exact float32 can be depends on the network: PyTorch's own error is the measure. It is
    # smaller, since it differs from node to node and averages out; that of the prefix does not.
    plain = slow_reference(network, inputs, baselines, 9)
    allowed = max(1e-5 * float(exact.abs().max()), 5 * float((plain - exact).abs().max()))
    assert float((values - exact).abs().max()) <= allowed


def test_the_order_and_the_company_of_samples_change_nothing(many):
    ig, inputs, baselines, tolerance = many
    expected = ig.attribute(inputs, baselines, n_steps=6)
    order = torch.randperm(len(inputs))
    assert_close(
        ig.attribute(inputs[order], baselines[order], n_steps=6), expected[order], tolerance
    )
    alone = ig.attribute(inputs[17:18], baselines[17:18], n_steps=6)
    assert_close(alone, expected[17:18], tolerance)


def test_a_shared_baseline_is_the_same_as_copies_of_it(many):
    ig, inputs, baselines, tolerance = many
    expected = ig.attribute(inputs, baselines[:1].repeat(40, 1, 1, 1), n_steps=6)
    assert_close(ig.attribute(inputs, baselines[:1], n_steps=6), expected, tolerance)


def test_memory_layout_and_gradients_of_inputs_do_not_matter(many):
    ig, inputs, baselines, tolerance = many
    inputs, baselines = inputs[:5], baselines[:5]
    expected = ig.attribute(inputs, baselines, n_steps=6)
    strided = inputs.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert not strided.is_contiguous()
    assert_close(ig.attribute(strided, baselines, n_steps=6), expected, tolerance)
    tracked = inputs.clone().requires_grad_()
    values = ig.attribute(tracked, baselines, n_steps=6)
    assert torch.equal(values, expected)
    assert not values.requires_grad
    assert tracked.grad is None


def test_inputs_and_grad_mode_are_left_as_they_were(many):
    ig, inputs, baselines, _ = many
    inputs, baselines = inputs[:3].clone(), baselines[:3].clone()
    before = inputs.clone(), baselines.clone()
    with torch.no_grad():
        ig.attribute(inputs, baselines, n_steps=3)
        assert not torch.is_grad_enabled()
    with torch.enable_grad():
        ig.attribute(inputs, baselines, n_steps=3)
        assert torch.is_grad_enabled()
    assert torch.equal(inputs, before[0])
    assert torch.equal(baselines, before[1])


def test_grad_modes_around_the_call_change_nothing(many):
    ig, inputs, baselines, _ = many
    expected = ig.attribute(inputs[:3], baselines[:3], n_steps=3)
    for guard in (torch.no_grad, torch.inference_mode):
        with guard():
            assert torch.equal(ig.attribute(inputs[:3], baselines[:3], n_steps=3), expected)


def test_every_form_of_a_model_gives_the_same(randomized, exported, clips):
    inputs = torch.from_numpy(clips.X[:3])
    forms = {
        "path": exported,
        "str": str(exported),
        "bytes": exported.read_bytes(),
        "ScriptModule": load_script(exported),
        "nn.Module": randomized.network_,
        "IntegratedGradients": IntegratedGradients(exported),
    }
    answers = {
        name: integrated_gradients(form, inputs, 0.1, n_steps=6).values
        for name, form in forms.items()
    }
    for name, values in answers.items():
        assert torch.equal(values, answers["path"]), name


def test_both_doors_give_the_same(exported, clips):
    inputs, baselines = torch.from_numpy(clips.X[:3]), torch.from_numpy(clips.X[5:6])
    one = integrated_gradients(exported, inputs, baselines, n_steps=6)
    ig = IntegratedGradients(exported)
    values, delta = ig.attribute(inputs, baselines, n_steps=6, return_convergence_delta=True)
    assert torch.equal(one.values, values)
    assert torch.equal(one.delta, delta)
    assert isinstance(ig.attribute(inputs, baselines, n_steps=6), torch.Tensor)


def test_the_module_given_is_left_as_it_was():
    module = perceptron(nn.Tanh(), 12, 4).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    IntegratedGradients(module).attribute(torch.randn(2, 2, 2, 3))
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(parameter.grad is None for parameter in module.parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


# --- Target, progress, interruption ----------------------------------------------------------------


@pytest.mark.parametrize("target", [0, 1, 2])
def test_target_picks_a_column(target):
    model, inputs = Columns(12, 3).double().eval(), torch.randn(4, 2, 2, 3, dtype=torch.float64)
    values = IntegratedGradients(model).attribute(inputs, 0.5, target, n_steps=7)
    assert_close(values, slow_reference(model, inputs, 0.5, 7, target), ROUNDING)
    assert_close(values, by_captum(model, inputs, 0.5, 7, target=target)[0], CAPTUM)


def test_one_column_needs_no_target():
    model, inputs = Columns(12, 1).eval(), torch.randn(4, 2, 2, 3)
    ig = IntegratedGradients(model)
    assert torch.equal(ig.attribute(inputs), ig.attribute(inputs, target=0))


@pytest.mark.parametrize(
    ("outputs", "target", "message"),
    [
        (3, None, "target: expected a column index, since the model has 3 .*columns; got none"),
        (3, 3, "target: expected a column below 3, got 3"),
        (3, -1, "target: expected a column index of at least 0, got -1"),
    ],
)
def test_a_target_must_be_a_column(outputs, target, message):
    ig = IntegratedGradients(Columns(12, outputs).eval())
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        ig.attribute(torch.randn(4, 2, 2, 3), target=target)
    assert "\n" not in str(caught.value)


def test_a_target_beyond_the_only_output_is_refused():
    with pytest.raises(ValueError, match="^target: expected"):
        IntegratedGradients(Square().eval()).attribute(torch.randn(4, 2, 2, 3), target=7)


@pytest.mark.parametrize("threads", [1, 2])
def test_progress_grows_to_the_end(threads):
    torch.set_num_threads(threads)
    calls = []
    IntegratedGradients(Square().eval()).attribute(
        torch.randn(30, 2, 2, 3),
        n_steps=5,
        internal_batch_size=5,
        progress=lambda *call: calls.append(call),
    )
    done = [call[0] for call in calls]
    assert {call[1] for call in calls} == {30}
    assert done == sorted(done)
    assert done[-1] == 30
    if threads == 1:  # with two, the other one may finish first
        assert done[:3] == [1, 2, 3]


def slow_problem():
    """Minutes of work: a test that waits for its end has failed."""
    model = Recurrent(3, 64, True).eval()
    return IntegratedGradients(model), torch.randn(20_000, 50, 1, 3), {"n_steps": 200}


def test_an_exception_in_progress_surfaces_at_once():
    ig, inputs, options = slow_problem()
    calls = []

    def fail(done, total):
        calls.append(done)
        raise LookupError("not today")

    with pytest.raises(LookupError, match="^not today$"):
        ig.attribute(inputs, progress=fail, **options)
    assert len(calls) == 1
    assert calls[0] < len(inputs)


def test_ctrl_c_in_progress_stops():
    ig, inputs, options = slow_problem()
    calls = []

    def interrupt(done, total):
        calls.append(done)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        ig.attribute(inputs, progress=interrupt, **options)
    assert len(calls) == 1


def test_ctrl_c_from_outside_stops():
    ig, inputs, options = slow_problem()
    calls = []
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 (the timer runs inside)
            timer.start()
            ig.attribute(inputs, progress=lambda done, total: calls.append(done), **options)
    finally:
        timer.cancel()
    assert calls == [] or calls[-1] < len(inputs) // 10


def test_ctrl_c_stops_without_a_callback_too():
    ig, inputs, options = slow_problem()
    stopped = threading.Event()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    too_late = threading.Timer(20, stopped.set)  # the whole work takes minutes
    too_late.daemon = True
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 (so it does here)
            too_late.start()
            timer.start()
            ig.attribute(inputs, **options)
        assert not stopped.is_set()
    finally:
        timer.cancel()
        too_late.cancel()


def test_ctrl_c_stops_within_a_single_sample():
    ig, inputs, _ = slow_problem()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 (so it does here)
            timer.start()
            ig.attribute(inputs[:1], n_steps=400_000, method="riemann_middle")
    finally:
        timer.cancel()
    assert time.monotonic() - started < 10  # the whole work takes far longer


def test_a_model_works_after_an_interruption(exported, clips):
    inputs = torch.from_numpy(clips.X[:8])
    ig = IntegratedGradients(exported)
    expected = ig.attribute(inputs, n_steps=5)

    def fail(done, total):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ig.attribute(inputs, n_steps=5, progress=fail)
    assert_close(ig.attribute(inputs, n_steps=5), expected, 1e-5)


# --- Errors ----------------------------------------------------------------------------------------


def bad(value, *index, shape=(4, 2, 3, 3)):
    numbers = torch.ones(shape)
    numbers[index] = value
    return numbers


GOOD = torch.ones(4, 2, 3, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"inputs": GOOD.int()}, TypeError, "inputs: expected float32 or float64, got int32"),
        ({"inputs": GOOD.half()}, TypeError, "inputs: expected float32 or float64, got float16"),
        ({"inputs": GOOD[:0]}, ValueError, "inputs: expected a batch of at least one sample, got"),
        ({"inputs": bad(np.nan, 2, 1, 0, 0)}, ValueError, "inputs: .*finite.* nan in sample 2"),
        ({"inputs": bad(np.inf, 3, 1, 0, 0)}, ValueError, "inputs: .*finite.* inf in sample 3"),
        ({"inputs": bad(-np.inf, 0)}, ValueError, "inputs: .*finite.* -inf in sample 0"),
        ({"baselines": bad(np.nan, 1)}, ValueError, "baselines: .*finite.* nan in sample 1"),
        ({"baselines": bad(np.inf, 0)[:1]}, ValueError, "baselines: .*finite.* inf in sample 0"),
        ({"baselines": float("nan")}, ValueError, "baselines: .*finite.* nan"),
        ({"baselines": GOOD[:2]}, ValueError, r"baselines: expected \[4, 2, 3, 3\] or .*\[2, 2"),
        ({"baselines": GOOD[:, :1]}, ValueError, r"baselines: expected .* got \[4, 1, 3, 3\]"),
        ({"baselines": GOOD[0]}, ValueError, r"baselines: expected .* got \[2, 3, 3\]"),
        ({"baselines": GOOD.double()}, TypeError, "baselines: expected Float like inputs, got Dou"),
        ({"n_steps": 0}, ValueError, "n_steps: expected at least 1, got 0"),
        ({"n_steps": -5}, ValueError, "n_steps: expected at least 1, got -5"),
        ({"internal_batch_size": 0}, ValueError, "internal_batch_size: expected at least 1, got 0"),
    ],
)
def test_attribute_says_what_it_takes(change, error, message):
    arguments = {"inputs": GOOD, "baselines": None} | change
    with pytest.raises(error, match=f"^{message}") as caught:
        IntegratedGradients(Square().eval()).attribute(**arguments)
    assert "\n" not in str(caught.value)


def test_many_bad_samples_name_the_first():
    inputs = GOOD.clone()
    inputs[1:, 0, 0, 0] = torch.tensor([np.inf, -np.inf, np.nan])  # they cancel in the sum
    with pytest.raises(ValueError, match="^inputs: expected finite values, got inf in sample 1$"):
        IntegratedGradients(Square().eval()).attribute(inputs)


@pytest.mark.parametrize("rule", [{"n_steps": 5}, {"tol": 1e-3}])
@pytest.mark.parametrize("name", ["inputs", "baselines", "model output"])
def test_a_bad_sample_is_named_wherever_it_is(rule, name):
    """Inputs and baselines are looked at when a result is not finite: far from where it began."""
    inputs, baselines = torch.rand(150, 2, 3, 3) + 1, torch.ones(150, 2, 3, 3)
    if name == "model output":
        inputs[140, 1, 1, 1] = -1
    else:
        {"inputs": inputs, "baselines": baselines}[name][140, 1, 1, 1] = np.nan
    with pytest.raises(
        ValueError, match=f"^{name}.*: expected finite values, got nan in sample 140"
    ):
        fx.integrated_gradients(Logarithm().eval(), inputs, baselines, **rule)


def test_huge_but_finite_inputs_are_no_error_of_the_inputs():
    inputs = torch.full((2, 2, 2, 3), 1e38)  # finite, but not their sum
    model = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(12, 1)).eval()
    assert torch.isfinite(IntegratedGradients(model).attribute(inputs)).all()


@pytest.mark.parametrize("baselines", [None, GOOD])
def test_arrays_are_refused_in_one_line(baselines):
    with pytest.raises(TypeError, match="^inputs: expected a [Tt]ensor") as caught:
        IntegratedGradients(Square().eval()).attribute(GOOD.numpy(), baselines)
    assert "\n" not in str(caught.value)


def test_a_vector_of_samples_is_attributed_or_refused_by_name():
    """One number per sample is an input of shape (N,)."""

    class Cube(nn.Module):
        def forward(self, x):
            return x**3

    inputs = torch.tensor([1.0, 2.0, -1.0])
    values = IntegratedGradients(Cube().eval()).attribute(inputs, n_steps=4)
    torch.testing.assert_close(values, inputs**3)


def test_an_output_that_is_not_finite_names_the_sample():
    inputs = torch.ones(3, 2, 2, 3)
    inputs[1, 0, 0, 0] = -1
    with pytest.raises(ValueError, match="^model output.* expected finite .*nan in sample 1"):
        IntegratedGradients(Logarithm().eval()).attribute(inputs, 1.0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Columns(5, 1).eval(), r"inputs: the model cannot read a batch of shape \["),
        (Recurrent(2, 3, True).eval(), r"inputs: the model cannot read a batch of shape \["),
        (Square().double().eval(), None),
        (Columns(18, 1).double().eval(), r"inputs: the model cannot read a batch of shape \["),
        (Pair().eval(), "model: expected one tensor as output, got Tuple"),
        (Fixed((3,)).eval(), r"model: expected an output of shape \(.*,\) or .* got \[3\]"),
        (Fixed((7, 2, 1)).eval(), r"model: expected an output of shape .* got \[7, 2, 1\]"),
        (Fixed(()).eval(), r"model: expected an output of shape .* got \[\]"),
    ],
)
def test_a_model_that_does_not_fit_is_one_line(model, message):
    ig = IntegratedGradients(model)
    if message is None:
        assert torch.equal(ig.attribute(GOOD, n_steps=1), GOOD)
        return
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        ig.attribute(GOOD)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("trained", [True, False])
def test_a_model_that_ignores_its_input_is_named(trained):
    torch.set_num_threads(1)  # one chunk of one row, so that the fixed answer has the right shape
    model = Fixed((1,)).eval().requires_grad_(trained)
    with pytest.raises(ValueError, match="^model: expected an output that depends on the input"):
        IntegratedGradients(model).attribute(GOOD[:1], n_steps=1)


def assert_refused(model, error, message):
    with pytest.raises(error, match=message) as caught:
        IntegratedGradients(model)
    assert "\n" not in str(caught.value)


def test_training_mode_is_refused(tmp_path):
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(18, 1)).train()
    path = tmp_path / "training.pt"
    path.write_bytes(script_bytes(module))
    message = "^model: expected evaluation mode, got training mode"
    for form in (path, path.read_bytes(), module):
        assert_refused(form, ValueError, message)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(share, exported, tmp_path):
    path, whole = tmp_path / "truncated.pt", exported.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert_refused(path, ValueError, "^model: expected a TorchScript file, got .*truncated.pt")
    assert_refused(path.read_bytes(), ValueError, "^model: expected a TorchScript file, got ")


def test_other_files_are_refused(tmp_path):
    text, weights = tmp_path / "text.pt", tmp_path / "weights.pt"
    text.write_text("not a model")
    torch.save(nn.Linear(2, 2).state_dict(), weights)
    for path in (text, weights):
        assert_refused(path, ValueError, f"^model: expected a TorchScript file, got .*{path.name}")


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path / "missing.pt", str(tmp_path / "missing.pt"), Path(tmp_path)):
        assert_refused(path, FileNotFoundError, "^model: expected a TorchScript file, got .*not a ")


@pytest.mark.parametrize("model", [None, 3, torch.ones(2)])
def test_other_objects_are_refused(model):
    kind = type(model).__name__
    assert_refused(model, TypeError, f"^model: expected a path, bytes, .* got {kind}$")


def test_attribution_checks_itself():
    rows = torch.zeros(4)
    with pytest.raises(ValueError, match=r"^delta: expected \(4,\), got \(3,\)"):
        Attribution(GOOD, torch.zeros(3), rows.long(), rows.bool(), "")


def test_the_public_names_are_these():
    assert fx.IntegratedGradients is IntegratedGradients
    assert fx.integrated_gradients is integrated_gradients
    assert isinstance(load_model(Square().eval()), _core.ScriptModel)
