"""Models with several inputs and further arguments are attributed as Captum attributes them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import captum.attr
import pytest
import torch
from torch import Tensor, nn

from fastexai import IntegratedGradients


class Meeting(nn.Module):
    """Two inputs, and arguments of every kind after them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 5), nn.Linear(3, 5)

    def forward(self, x, y, shift: Tensor, column: Tensor, power: int, scale: float, name: str):
        met = torch.tanh(self.first(x.flatten(1)) + self.second(y) + shift)
        chosen = met.gather(1, column[:, None]).squeeze(1)
        return scale * chosen**power if name == "chosen" else met.sum(1)


class Sum(nn.Module):
    """Two inputs of which only the sum matters."""

    def forward(self, x, y):
        return torch.tanh(x.flatten(1).sum(1) + y.flatten(1).sum(1))


@pytest.fixture
def meeting():
    torch.manual_seed(0)
    x, y = torch.randn(6, 4, 3).double(), torch.randn(6, 3).double()
    further = (torch.randn(6, 5).double(), torch.tensor([0, 4, 2, 2, 1, 3]), 3, 0.5, "chosen")
    return Meeting().double().eval(), (x, y), further


BASELINES = {
    "zeros": None,
    "numbers": (0.3, None),
    "one row": (torch.full((1, 4, 3), 0.1).double(), torch.ones(1, 3).double()),
    "mixed": (torch.ones(6, 4, 3).double(), -1.0),
}


@pytest.mark.parametrize("engine", ["script", "eager"])
@pytest.mark.parametrize("kind", BASELINES)
def test_tuples_and_further_arguments_are_attributed_as_by_captum(kind, engine, meeting):
    model, inputs, further = meeting
    options = {"additional_forward_args": further, "n_steps": 20, "return_convergence_delta": True}
    baselines = BASELINES[kind]
    theirs = tuple(0.0 if b is None else b for b in baselines) if baselines else None
    expected, delta = captum.attr.IntegratedGradients(model).attribute(inputs, theirs, **options)
    ig = IntegratedGradients(model, engine=engine)
    values, found_delta = ig.attribute(inputs, baselines, **options)
    assert isinstance(values, tuple)
    for ours, captums, x in zip(values, expected, inputs, strict=True):
        assert ours.shape == x.shape
        # Captum's quadrature weights are float32.
        torch.testing.assert_close(ours, captums, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found_delta, delta, rtol=0, atol=1e-6)
    again = (
        ig.compute_convergence_delta(
            values, 0.0 if baselines is None else baselines, inputs, additional_forward_args=further
        )
        if kind in ("one row", "mixed")
        else found_delta
    )
    torch.testing.assert_close(again, found_delta, rtol=0, atol=1e-12)


def test_a_tuple_of_one_comes_back_as_a_tuple(meeting):
    _, (x, _), _ = meeting
    ig = IntegratedGradients(nn.Sequential(nn.Flatten(), nn.Linear(12, 1)).double().eval())
    (values,) = ig.attribute((x,))
    torch.testing.assert_close(values, ig.attribute(x))


def test_one_input_with_one_further_argument(meeting):
    _, (x, y), _ = meeting
    ig = IntegratedGradients(Sum().eval())
    values = ig.attribute(x, additional_forward_args=y, n_steps=40)
    change = torch.tanh(x.flatten(1).sum(1) + y.sum(1)) - torch.tanh(y.sum(1))
    assert values.shape == x.shape
    torch.testing.assert_close(values.flatten(1).sum(1), change, rtol=0, atol=1e-6)


def test_arguments_of_another_value_or_kind_are_not_mixed_up(meeting):
    model, inputs, further = meeting
    ig = IntegratedGradients(model)
    for name in ("chosen", "all"):
        arguments = (*further[:4], name)
        found = ig.attribute(inputs, additional_forward_args=arguments)
        fresh = IntegratedGradients(model).attribute(inputs, additional_forward_args=arguments)
        assert all(map(torch.equal, found, fresh))


X, Y = torch.zeros(2, 4, 3), torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("inputs", "options", "error", "message"),
    [
        ((), {}, ValueError, "inputs: expected at least one tensor, got an empty tuple"),
        ((X, Y[:1]), {}, ValueError, "inputs: expected as many samples in each, got"),
        (
            (X, Y.double()),
            {},
            TypeError,
            "inputs: expected one floating dtype, got float32, float64",
        ),
        ((X, Y.long()), {}, TypeError, "inputs: expected one floating dtype, got float32, int64"),
        ((X, 3), {}, TypeError, "inputs: expected tensors, got int at 1"),
        (
            (X, Y),
            {"baselines": (0, 0, 0)},
            ValueError,
            "baselines: expected 2, one per input, got 3",
        ),
        ((X, Y), {"baselines": (Y, Y)}, ValueError, r"baselines: expected \(2, 4, 3\) or one row"),
        (
            X,
            {"additional_forward_args": Y[:1]},
            ValueError,
            "additional_forward_args: expected tens",
        ),
        (X, {"additional_forward_args": object()}, TypeError, "additional_forward_args: expected"),
        (
            X,
            {"additional_forward_args": torch.tensor([0, 2**24 + 1])},
            ValueError,
            "additional_forward_args: expected numbers that float32 holds exactly",
        ),
    ],
)
def test_what_does_not_fit_is_named(inputs, options, error, message):
    with pytest.raises(error, match=message):
        IntegratedGradients(Sum().eval()).attribute(inputs, **options)
