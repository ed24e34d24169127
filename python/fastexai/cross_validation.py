"""Judge classifiers on people that they have never seen."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from fastexai.folds import Split, check_split, subject_folds
from fastexai.landmarks import ClipSet
from fastexai.metrics import (
    METRICS,
    Answers,
    Interval,
    evaluate,
    paired_difference,
    subject_bootstrap,
)
from fastexai.training import EmotionClassifier

__all__ = ["CrossValidation", "cross_validate", "fit_and_score"]


@dataclass(frozen=True, slots=True, eq=False)  # eq: arrays have no single truth value
class CrossValidation:
    """How a classifier does on people that it has not seen.

    Attributes
    ----------
    table : DataFrame
        One row per test fold: repeat, fold, clips, subjects; accuracy and, beside it, majority_rate
        (of whoever always gives the commoner answer), balanced_accuracy, roc_auc,
        average_precision, f1, mcc, brier (of the probabilities; less is better), prevalence (share
        of clips with the emotion); fit_seconds, inference_ms (per clip), parameters,
        parameters_trained, parameters_random (drawn once, never trained). What needs both classes
        is NaN in a fold with one.
    pooled : DataFrame
        One row per metric of ``table``: value, low, high. Over the answers of all folds together,
        averaged over repeats, with the 95 % confidence interval of `subject_bootstrap`. roc_auc and
        average_precision compare logits of different folds' classifiers, as if they were one.
    answers : Answers
        Of shape (repeats, N): every clip's, from the fold whose training had not seen its subject.
        NaN, NaN and False for clips that no split tests.
    positive : ndarray of bool, shape (N,)
        Which clips show the emotion.
    subjects, ids : ndarray of str, shape (N,)
        Person and identity of each clip.
    """

    table: pd.DataFrame
    pooled: pd.DataFrame
    answers: Answers
    positive: NDArray[np.bool_]
    subjects: NDArray[np.str_]
    ids: NDArray[np.str_]

    @property
    def balanced_accuracy(self) -> float:
        """Over all folds together; see ``pooled``."""
        return float(self.pooled["value"].to_dict()["balanced_accuracy"])

    @property
    def roc_auc(self) -> float:
        """Over all folds together; see ``pooled``."""
        return float(self.pooled["value"].to_dict()["roc_auc"])

    def difference(self, other: CrossValidation, metric: str = "balanced_accuracy") -> Interval:
        """Return by how much this classifier beats another one on the same clips.

        Parameters
        ----------
        other : CrossValidation
            Of the same clips; the folds and repeats need not be the same.
        metric : str
            One of ``pooled``'s rows.

        Returns
        -------
        Interval
            Value, low, high: the `paired_difference` over subjects.

        Raises
        ------
        ValueError
            If the other's clips or labels are not the same, or the metric is unknown.
        """
        same = np.array_equal(self.ids, other.ids) and np.array_equal(self.subjects, other.subjects)
        if not same or not np.array_equal(self.positive, other.positive):
            raise ValueError("other: expected a result on the same labelled clips, got other clips")
        if metric not in METRICS:
            raise ValueError(f"metric: expected one of {', '.join(METRICS)}, got {metric!r}")
        judged = _judged(self.answers) & _judged(other.answers)
        ours, theirs = (
            getattr(result.answers, METRICS[metric].reads)[:, judged] for result in (self, other)
        )
        return paired_difference(
            self.positive[judged], ours, theirs, self.subjects[judged], metric=metric
        )

    def describe(self) -> dict[str, Any]:
        """Return clips, subjects, ``pooled`` and ``table`` as JSON knows them: NaN is None."""
        return {
            "clips": len(self.ids),
            "subjects": len(np.unique(self.subjects)),
            "pooled": json.loads(self.pooled.to_json(orient="index", double_precision=15)),
            "table": json.loads(self.table.to_json(orient="records", double_precision=15)),
        }

    def __repr__(self) -> str:
        value, low, high = self.pooled.loc["balanced_accuracy"]
        return (
            f"CrossValidation({len(self.table)} folds, {len(np.unique(self.subjects))} subjects: "
            f"balanced accuracy {value:.3f}, 95 % interval {low:.3f} to {high:.3f})"
        )


def cross_validate(
    clf: EmotionClassifier,
    clips: ClipSet,
    *,
    folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
    splits: Iterable[tuple[ArrayLike, ArrayLike]] | None = None,
    allow_shared_subjects: bool = False,
    resamples: int = 2000,
    progress: Callable[[int, int], object] | None = None,
) -> CrossValidation:
    """Fit on all folds but one, judge on that one; no subject is ever on both sides.

    Parameters
    ----------
    clf : EmotionClassifier
        Cloned for each fold: all that it learns, it learns from the training clips.
    clips : ClipSet
        Labelled clips with subjects. Clips that share a subject's name stay together; clips of
        unnamed people have their source for a subject (`ClipSet.from_clips`), which parts two clips
        of one unnamed person.
    folds : int
        Number of folds, stratified by the emotion.
    repeats : int
        Do it all so many times with subjects assigned to folds anew. What repeats average away is
        the luck of the folds, not that of the people: the interval is that of the average.
    seed : int
        Of the assignment of subjects to folds; the next repeat takes the next number.
    splits : iterable of (training, test), optional
        Indices of clips, to be used instead of ``folds``; every clip is tested at most once.
    allow_shared_subjects : bool
        Accept ``splits`` that share subjects; without ``splits``, ignore subjects when dividing into
        folds. Such figures say how a classifier does on people that it knows.
    resamples : int
        Of the bootstrap.
    progress : callable, optional
        Called with (folds done, folds in all).

    Raises
    ------
    ValueError
        If the emotion is no label of the clips, there are fewer subjects or clips of one class than
        folds, a subject has no name, or splits leak or cannot be judged.

    Examples
    --------
    >>> import fastexai as fx
    >>> clips = fx.datasets.simulate_expressions(60, emotions=["happiness"], frames=5)
    >>> clf = fx.EmotionClassifier("happiness", "randomized_bilstm", hidden=8)
    >>> result = fx.cross_validate(clf, clips, folds=3)
    >>> result.table["majority_rate"].tolist()
    [0.5, 0.5, 0.5]
    >>> result.pooled.columns.tolist()
    ['value', 'low', 'high']
    """
    positive = _positive(clf, clips)
    if splits is None:
        plans = _plans(positive, clips, folds, repeats, seed, allow_shared_subjects)
    elif repeats != 1:
        raise ValueError(f"repeats: expected 1 beside splits, got {repeats}")
    else:
        plans = [_given(splits, len(clips))]
    for split in (split for plan in plans for split in plan):
        check_split(split, positive, clips.subjects, allow_shared_subjects=allow_shared_subjects)
    table, answers = _judge(clf, clips, plans, progress)
    pooled = _pool(positive, answers, clips.subjects, resamples)
    return CrossValidation(table, pooled, answers, positive, clips.subjects, clips.ids)


def fit_and_score(
    clf: EmotionClassifier, training: ClipSet, test: ClipSet
) -> tuple[dict[str, float], Answers]:
    """Fit a clone of ``clf`` and score it on other clips.

    Returns
    -------
    row : dict of str to float
        The metrics, times and sizes that `CrossValidation` lists.
    answers : Answers
        To the test clips, each of shape (N,).
    """
    started = time.perf_counter()
    fitted = clone(clf).fit(training)
    fit_seconds = time.perf_counter() - started
    started = time.perf_counter()
    decision = fitted.decision_function(test)
    inference_ms = 1e3 * (time.perf_counter() - started) / len(test)
    answers = Answers(decision, fitted.predict_proba(test)[:, 1], decision > 0)
    row = {
        **evaluate(test.labels == clf.emotion, answers),
        "fit_seconds": fit_seconds,
        "inference_ms": inference_ms,
        **_parameters(fitted),
    }
    return row, answers


def _parameters(fitted: EmotionClassifier) -> dict[str, float]:
    """Count all parameters, those fitted (in closed form too) and those drawn once."""
    total = sum(p.numel() for p in fitted.network_.parameters())
    random = fitted.network_.random_parameters
    return {
        "parameters": float(total),
        "parameters_trained": float(total - random),
        "parameters_random": float(random),
    }


def _positive(clf: EmotionClassifier, clips: ClipSet) -> NDArray[np.bool_]:
    positive: NDArray[np.bool_] = clips.labels == clf.emotion
    if not positive.any():
        labels = ", ".join(map(repr, np.unique(clips.labels).tolist()))
        raise ValueError(f"emotion: expected a label of the clips ({labels}), got {clf.emotion!r}")
    return positive


def _plans(
    positive: NDArray[np.bool_],
    clips: ClipSet,
    folds: int,
    repeats: int,
    seed: int,
    allow_shared_subjects: bool,
) -> list[list[Split]]:
    """Return the folds of every repeat."""
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}")
    groups = None if allow_shared_subjects else clips.subjects
    seeds = range(seed, seed + repeats)
    return [subject_folds(positive, groups, folds=folds, seed=one) for one in seeds]


def _given(splits: Iterable[tuple[ArrayLike, ArrayLike]], clips: int) -> list[Split]:
    """Return the caller's splits as arrays; no clip may be tested twice."""
    plan = [(np.asarray(training), np.asarray(test)) for training, test in splits]
    if not plan:
        raise ValueError("splits: expected at least one (training, test), got none")
    tested = np.concatenate([test for _, test in plan])
    if len(np.unique(tested)) < len(tested):
        raise ValueError("splits: expected every clip in at most one test fold, got one in several")
    return plan


