"""What may stand between the projection and the readout: recurrences and convolutions over time.

Every body maps (N, T, inputs) to (N, T, ``width``). All are smooth: on a straight line through a
smooth network, Integrated Gradients need few nodes.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "Body",
    "ConvolutionThenLSTM",
    "DilatedConvolutions",
    "RandomConvolution",
    "Recurrence",
    "bidirectional_gru",
    "bidirectional_lstm",
]

_DILATIONS = (1, 2, 4)  # with three taps each: 15 frames are seen at once


class Body(nn.Module):
    """Maps (N, T, inputs) to (N, T, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


class Recurrence(Body):
    """A recurrent layer from a zero state: its output at every step."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__(layer.hidden_size * (2 if layer.bidirectional else 1))
        self.layer = layer

    def forward(self, steps: Tensor) -> Tensor:
        """Return the state after every step."""
        states: Tensor = self.layer(steps)[0]
        return states


def bidirectional_lstm(inputs: int, hidden: int) -> Recurrence:
    """Return an LSTM with ``hidden`` units per direction."""
    return Recurrence(nn.LSTM(inputs, hidden, batch_first=True, bidirectional=True))


def bidirectional_gru(inputs: int, hidden: int) -> Recurrence:
    """Return a GRU with ``hidden`` units per direction."""
    return Recurrence(nn.GRU(inputs, hidden, batch_first=True, bidirectional=True))


class DilatedConvolutions(Body):
    """Residual convolutions over time, ever more dilated (Bai, Kolter & Koltun, 2018).

    Not causal: a clip is there as a whole.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(hidden)
        first, *others = _DILATIONS
        self.first = _convolution(inputs, hidden, 3, first)
        self.others = nn.ModuleList(_convolution(hidden, hidden, 3, d) for d in others)

    def forward(self, steps: Tensor) -> Tensor:
        """Return the last layer's output at every step."""
        waves = functional.silu(self.first(steps.transpose(1, 2)))
        for layer in self.others:
            waves = waves + functional.silu(layer(waves))
        return waves.transpose(1, 2)


class ConvolutionThenLSTM(Body):
    """A convolution over five frames, then a bidirectional LSTM."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(2 * hidden)
        self.convolution = _convolution(inputs, 2 * hidden, 5, 1)
        self.recurrence = bidirectional_lstm(2 * hidden, hidden)

    def forward(self, steps: Tensor) -> Tensor:
        """Return the state after every step."""
        waves = functional.silu(self.convolution(steps.transpose(1, 2)))
        states: Tensor = self.recurrence(waves.transpose(1, 2))
        return states


class RandomConvolution(Body):
    """One convolution over five frames and a tanh: between affine steps IG has a closed form."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(hidden)
        self.convolution = _convolution(inputs, hidden, 5, 1)

    def forward(self, steps: Tensor) -> Tensor:
        """Return the filters' answers at every step."""
        return torch.tanh(self.convolution(steps.transpose(1, 2))).transpose(1, 2)


def _convolution(inputs: int, outputs: int, taps: int, dilation: int) -> nn.Conv1d:
    """As many steps out as in."""
    padding = dilation * (taps - 1) // 2
    return nn.Conv1d(inputs, outputs, taps, padding=padding, dilation=dilation)
