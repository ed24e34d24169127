"""Fit the linear readout of frozen features, and say how it answers about people it has not seen."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor

from fastexai.augmentation import copies_of
from fastexai.descent import Descent
from fastexai.folds import subject_folds

__all__ = ["LinearReadout", "balanced_weights", "fit_logistic", "fit_ridge", "fit_sgd"]

Floats = NDArray[np.float64]

_PENALTIES: Floats = 10.0 ** np.arange(
    -2, 5.5, 0.5
)  # of ridge regression, on standardised features
_INVERSE_PENALTIES = np.logspace(-4, 0, 5)  # of logistic regression
_FOLDS = 5
_LEAST_SLOPE = 1e-3  # of the logit over a ridge regression that is worth nothing for strangers


@dataclass(frozen=True, slots=True, eq=False)  # eq: arrays have no single truth value
class LinearReadout:
    """A logit that is linear in the features.

    Attributes
    ----------
    weight : ndarray, shape (P,)
        One coefficient per feature.
    bias : float
        The logit where all features are 0.
    held_out : ndarray, shape (N,), optional
        Every training clip's logit from a readout that has not seen its subject.
    """

    weight: Floats
    bias: float
    held_out: Floats | None = None


def balanced_weights(positive: NDArray[np.bool_]) -> Floats:
    """Return weights, of mean 1, that give both classes the same sum; shape (N,)."""
    share = positive.mean()
    weights: Floats = np.where(positive, 0.5 / share, 0.5 / (1 - share))
    return weights


def fit_ridge(
    features: Floats, positive: NDArray[np.bool_], groups: NDArray[Any] | None
) -> LinearReadout:
    """Ridge regression of ±1 in closed form, turned into a logit.

    The penalty has the least squared error when each subject in turn is left out. A logistic curve
    through those same answers (Platt, 1999) makes the regression a logit. Both classes weigh alike,
    so a logit of 0 lies where an unseen person's clip is as probable under either.

    Parameters
    ----------
    features : ndarray, shape ((1 + K) * N, P), float64
        What the frozen layers say to each clip, and then to K altered copies.
    positive : ndarray of bool, shape (N,)
        Both values occur.
    groups : ndarray, shape (N,), optional
        Subjects. Without them, or with one only, each clip is left out by itself.
    """
    standardised, center, spread = _standardise(features)
    n, copies = len(positive), len(features) // len(positive)
    names = np.tile(_subjects(groups, n), copies)
    positive = np.tile(positive, copies)
    weight, target = balanced_weights(positive), np.where(positive, 1.0, -1.0)
    answers, coefficients = leave_groups_out(standardised, target, weight, names, _PENALTIES)
    best = int((weight * (answers - target) ** 2).sum(axis=1).argmin())
    # Not lbfgs: it wakes SciPy's BLAS threads, which then spin for 0.1 s in the way of torch's.
    curve = LogisticRegression(C=1e6, solver="newton-cholesky")
    with warnings.catch_warnings():  # where classes part, it says that it goes on with lbfgs
        warnings.simplefilter("ignore", ConvergenceWarning)
        curve.fit(answers[best][:, None], positive, sample_weight=weight)
    slope = max(float(curve.coef_[0, 0]), _LEAST_SLOPE)
    scaled = slope * coefficients[best] / spread
    middle = np.average(standardised, axis=0, weights=weight)
    mean = np.average(target, weights=weight) - coefficients[best] @ middle
    bias = float(curve.intercept_[0] + slope * mean - scaled @ center)
    return LinearReadout(scaled, bias, slope * answers[best, :n] + curve.intercept_[0])


def fit_logistic(
    features: Floats, positive: NDArray[np.bool_], groups: NDArray[Any] | None, *, seed: int
) -> LinearReadout:
    """Logistic regression; its penalty has the least log loss in subject-independent folds.

    See `fit_ridge` for the arguments; ``seed`` is that of the folds.

    Raises
    ------
    ValueError
        If there are fewer subjects, or fewer clips of one class, than folds (5).
    """
    standardised, center, spread = _standardise(features)
    n, rows = len(positive), len(features)
    splits = subject_folds(positive, groups, folds=_FOLDS, seed=seed)
    models = [_logistic_regression(c) for c in _INVERSE_PENALTIES]
    answers = np.empty((len(models), n))
    for training, test in splits:
        own = copies_of(training, n, rows)
        for answer, model in zip(answers, models, strict=True):
            model.fit(standardised[own], positive[own % n])
            answer[test] = model.decision_function(standardised[test])
    weight = balanced_weights(positive)
    losses = [log_loss(positive, expit(answer), sample_weight=weight) for answer in answers]
    best = int(np.argmin(losses))
    model = models[best].fit(standardised, np.tile(positive, rows // n))
    scaled = model.coef_[0] / spread
    return LinearReadout(scaled, float(model.intercept_[0] - scaled @ center), answers[best])


def fit_sgd(
    features: Floats,
    positive: NDArray[np.bool_],
    groups: NDArray[Any] | None,
    descent: Descent,
) -> LinearReadout:
    """Logistic regression by gradient descent, stopped early; see `fit_ridge` for the arguments.

    Raises
    ------
    ValueError
        If there are fewer subjects, or fewer clips of one class, than folds (5).
    """
    standardised, center, spread = _standardise(features)
    layer = torch.nn.Linear(features.shape[1], 1)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    module = torch.nn.Sequential(layer, torch.nn.Flatten(0))
    fitted = descent.fit(module, standardised.astype(np.float32), positive, groups)
    weight, bias = (p.detach().double().numpy() for p in fitted.parameters())
    scaled = weight[0] / spread
    return LinearReadout(scaled, float(bias[0] - scaled @ center))


def _logistic_regression(inverse_penalty: float) -> LogisticRegression:
    return LogisticRegression(C=inverse_penalty, class_weight="balanced", max_iter=1000)


def leave_groups_out(
    features: Floats,
    target: Floats,
    weight: Floats,
    groups: NDArray[Any],
    penalties: Floats,
) -> tuple[Floats, Floats]:
    """Weighted ridge regression with an intercept, for many penalties at once.

    With the hat matrix H of the regression on all clips, the residuals of a group g that is left
    out are (I - H_gg)⁻¹ times its residuals (Cook & Weisberg, 1982, for single rows): no second
    fit is needed.

    Parameters
    ----------
    features : ndarray, shape (N, P)
        Standardised.
    target, weight : ndarray, shape (N,)
        What to predict; what each clip counts.
    groups : ndarray, shape (N,)
        Clips of one group are left out together.
    penalties : ndarray, shape (A,)
        Of the squared coefficients; the intercept is free.

    Returns
    -------
    answers : ndarray, shape (A, N)
        To every clip, from the fit without its group.
    coefficients : ndarray, shape (A, P)
        Of the fit to all clips.
    """
    # All in torch: NumPy's threads spin for a while after a product, and torch's would wait for them.
    clips, aim, count = (torch.from_numpy(array) for array in (features, target, weight))
    root = count.sqrt()
    rows = root[:, None] * (clips - count @ clips / count.sum())
    goal = root * (aim - count @ aim / count.sum())
    left, strengths = _left_singular(rows)
    intercept, along = root / count.sum().sqrt(), left.T @ goal
    shrinkage = 1 / (strengths + torch.from_numpy(penalties)[:, None])
    residuals = goal - (strengths * shrinkage * along) @ left.T
    answers = aim.repeat(len(penalties), 1)
    for block in map(torch.from_numpy, _blocks(groups)):
        own, free = left[block], intercept[block]
        unpenalised = torch.eye(block.shape[1]) - free[:, :, None] * free[:, None, :]
        for answer, residual, fitted in zip(answers, residuals, strengths * shrinkage, strict=True):
            out = unpenalised - (own * fitted) @ own.mT
            answer[block] -= torch.linalg.solve(out, residual[block]) / root[block]
    coefficients = rows.T @ (left @ (shrinkage * along).T)
    return answers.numpy(), coefficients.T.numpy()


def _left_singular(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors (N, R) and squared singular values (R,), by the smaller Gram matrix."""
    if rows.shape[0] <= rows.shape[1]:
        strengths, left = torch.linalg.eigh(rows @ rows.T)
        return left, strengths.clamp_min(0)
    strengths, right = torch.linalg.eigh(rows.T @ rows)
    present = strengths > 1e-12 * strengths[-1]
    return rows @ (right[:, present] / strengths[present].sqrt()), strengths[present]


def _subjects(groups: NDArray[Any] | None, n: int) -> NDArray[np.intp]:
    """Give subjects numbers; clips count as such where there is nobody else to learn from."""
    if groups is None or len(np.unique(groups)) == 1:
        return np.arange(n)
    numbers: NDArray[np.intp] = np.unique(groups, return_inverse=True)[1]
    return numbers


def _blocks(groups: NDArray[Any]) -> Iterator[NDArray[np.intp]]:
    """Yield, for each size that groups have, the rows of all groups of it: (groups, size)."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    for size in np.unique(sizes):
        yield order[sizes[group[order]] == size].reshape(-1, size)


def _standardise(features: Floats) -> tuple[Floats, Floats, Floats]:
    center, spread = features.mean(0), features.std(0) + 1e-12
    return (features - center) / spread, center, spread