def _judge(
    clf: EmotionClassifier,
    clips: ClipSet,
    plans: list[list[Split]],
    progress: Callable[[int, int], object] | None,
) -> tuple[pd.DataFrame, Answers]:
    """Fit and score every fold of every repeat."""
    shape = len(plans), len(clips)
    answers = Answers(
        np.full(shape, np.nan, np.float32), np.full(shape, np.nan), np.zeros(shape, np.bool_)
    )
    rows: list[dict[str, Any]] = []
    total = sum(map(len, plans))
    for repeat, plan in enumerate(plans):
        for fold, (training, test) in enumerate(plan):
            row, said = fit_and_score(clf, clips[training], clips[test])
            for kind, part in said._asdict().items():
                getattr(answers, kind)[repeat, test] = part
            people = len(np.unique(clips.subjects[test]))
            count = {"repeat": repeat, "fold": fold, "clips": len(test), "subjects": people}
            rows.append(count | row)
            if progress is not None:
                progress(len(rows), total)
    return pd.DataFrame(rows), answers


def _judged(answers: Answers) -> NDArray[np.bool_]:
    """Return which clips some fold has tested, (N,)."""
    return np.asarray(np.isfinite(answers.decision).all(axis=0))


def _pool(
    positive: NDArray[np.bool_], answers: Answers, subjects: NDArray[np.str_], resamples: int
) -> pd.DataFrame:
    """Return every metric over all folds' answers with its interval."""
    judged = _judged(answers)
    rows = {
        name: subject_bootstrap(
            positive[judged],
            getattr(answers, metric.reads)[:, judged],
            subjects[judged],
            metric=name,
            resamples=resamples,
        )
        for name, metric in METRICS.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=Interval._fields)
