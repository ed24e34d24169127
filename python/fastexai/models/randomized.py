"""Layers that are drawn once and never trained."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from torch import nn

__all__ = ["randomize"]

_INPUT_SCALE = 0.5  # of random input weights: below saturation
_SPECTRAL_RADIUS = 0.9  # of random recurrent weights: activity neither dies out nor explodes


@torch.no_grad()
def randomize(body: nn.Module) -> None:
    """Draw and freeze all weights of a body, from torch's global generator.

    Every weight matrix gets variance scale² / fan-in; recurrent ones thereby a spectral radius of
    0.9, as a square Gaussian matrix of variance 1 / n has spectral radius 1 (Girko's circular law).
    Each unit gets one random bias: units at different operating points.
    """
    for name, weights in body.named_parameters():
        weights.requires_grad_(False)
        kind = name.rsplit(".", 1)[-1]
        if kind.startswith("weight"):
            scale = _SPECTRAL_RADIUS if kind.startswith("weight_hh") else _INPUT_SCALE
            weights.normal_(std=scale * weights[0].numel() ** -0.5)
        elif kind.startswith("bias_hh"):
            weights.zero_()
        else:
            weights.normal_(std=_INPUT_SCALE)
