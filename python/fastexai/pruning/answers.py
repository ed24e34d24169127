"""What the test folds answer, gathered over folds and repeats and turned into a table."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fastexai.metrics import Interval, paired_difference, subject_bootstrap

__all__ = ["OutOfFold"]

Floats = NDArray[np.float64]


class OutOfFold:
    """The logits of every clip, from models that have not seen its subject.

    Parameters
    ----------
    positive : ndarray of bool, shape (N,)
        Who shows the emotion.
    subjects : ndarray, shape (N,)
        Whose clip it is.
    sizes : sequence of int
        Landmarks, S of them.
    repeats : int
        How often the clips are divided anew.
    """

    def __init__(
        self,
        positive: NDArray[np.bool_],
        subjects: NDArray[np.str_],
        sizes: Sequence[int],
        repeats: int,
    ) -> None:
        self.positive, self.subjects, self.sizes = positive, subjects, tuple(sizes)
        self._repeats = repeats
        self._logits: dict[str, Floats] = {}  # by choice, (S, repeats, draws, N)
        self._nested = np.full((repeats, len(positive)), np.nan)

    def add(
        self, repeat: int, test: NDArray[np.intp], judged: dict[str, Floats], chosen: int | None
    ) -> None:
        """Take one fold's answers.

        Parameters
        ----------
        repeat : int
            Which division of the clips.
        test : ndarray of int, shape (M,)
            The fold's test clips.
        judged : dict of str to ndarray, shape (S, draws, M)
            Logits by who chose the landmarks: guided, random, masked or anchor.
        chosen : int, optional
            The size that the training clips chose.
        """
        for choice, logits in judged.items():
            shape = (len(self.sizes), self._repeats, logits.shape[1], len(self.positive))
            kept = self._logits.setdefault(choice, np.full(shape, np.nan))
            kept[:, repeat, :, test] = np.moveaxis(logits, -1, 0)
        if chosen is not None:
            self._nested[repeat, test] = judged["guided"][self.sizes.index(chosen), 0]

    def score(self, choice: str, row: int, metric: str = "balanced_accuracy") -> Interval:
        """Return a metric of the row-th size, averaged over repeats and draws."""
        logits = self._of(choice, row)
        said = logits if metric == "roc_auc" else logits > 0
        return subject_bootstrap(self.positive, said, self.subjects, metric=metric)

    def nested(self) -> Interval:
        """Return the balanced accuracy where each fold is judged at its own chosen size."""
        if np.isnan(self._nested).any():
            return Interval(np.nan, np.nan, np.nan)
        return subject_bootstrap(self.positive, self._nested > 0, self.subjects)

    def table(self) -> pd.DataFrame:
        """Return one row per size; see `PruningPath`."""
        return pd.DataFrame([self._row(row) for row in range(len(self.sizes))])

    def frame(self) -> pd.DataFrame:
        """Return one row per clip: positive, subject, and the guided logit of every size."""
        logits = {str(s): self._of("guided", row)[0] for row, s in enumerate(self.sizes)}
        return pd.DataFrame({"positive": self.positive, "subject": self.subjects} | logits)

    def _of(self, choice: str, row: int) -> Floats:
        logits: Floats = self._logits[choice][row]
        return logits.reshape(-1, len(self.positive))

    def _row(self, row: int) -> dict[str, float]:
        share = float(self.positive.mean())
        said = self._of("guided", row) > 0
        figures: dict[str, float] = {
            "landmarks": self.sizes[row],
            "accuracy": float((said == self.positive).mean()),
            "majority_rate": max(share, 1 - share),
            **_columns("balanced_accuracy", self.score("guided", row)),
            **_columns("roc_auc", self.score("guided", row, "roc_auc")),
            "masked_balanced_accuracy": self.score("masked", row).value,
        }
        if "anchor" in self._logits:
            figures["anchor_balanced_accuracy"] = self.score("anchor", row).value
        if "random" in self._logits:
            random = self._of("random", row) > 0
            gain = paired_difference(self.positive, said, random, self.subjects)
            figures |= _columns("random_balanced_accuracy", self.score("random", row))
            figures |= _columns("gain_over_random", gain)
        return figures


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
