"""From logits to probabilities and to a decision, both learnt from clips that training left out."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

__all__ = ["CALIBRATIONS", "Calibration", "best_threshold", "fit_calibration"]

Floats = NDArray[np.float64]

CALIBRATIONS: tuple[str, ...] = ("platt", "isotonic")


@dataclass(frozen=True, slots=True)
class Calibration:
    """A map from logits to probabilities that never falls.

    Attributes
    ----------
    slope, intercept : float
        The probability is the logistic function of slope * logit + intercept ...
    logits, probabilities : tuple of float
        ... unless there are corners: then it is the line through them, level beyond the outermost.
    """

    slope: float = 1.0
    intercept: float = 0.0
    logits: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    def __call__(self, logits: NDArray[Any]) -> Floats:
        """Return the probability of "yes" for each logit."""
        exact = logits.astype(np.float64)
        if self.logits:
            return np.interp(exact, self.logits, self.probabilities)
        chances: Floats = expit(self.slope * exact + self.intercept)
        return chances

    @classmethod
    def from_dict(cls, description: dict[str, Any]) -> Calibration:
        """Make one from ``dataclasses.asdict``'s words, lists for tuples."""
        corners = {name: tuple(description[name]) for name in ("logits", "probabilities")}
        return cls(**(description | corners))


def fit_calibration(method: str, logits: Floats, positive: NDArray[np.bool_]) -> Calibration:
    """Learn how probable the emotion is at each logit.

    Clips count as they come, so that the probabilities fit a population in which the emotion is as
    rare as in training.

    Parameters
    ----------
    method : {"platt", "isotonic"}
        A logistic curve (Platt, 1999) or a step-like one (Zadrozny & Elkan, 2002).
    logits : ndarray, shape (N,)
        Of clips that training left out.
    positive : ndarray of bool, shape (N,)
        Which of them show the emotion.
    """
    if method == "platt":
        curve = LogisticRegression(C=1e6).fit(logits[:, None], positive)
        return Calibration(slope=float(curve.coef_[0, 0]), intercept=float(curve.intercept_[0]))
    steps = IsotonicRegression(out_of_bounds="clip").fit(logits, positive)
    return Calibration(
        logits=tuple(steps.X_thresholds_.tolist()),
        probabilities=tuple(steps.y_thresholds_.tolist()),
    )


def best_threshold(logits: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the threshold with the highest balanced accuracy; halfway to the next lower logit.

    0, where no threshold beats guessing. See `fit_calibration` for the arguments.
    """
    false, true, cuts = roc_curve(positive, logits, drop_intermediate=False)
    best = int((true - false).argmax())
    if best == 0:
        return 0.0
    below = cuts[best + 1] if best + 1 < len(cuts) else cuts[best]
    return float(cuts[best] + below) / 2
