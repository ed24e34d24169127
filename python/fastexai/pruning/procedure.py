"""The whole procedure, nested: no test clip has a say in what is kept, how much, or how it is fitted."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import clone

from fastexai import _core, mesh
from fastexai.folds import subject_folds
from fastexai.landmarks import ClipSet
from fastexai.metrics import Answers, evaluate, subject_bootstrap
from fastexai.model_loading import load_model
from fastexai.models import is_randomized
from fastexai.pruning.anchor import anchor_decisions
from fastexai.pruning.answers import OutOfFold
from fastexai.pruning.cost import cost
from fastexai.pruning.path import PruningPath, smallest_good_enough
from fastexai.pruning.stability import kuncheva_index, rank_correlation
from fastexai.search import LandmarkSearch, Strategy, search_landmarks
from fastexai.training import EmotionClassifier

__all__ = ["prune"]

Floats = NDArray[np.float64]
Progress = Callable[[int, int], object]


def prune(
    clf: EmotionClassifier,
    clips: ClipSet,
    sizes: Sequence[int] = (468, 256, 128, 64, 32, 16, 8),
    *,
    strategy: Strategy = "redundancy",
    symmetric: bool = False,
    keep_regions: Sequence[str] = (),
    exclude_regions: Sequence[str] = (),
    min_spacing: float = 0.0,
    folds: int = 5,
    repeats: int = 1,
    inner_folds: int = 3,
    random_subsets: int = 10,
    anchor: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> PruningPath:
    """Find how few landmarks are enough, and show that it is no accident.

    For every outer fold: fit to the training clips, search on them, fit again at every size, and
    score the test clips, whom nobody has seen; inner folds of the training clips choose the size.
    Beside each size stand random subsets, fitted too, and a plain logistic regression. Networks
    trained by gradient descent go on from the full one (`EmotionClassifier.keep`).

    Parameters
    ----------
    clf : EmotionClassifier
        Cloned for every fit.
    clips : ClipSet
        Labelled clips with subjects.
    sizes : sequence of int
        Landmarks to keep, decreasing.
    strategy, symmetric, keep_regions, exclude_regions, min_spacing
        How the search goes; see `fastexai.search_landmarks`.
    folds, repeats : int
        Subject-independent outer folds, and how often clips are divided anew.
    inner_folds : int
        Folds of each training set, which choose the size. 0 leaves that, and ``nested``, out.
    random_subsets : int
        Random subsets of each size, in each fold.
    anchor : bool
        Whether to run the logistic regression.
    seed : int
        Of the folds and the random subsets.
    progress : callable, optional
        Called with (fits done, fits in all).

    Returns
    -------
    PruningPath
        The table, the landmarks, and the size that is enough.

    Raises
    ------
    ValueError
        If sizes do not decrease or lie outside [1, L], there are fewer subjects than folds, or a
        region does not exist.

    Examples
    --------
    >>> import fastexai as fx
    >>> clips = fx.datasets.simulate_expressions(80, emotions=("happiness",), frames=6, difficulty=0)
    >>> clf = fx.EmotionClassifier("happiness", "randomized_bilstm", hidden=8)
    >>> path = fx.prune(clf, clips, (468, 32), folds=2, inner_folds=2, random_subsets=1)
    >>> path.table["landmarks"].tolist()
    [468, 32]
    """
    search: dict[str, Any] = {
        "strategy": strategy,
        "symmetric": symmetric,
        "keep_regions": list(keep_regions),
        "exclude_regions": list(exclude_regions),
        "min_spacing": min_spacing,
    }
    design = _Design(folds, repeats, inner_folds, random_subsets, anchor, seed)
    _check(sizes, clips.X.shape[2], design)
    for region in (*keep_regions, *exclude_regions):
        mesh.region_landmarks(region)  # raises for an unknown one, before the long work begins
    return _Procedure(clf, clips, tuple(sizes), search, design, progress).run()


@dataclass(frozen=True, slots=True)
class _Design:
    """How clips are divided, and what stands beside the guided choice; see `prune`."""

    folds: int
    repeats: int
    inner_folds: int
    random_subsets: int
    anchor: bool
    seed: int


@dataclass(slots=True)
class _Fold:
    """What one outer fold found out."""

    found: LandmarkSearch  #: on its training clips
    judged: dict[str, Floats]  #: logits of its test clips by choice, (S, draws, M)
    fit_seconds: list[float]  #: one per size
    chosen: int | None  #: the size that inner folds chose


@dataclass(slots=True)
class _Procedure:
    clf: EmotionClassifier
    clips: ClipSet
    sizes: tuple[int, ...]
    search: dict[str, Any]
    design: _Design
    progress: Progress | None
    _seconds: list[float] = field(default_factory=list, init=False)  #: of every fit so far

    def run(self) -> PruningPath:
        """Judge all folds, choose on all clips, and put everything into one table."""
        positive = self.clips.labels == self.clf.emotion
        answers = OutOfFold(positive, self.clips.subjects, self.sizes, self.design.repeats)
        rows: list[dict[str, Any]] = []
        searches: list[LandmarkSearch] = []
        for repeat, fold, training, test in self._splits(positive):
            judged = self._judge(self.clips[training], self.clips[test], (repeat, fold))
            answers.add(repeat, test, judged.judged, judged.chosen)
            rows += _fold_rows(repeat, fold, judged, positive[test], self.sizes)
            searches.append(judged.found)
        kept, costs = self._on_all_clips()
        folds = pd.DataFrame(rows)
        table = answers.table().join(costs)
        table.insert(
            3,
            "fit_seconds",
            folds.groupby("landmarks", sort=False)["fit_seconds"].mean().to_numpy(),
        )
        table["kuncheva_index"] = [
            kuncheva_index([found.kept[size] for found in searches], self.clips.X.shape[2])
            for size in self.sizes
        ]
        scores = [answers.score("guided", row) for row in range(len(self.sizes))]
        return PruningPath(
            emotion=self.clf.emotion,
            table=table,
            folds=folds,
            answers=answers.frame(),
            kept=kept,
            best=smallest_good_enough(self.sizes, scores),
            nested=answers.nested(),
            rank_correlation=rank_correlation(np.stack([f.relevance[0] for f in searches])),
            options=self._options(),
        )

    def _splits(
        self, positive: NDArray[np.bool_]
    ) -> Iterator[tuple[int, int, NDArray[np.intp], NDArray[np.intp]]]:
        for repeat in range(self.design.repeats):
            splits = subject_folds(
                positive,
                self.clips.subjects,
                folds=self.design.folds,
                seed=self.design.seed + repeat,
            )
            for fold, (training, test) in enumerate(splits):
                yield repeat, fold, training, test

    def _judge(self, training: ClipSet, test: ClipSet, where: tuple[int, int]) -> _Fold:
        """Search and fit on training clips; let every choice answer the test clips."""
        full = self._fit(training)
        found, of_full = self._search(full, training), self._seconds[-1]
        guided, seconds = [], []
        for size in self.sizes:
            fitted = (
                full if size == test.X.shape[2] else self._fit(training, found.kept[size], full)
            )
            guided.append(fitted.decision_function(test))
            seconds.append(of_full if fitted is full else self._seconds[-1])
        judged = {
            "guided": np.stack(guided)[:, None].astype(np.float64),
            "masked": self._masked(full, found, test)[:, None],
        }
        if self.design.random_subsets:
            judged["random"] = self._random(full, training, test, judged["guided"], where)
        if self.design.anchor:
            anchors = anchor_decisions(
                training, test, self.clf.emotion, self.sizes, seed=self.design.seed
            )
            judged["anchor"] = np.stack(list(anchors))[:, None]
        return _Fold(found, judged, seconds, self._choose_size(training))

    def _random(
        self,
        full: EmotionClassifier,
        training: ClipSet,
        test: ClipSet,
        guided: Floats,
        where: tuple[int, int],
    ) -> Floats:
        """Fit random subsets of the landmarks that the search may keep."""
        generator = np.random.default_rng([self.design.seed, *where])
        pool = self._allowed()
        logits = np.repeat(
            guided, self.design.random_subsets, axis=1
        )  # of all landmarks: there is no choice
        for row, size in enumerate(self.sizes):
            for draw in range(self.design.random_subsets if size < len(pool) else 0):
                kept = generator.permutation(pool)[:size]
                logits[row, draw] = self._fit(training, kept, full).decision_function(test)
        return logits

    def _choose_size(self, training: ClipSet) -> int | None:
        """Run the search and the fits in inner folds; the test clips are not among them."""
        if not self.design.inner_folds:
            return None
        positive = training.labels == self.clf.emotion
        logits = np.empty((len(self.sizes), len(training)))
        for seen, unseen in subject_folds(
            positive, training.subjects, folds=self.design.inner_folds, seed=self.design.seed
        ):
            known, unknown = training[seen], training[unseen]
            full = self._fit(known)
            found = self._search(full, known)
            for row, size in enumerate(self.sizes):
                fitted = self._fit(known, found.kept[size], full)
                logits[row, unseen] = fitted.decision_function(unknown)
        scores = [subject_bootstrap(positive, row > 0, training.subjects) for row in logits]
        return smallest_good_enough(self.sizes, scores)

    def _on_all_clips(self) -> tuple[dict[int, NDArray[np.intp]], pd.DataFrame]:
        """Search on all clips, for use; what the fitted classifiers of every size cost."""
        full = self._fit(self.clips)
        found = self._search(full, self.clips)
        costs = [cost(self._fit(self.clips, found.kept[size], full)) for size in self.sizes]
        return {size: found.kept[size] for size in self.sizes}, pd.DataFrame(costs)

    def _fit(
        self,
        training: ClipSet,
        kept: NDArray[np.intp] | None = None,
        full: EmotionClassifier | None = None,
    ) -> EmotionClassifier:
        """Fit to all landmarks, or to those kept: from ``full`` on, unless the fit is a formula."""
        clf: EmotionClassifier = clone(self.clf)
        if kept is not None:
            clf.set_params(kept=np.sort(kept).tolist())
            if full is not None and not is_randomized(clf.architecture):
                clf = full.keep(kept)
        started = time.perf_counter()
        clf.fit(training)
        self._seconds.append(time.perf_counter() - started)
        if self.progress is not None:
            self.progress(len(self._seconds), self._expected())
        return clf

    def _expected(self) -> int:
        """How many fits there are in all."""
        design, sizes, pool = self.design, len(self.sizes), len(self._allowed())
        random = design.random_subsets * sum(size < pool for size in self.sizes)
        guided = 1 + sum(size < self.clips.X.shape[2] for size in self.sizes)
        inner = design.inner_folds * (1 + sizes)
        in_a_fold: int = guided + random + inner
        return design.repeats * design.folds * in_a_fold + 1 + sizes

    def _search(self, fitted: EmotionClassifier, training: ClipSet) -> LandmarkSearch:
        return search_landmarks(
            fitted.network_,
            training,
            training.labels == self.clf.emotion,
            baselines=fitted.prototypes_.mean(
                0, keepdims=True
            ),  # as good here, and a third the time
            sizes=self.sizes,
            **self.search,
        )

    def _masked(self, full: EmotionClassifier, found: LandmarkSearch, test: ClipSet) -> Floats:
        """Return the full model's logits with other landmarks held at the mean prototype, (S, M)."""
        kept = torch.zeros(len(self.sizes), test.X.shape[2], dtype=torch.bool)
        for row, size in enumerate(self.sizes):
            kept[row, torch.from_numpy(found.kept[size])] = True
        scores = _core.masked_scores(
            load_model(full.network_),
            torch.from_numpy(test.X),
            baseline=torch.from_numpy(full.prototypes_.mean(0)),
            kept=kept,
        )
        return np.asarray(scores.numpy(), np.float64)

    def _allowed(self) -> NDArray[np.intp]:
        excluded = [mesh.region_landmarks(name) for name in self.search["exclude_regions"]]
        return np.setdiff1d(np.arange(self.clips.X.shape[2]), np.concatenate([[], *excluded]))

    def _options(self) -> dict[str, Any]:
        return {
            "sizes": list(self.sizes),
            **self.search,
            **asdict(self.design),
            "clips": len(self.clips),
            "subjects": len(np.unique(self.clips.subjects)),
            "classifier": " ".join(repr(self.clf).split()),
        }


