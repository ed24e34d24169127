"""What is known about one emotion, and the figures that the page states in words."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fastexai import mesh
from fastexai.explanation import DatasetExplanation
from fastexai.metrics import Interval
from fastexai.pruning import PruningPath

__all__ = ["IN_UNIT", "REGION_OF", "Finding", "Score", "pair", "region_sums", "share"]

#: (468,), index into ``mesh.REGIONS`` of every landmark.
REGION_OF = np.array([mesh.REGIONS.index(mesh.region(i)) for i in range(mesh.LANDMARKS)])

#: (468, U) of bool: whether an action unit, in the order of ``mesh.ACTION_UNITS``, moves a landmark.
IN_UNIT = np.array(
    [[unit in mesh.action_units(i) for unit in mesh.ACTION_UNITS] for i in range(mesh.LANDMARKS)]
)

_R = TypeVar("_R", DatasetExplanation, PruningPath)
_PLURALS = {"brow": "brows", "eye": "eyes", "temple": "temples", "cheek": "cheeks"}
_NONE = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True, slots=True)
class Score:
    """One row of a pruning path: balanced accuracies of one size."""

    landmarks: int
    chosen: Interval
    random: Interval  #: the control; NaN where none was drawn
    gain: Interval  #: chosen minus random, paired
    anchor: float  #: logistic regression; NaN where it was not run
    masked: float  #: of the full model, without fitting again


@dataclass(frozen=True, slots=True)
class Finding:
    """The explanation and the pruning path of one emotion; at least one of the two."""

    emotion: str
    explanation: DatasetExplanation | None
    path: PruningPath | None

    @property
    def name(self) -> str:
        """The emotion as a heading; not escaped."""
        return self.emotion[:1].upper() + self.emotion[1:] if self.emotion.strip() else "(no name)"

    @property
    def scores(self) -> list[Score]:
        """One row per size, from all landmarks to few; empty without a pruning path."""
        if self.path is None:
            return []
        table = self.path.table.sort_values("landmarks", ascending=False)
        return [
            Score(
                landmarks=int(row["landmarks"]),
                chosen=_interval(row, "balanced_accuracy"),
                random=_interval(row, "random_balanced_accuracy"),
                gain=_interval(row, "gain_over_random"),
                anchor=float(row.get("anchor_balanced_accuracy", np.nan)),
                masked=float(row["masked_balanced_accuracy"]),
            )
            for _, row in table.iterrows()
        ]

    @property
    def best(self) -> Score | None:
        """The row of the smallest size that is good enough (`PruningPath.best`)."""
        best = None if self.path is None else self.path.best
        return next((score for score in self.scores if score.landmarks == best), None)

    @property
    def kept(self) -> NDArray[np.intp] | None:
        """The landmarks of the best size, most relevant first."""
        return None if self.path is None else self.path.kept[self.path.best]

    def answers(self) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return the truth and the logits of all clips at the best size, each (N,)."""
        assert self.path is not None
        table = self.path.answers
        return table["positive"].to_numpy(bool), table[str(self.path.best)].to_numpy(float)

    def part_shares(self) -> list[tuple[str, float]]:
        """Parts of the face, both sides together, by their share of relevance; largest first."""
        if self.explanation is None:
            return []
        shares = region_sums(share(self.explanation.relevance))
        parts = pd.Series(shares, index=[_part(region) for region in mesh.REGIONS])
        summed = parts.groupby(level=0).sum().sort_values(ascending=False, kind="stable")
        return [(str(part), float(value)) for part, value in summed.items()]


def _interval(row: pd.Series, name: str) -> Interval:
    """Return a figure of `PruningPath.table` and its interval; NaN where it was not made."""
    if name not in row:
        return _NONE
    return Interval(float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"]))


def share(relevance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide by the sum; all zeros stay zeros."""
    total = relevance.sum()
    return relevance / total if total > 0 else np.zeros_like(relevance)


def region_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum (..., 468) over the landmarks of every region: (..., R)."""
    member = REGION_OF[:, None] == np.arange(len(mesh.REGIONS))
    return np.asarray(values @ member.astype(np.float64))


def _part(region: str) -> str:
    part = region.removeprefix("right ").removeprefix("left ")
    return _PLURALS.get(part, part)


def pair(results: Iterable[DatasetExplanation | PruningPath]) -> list[Finding]:
    """Check every result and pair explanations with pruning paths by emotion, in order.

    Raises
    ------
    TypeError
        If ``results`` is not an iterable of explanations and pruning paths.
    ValueError
        If there is no explanation, two results of one kind share an emotion, an explanation is
        not of 468 landmarks or not finite, or a pruning path lacks its best size.
    """
    if isinstance(results, str | bytes | Mapping) or not isinstance(results, Iterable):
        raise TypeError(
            "results: expected an iterable of DatasetExplanation and PruningPath, "
            f"got {type(results).__name__}"
        )
    explanations: dict[str, DatasetExplanation] = {}
    paths: dict[str, PruningPath] = {}
    order: dict[str, None] = {}  # a set that remembers who came first
    for result in results:
        if isinstance(result, DatasetExplanation):
            _check_explanation(result)
            _add(explanations, result)
        elif isinstance(result, PruningPath):
            _check_path(result)
            _add(paths, result)
        else:
            raise TypeError(
                f"results: expected DatasetExplanation or PruningPath, got {type(result).__name__}"
            )
        order[result.emotion] = None
    if not explanations:
        raise ValueError("results: expected at least one DatasetExplanation, got none")
    return [Finding(e, explanations.get(e), paths.get(e)) for e in order]


def _add(known: dict[str, _R], result: _R) -> None:
    if result.emotion in known:
        kind = type(result).__name__
        raise ValueError(f"results: expected one {kind} per emotion, got two of {result.emotion!r}")
    known[result.emotion] = result


def _check_explanation(explanation: DatasetExplanation) -> None:
    shape = explanation.mean.shape
    if len(shape) != 3 or shape[0] < 1 or shape[1:] != (mesh.LANDMARKS, 3):
        raise ValueError(f"results: expected explanations of (T, 468, 3), got {shape}")
    if len(explanation.output) == 0:
        raise ValueError(f"results: expected clips, got none behind {explanation.emotion!r}")
    for name in ("contrast", "mean_abs", "expression", "output", "completeness_error"):
        if not np.isfinite(getattr(explanation, name)).all():
            raise ValueError(
                f"results: expected finite values, got NaN or Inf in {name} of "
                f"{explanation.emotion!r}"
            )


def _check_path(path: PruningPath) -> None:
    if path.best not in path.kept or path.best not in set(path.table["landmarks"]):
        sizes = ", ".join(map(str, path.kept))
        raise ValueError(f"results: expected best among the sizes {sizes}, got {path.best}")
    if str(path.best) not in path.answers:
        raise ValueError(f"results: expected answers of {path.emotion!r} at size {path.best}")
    kept = np.asarray(path.kept[path.best])
    if not np.isin(kept, np.arange(mesh.LANDMARKS)).all():
        raise ValueError(f"results: expected kept landmarks in [0, 468) of {path.emotion!r}")
