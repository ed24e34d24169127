"""Quadrature rules on [0, 1], under Captum's names."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Literal

import numpy as np

from fastexai import _core

__all__ = ["METHODS", "Method", "quadrature"]

Method = Literal[
    "gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"
]
METHODS: tuple[str, ...] = (
    "gausslegendre",
    "riemann_left",
    "riemann_right",
    "riemann_middle",
    "riemann_trapezoid",
)


def quadrature(method: str, n: int) -> tuple[list[float], list[float]]:
    """Return the nodes and weights of a rule with ``n`` nodes; the weights sum to 1.

    Captum's trapezoid weights sum to (n - 1) / n, which makes every attribution too small; here they
    do not. All other rules have Captum's nodes and weights.

    Raises
    ------
    ValueError
        If the method is unknown, or ``n`` is too small for it.
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    least = 2 if method == "riemann_trapezoid" else 1
    if n < least:
        raise ValueError(f"n_steps: expected at least {least}, got {n}")
    if method == "gausslegendre":
        return _core.gauss_legendre(n)
    if method == "riemann_trapezoid":
        weights = np.full(n, 1 / (n - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, n).tolist(), weights.tolist()
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[method]
    return ((np.arange(n) + shift) / n).tolist(), [1 / n] * n
