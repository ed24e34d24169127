"""On a GPU the answers are those of the CPU."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fastexai import IntegratedGradients, integrated_gradients

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Recurrent(nn.Module):
    """A recurrent network over frames, with an affine readout."""

    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(12, 8, num_layers=2, batch_first=True, bidirectional=True)
        self.readout = nn.Linear(16, 1)

    def forward(self, x):
        return self.readout(self.rnn(x.flatten(2))[0].mean(1)).squeeze(-1)


class Squared(nn.Module):
    """A network whose first step is not affine."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(60, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x):
        return self.body(x * x).squeeze(-1)


def perceptron():
    """Affine steps and two hidden layers."""
    hidden = (nn.Linear(60, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(8, 1), nn.Flatten(0))


MODELS = {
    "LSTM": lambda: Recurrent(nn.LSTM),
    "GRU": lambda: Recurrent(nn.GRU),
    "perceptron": perceptron,
    "closed form": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(60, 8), nn.Tanh(), nn.Linear(8, 1)
    ),
    "not affine": Squared,
}


@pytest.mark.parametrize("options", [{"n_steps": 9}, {"tol": 1e-4}, {"baseline_mode": "mean"}])
@pytest.mark.parametrize("engine", ["script", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_a_gpu_gives_the_answers_of_the_cpu(name, engine, options):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    inputs, baselines = torch.randn(20, 5, 4, 3), torch.randn(1, 5, 4, 3)
    expected = integrated_gradients(IntegratedGradients(model), inputs, baselines, **options)
    ig = IntegratedGradients(copy.deepcopy(model).cuda(), engine=engine)
    found = integrated_gradients(ig, inputs.cuda(), baselines.cuda(), **options)
    assert found.values.is_cuda
    assert not model.training
    scale = float(expected.values.abs().max())
    assert float((found.values.cpu() - expected.values).abs().max()) <= 1e-3 * scale
    if engine == "script" and name != "not affine":
        assert "affine prefix" in ig.plan
    assert torch.backends.cudnn.enabled
