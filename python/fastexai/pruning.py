"""Fewer landmarks: drop the least relevant, fit again, and compare with chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone

from fastexai import _core
from fastexai.cross_validation import fit_and_score
from fastexai.explanation import explain_dataset
from fastexai.folds import subject_folds
from fastexai.landmarks import ClipSet
from fastexai.model_loading import load_model
from fastexai.training import EmotionClassifier

__all__ = ["PruningPath", "prune"]


@dataclass(frozen=True, slots=True, eq=False)
class PruningPath:
    """Nested landmark subsets, from all to few, with a score for each.

    Attributes
    ----------
    emotion : str
        What the classifiers recognise.
    table : DataFrame
        One row per size: landmarks, accuracy, balanced_accuracy, balanced_accuracy_se (standard
        error over folds), roc_auc, masked_balanced_accuracy (of the full model, without fitting
        again), random_balanced_accuracy (the random control), majority_rate, fit_seconds,
        inference_ms, parameters. Every score is the mean over test folds.
    folds : DataFrame
        One row per fold, size and choice ("relevance" or "random").
    kept : dict of int to ndarray
        The landmarks of each size, by a classifier fitted to all clips; most relevant first.
    best : int
        The smallest size within one standard error of the best balanced accuracy.
    """

    emotion: str
    table: pd.DataFrame
    folds: pd.DataFrame
    kept: dict[int, NDArray[np.intp]]
    best: int

    def __repr__(self) -> str:
        sizes = ", ".join(map(str, self.kept))
        return f"PruningPath({self.emotion!r}: sizes {sizes}; best {self.best})"


def prune(
    clf: EmotionClassifier,
    clips: ClipSet,
    sizes: Sequence[int] = (468, 256, 128, 64, 32),
    *,
    folds: int = 5,
    random_subsets: int = 3,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> PruningPath:
    """Rank landmarks by relevance, keep ever fewer, fit again, and score on unseen people.

    Within each fold the ranking comes from the training clips alone; the test clips are only scored.

    Parameters
    ----------
    clf : EmotionClassifier
        Cloned for every fit.
    clips : ClipSet
        Labelled clips with subjects.
    sizes : sequence of int
        Landmarks to keep, decreasing.
    folds : int
        Subject-independent folds.
    random_subsets : int
        Random subsets of each size that are fitted and scored beside the chosen one.
    seed : int
        Of the folds and the random subsets.
    progress : callable, optional
        Called with (fits done, fits in all).

    Raises
    ------
    ValueError
        If sizes do not decrease or lie outside [1, L], or there are fewer subjects than folds.
    """
    _check_sizes(sizes, clips.X.shape[2])
    positive = clips.labels == clf.emotion
    generator = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    splits = subject_folds(positive, clips.subjects, folds=folds, seed=seed)
    total = 1 + folds * len(sizes) * (1 + random_subsets)
    for fold, (training, test) in enumerate(splits):
        ranking, masked = _rank(clf, clips[training], clips[test], sizes)
        for size, masked_score in zip(sizes, masked, strict=True):
            subsets = [("relevance", ranking[:size])] + [
                ("random", generator.permutation(clips.X.shape[2])[:size])
                for _ in range(random_subsets)
            ]
            for choice, kept in subsets:
                smaller = clone(clf).set_params(kept=kept.tolist())
                row, _ = fit_and_score(smaller, clips[training], clips[test])
                rows.append({"fold": fold, "landmarks": size, "choice": choice, **row})
                if choice == "relevance":
                    rows[-1]["masked_balanced_accuracy"] = masked_score
                if progress is not None:
                    progress(len(rows), total)
    per_fold = pd.DataFrame(rows)
    table = _summary(per_fold)
    ranking, _ = _rank(clf, clips, clips, sizes)
    if progress is not None:
        progress(total, total)
    kept_landmarks = {size: ranking[:size] for size in sizes}
    return PruningPath(clf.emotion, table, per_fold, kept_landmarks, _one_standard_error(table))


def _rank(
    clf: EmotionClassifier, training: ClipSet, test: ClipSet, sizes: Sequence[int]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Ranking by relevance on training clips; the masked model's score on test clips per size."""
    full = clone(clf).fit(training)
    baselines = full.prototypes_
    explanation = explain_dataset(full.network_, training, baselines, emotion=clf.emotion)
    _, scores, _ = _core.search_by_relevance(
        load_model(full.network_),
        torch.from_numpy(test.X),
        torch.from_numpy(test.labels == clf.emotion),
        baseline=torch.from_numpy(baselines.mean(0)),
        relevance=torch.from_numpy(explanation.relevance),
        sizes=list(sizes),
    )
    return explanation.ranking, scores.numpy()


def _summary(per_fold: pd.DataFrame) -> pd.DataFrame:
    chosen = per_fold[per_fold["choice"] == "relevance"]
    by_size = chosen.groupby("landmarks", sort=False)
    table = by_size.mean(numeric_only=True).drop(columns="fold")
    table["balanced_accuracy_se"] = by_size["balanced_accuracy"].sem()
    random = per_fold[per_fold["choice"] == "random"].groupby("landmarks", sort=False)
    table["random_balanced_accuracy"] = random["balanced_accuracy"].mean()
    return table.reset_index()


def _one_standard_error(table: pd.DataFrame) -> int:
    best = table.iloc[int(table["balanced_accuracy"].argmax())]
    enough = table["balanced_accuracy"] >= best["balanced_accuracy"] - best["balanced_accuracy_se"]
    return int(table.loc[enough, "landmarks"].min())


def _check_sizes(sizes: Sequence[int], landmarks: int) -> None:
    if len(sizes) == 0 or any(not 1 <= size <= landmarks for size in sizes):
        raise ValueError(f"sizes: expected values in [1, {landmarks}], got {tuple(sizes)}")
    if any(b >= a for a, b in pairwise(sizes)):
        raise ValueError(f"sizes: expected decreasing values, got {tuple(sizes)}")
