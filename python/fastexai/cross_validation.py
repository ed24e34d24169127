"""Judge classifiers on people that they have never seen."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from fastexai.folds import subject_folds
from fastexai.landmarks import ClipSet
from fastexai.training import EmotionClassifier

__all__ = ["CrossValidation", "cross_validate", "fit_and_score"]


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """How a classifier does on people that it has not seen.

    Attributes
    ----------
    table : DataFrame
        One row per fold: accuracy, balanced_accuracy, roc_auc, majority_rate, fit_seconds,
        inference_ms (per clip).
    decision : ndarray, shape (N,)
        Every clip's logit from the fold that did not train on its subject.
    """

    table: pd.DataFrame
    decision: NDArray[np.float32]

    @property
    def balanced_accuracy(self) -> float:
        """Mean over folds."""
        return float(self.table["balanced_accuracy"].mean())

    @property
    def roc_auc(self) -> float:
        """Mean over folds."""
        return float(self.table["roc_auc"].mean())


def cross_validate(
    clf: EmotionClassifier, clips: ClipSet, *, folds: int = 5, seed: int = 0
) -> CrossValidation:
    """Fit on all folds but one, judge on that one; no subject is ever on both sides.

    Parameters
    ----------
    clf : EmotionClassifier
        Cloned for each fold.
    clips : ClipSet
        Labelled clips with subjects.
    folds : int
        Number of folds.
    seed : int
        Of the assignment of subjects to folds.
    """
    positive = clips.labels == clf.emotion
    decision = np.full(len(clips), np.nan, dtype=np.float32)
    rows = []
    for training, test in subject_folds(positive, clips.subjects, folds=folds, seed=seed):
        row, decision[test] = fit_and_score(clf, clips[training], clips[test])
        rows.append(row)
    return CrossValidation(pd.DataFrame(rows), decision)


def fit_and_score(
    clf: EmotionClassifier, training: ClipSet, test: ClipSet
) -> tuple[dict[str, float], NDArray[np.float32]]:
    """Fit a clone of ``clf`` and score it on other clips: a row of figures, and the logits."""
    started = time.perf_counter()
    fitted = clone(clf).fit(training)
    fit_seconds = time.perf_counter() - started
    started = time.perf_counter()
    decision = fitted.decision_function(test)
    inference_ms = 1e3 * (time.perf_counter() - started) / len(test)
    positive = test.labels == clf.emotion
    row = {
        "accuracy": float(accuracy_score(positive, decision > 0)),
        "balanced_accuracy": float(balanced_accuracy_score(positive, decision > 0)),
        "roc_auc": float(roc_auc_score(positive, decision)),
        "majority_rate": float(max(positive.mean(), 1 - positive.mean())),
        "fit_seconds": fit_seconds,
        "inference_ms": inference_ms,
        "parameters": float(sum(p.numel() for p in fitted.network_.parameters())),
    }
    return row, decision
