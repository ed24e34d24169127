"""Networks that read ``[N, T, L, 3]`` clips and answer with one logit each.

Every network is affine up to its body's first nonlinearity: pick the kept landmarks, subtract the
clip's mean face, project. What a landmark contributes is therefore known before that.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fastexai.models.bodies import (
    Body,
    ConvolutionThenLSTM,
    DilatedConvolutions,
    RandomConvolution,
    bidirectional_gru,
    bidirectional_lstm,
)
from fastexai.models.network import FEATURES, ClipNetwork
from fastexai.models.randomized import randomize

__all__ = [
    "ARCHITECTURES",
    "FEATURES",
    "Architecture",
    "ClipNetwork",
    "build_network",
    "is_randomized",
]

Architecture = Literal[
    "bilstm", "gru", "tcn", "conv_bilstm", "randomized_bilstm", "randomized_conv"
]


class _Recipe(NamedTuple):
    """How to make a body, from the numbers of inputs and of hidden units."""

    body: Callable[[int, int], Body]
    hidden: int  # by default
    is_randomized: bool = False

    def units(self, share: float) -> int:
        """Hidden units by default, for a share of all landmarks.

        The fewer landmarks a network reads, the more of its time goes into a body that nobody has
        made smaller: units follow the cube root of the share, down to half of them. Trained bodies
        stay as they are: they are kept when landmarks go.
        """
        if not self.is_randomized:
            return self.hidden
        units = self.hidden * max(1 / 2, math.pow(share, 1 / 3))
        return _SIMD * round(units / _SIMD)


_RECIPES = {
    "bilstm": _Recipe(bidirectional_lstm, 64),
    "gru": _Recipe(bidirectional_gru, 64),
    "tcn": _Recipe(DilatedConvolutions, 64),
    "conv_bilstm": _Recipe(ConvolutionThenLSTM, 32),
    "randomized_bilstm": _Recipe(bidirectional_lstm, 64, is_randomized=True),
    "randomized_conv": _Recipe(RandomConvolution, 256, is_randomized=True),
}
_SIMD = 16  # floats of an AVX-512 register: units between two multiples would save no time
ARCHITECTURES: tuple[str, ...] = tuple(_RECIPES)


def is_randomized(architecture: str) -> bool:
    """Whether the body is drawn once and never trained (Di Luzio et al., arXiv 2407.14865)."""
    return _recipe(architecture).is_randomized


def build_network(
    architecture: str,
    *,
    kept: Tensor,
    landmarks: int,
    seed: int,
    hidden: int | None = None,
    features: str = "positions",
    components: int | None = None,
) -> ClipNetwork:
    """Draw a network's initial weights from ``seed``, leaving torch's global generator alone.

    Parameters
    ----------
    architecture : str
        One of ``ARCHITECTURES``.
    kept : Tensor, shape (K,), int64
        The landmarks that the network reads.
    landmarks : int
        Landmarks per frame of a full clip, L.
    seed : int
        Of the weights.
    hidden : int, optional
        Units of the body (per direction, where it has two); by default the architecture's, of a
        randomised one fewer for few landmarks.
    features : str
        One of ``FEATURES``.
    components : int, optional
        See `ClipNetwork`.

    Raises
    ------
    ValueError
        If the architecture or the features are unknown, or ``hidden`` is not positive.
    """
    recipe = _recipe(architecture)
    units = recipe.units(len(kept) / landmarks) if hidden is None else hidden
    if units < 1:
        raise ValueError(f"hidden: expected at least 1, got {hidden}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ClipNetwork(
            lambda inputs: recipe.body(inputs, units),
            kept,
            landmarks=landmarks,
            features=features,
            components=components,
        )
        network.hidden = units
        if recipe.is_randomized:
            randomize(network.body)
            network.random_parameters = sum(p.numel() for p in network.body.parameters())
            network.projection.requires_grad_(False)
    return network


def _recipe(architecture: str) -> _Recipe:
    if architecture not in _RECIPES:
        raise ValueError(
            f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {architecture!r}"
        )
    return _RECIPES[architecture]