def _fold_rows(
    repeat: int, fold: int, judged: _Fold, positive: NDArray[np.bool_], sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """One row per size: how the fold's own test clips were answered."""
    rows = []
    for row, size in enumerate(sizes):
        scores = {
            name: float(np.mean([_balanced_accuracy(positive, logits) for logits in draws[row]]))
            for name, draws in judged.judged.items()
        }
        rows.append(
            {"repeat": repeat, "fold": fold, "landmarks": size, "chosen": size == judged.chosen}
            | scores
            | {"fit_seconds": judged.fit_seconds[row]}
        )
    return rows


def _balanced_accuracy(positive: NDArray[np.bool_], logits: Floats) -> float:
    answers = Answers(logits.astype(np.float32), expit(logits), logits > 0)
    return evaluate(positive, answers)["balanced_accuracy"]


def _check(sizes: Sequence[int], landmarks: int, design: _Design) -> None:
    if len(sizes) == 0 or any(not 1 <= size <= landmarks for size in sizes):
        raise ValueError(f"sizes: expected values in [1, {landmarks}], got {tuple(sizes)}")
    if any(b >= a for a, b in pairwise(sizes)):
        raise ValueError(f"sizes: expected decreasing values, got {tuple(sizes)}")
    for name, value, least in (
        ("repeats", design.repeats, 1),
        ("random_subsets", design.random_subsets, 0),
    ):
        if value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")
    if design.inner_folds < 0 or design.inner_folds == 1:
        raise ValueError(f"inner_folds: expected 0 or at least 2, got {design.inner_folds}")
