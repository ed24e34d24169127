"""What pruning returns: nested landmark subsets, a score for each, and what stands beside it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fastexai.aside import written_aside
from fastexai.metrics import Interval

__all__ = ["PruningPath", "smallest_good_enough"]

_FORMAT = 1
_PRINTED = {  # the paper's table: heading, columns, and how they are written
    "landmarks": ("landmarks", "{:.0f}"),
    "accuracy": ("accuracy", "{:.3f}"),
    "balanced accuracy": ("balanced_accuracy", "{:.3f}"),
    "ROC-AUC": ("roc_auc", "{:.3f}"),
    "random control": ("random_balanced_accuracy", "{:.3f}"),
    "gain over random": ("gain_over_random", "{:+.3f}"),
    "logistic regression": ("anchor_balanced_accuracy", "{:.3f}"),
    "fit, s": ("fit_seconds", "{:.2f}"),
    "inference, ms per clip": ("inference_ms", "{:.3f}"),
    "parameters": ("parameters", "{:,.0f}"),
    "multiply-adds": ("multiply_adds", "{:,.0f}"),
    "file, kB": ("file_kb", "{:,.0f}"),
}


@dataclass(frozen=True, slots=True, eq=False)
class PruningPath:
    """Nested landmark subsets, from all to few, with a score for each.

    Every score is of people whom neither the choice of landmarks nor the fit has seen: all answers
    of the outer test folds together. Intervals (``_low``, ``_high``) are 95 % bootstrap intervals
    over subjects.

    Attributes
    ----------
    emotion : str
        What the classifiers recognise.
    table : DataFrame
        One row per size, from many to few:

        - landmarks; accuracy, balanced_accuracy (and interval), roc_auc (and interval) of
          classifiers fitted again to the landmarks that the search keeps; majority_rate.
        - random_balanced_accuracy (and interval): the mean of as many random subsets.
        - gain_over_random (and interval): the paired difference of the two.
        - anchor_balanced_accuracy: logistic regression with recursive elimination.
        - masked_balanced_accuracy: the full model with the other landmarks held at their baseline.
        - fit_seconds; inference_ms, per clip in a batch; single_clip_ms; parameters;
          multiply_adds, per clip; file_kb: of a classifier fitted to all clips.
        - kuncheva_index: agreement of the folds on the landmarks to keep.
    folds : DataFrame
        One row per repeat, fold and size: balanced accuracies of the test clips, and ``chosen``:
        whether the inner folds chose this size.
    answers : DataFrame
        One row per clip: positive, subject, and for each size (named by it) the logit of the
        classifier whose fold tested the clip, in the first repeat.
    kept : dict of int to ndarray
        The landmarks of each size, chosen on all clips; most relevant first.
    best : int
        The smallest size within one standard error of the best balanced accuracy.
    nested : Interval
        Balanced accuracy of the whole procedure, the choice of the size included: every test fold
        is judged at the size that the inner folds of its training clips chose.
    rank_correlation : float
        Spearman's correlation between the folds' rankings of all landmarks, mean over pairs.
    options : dict
        What `prune` was asked for.
    """

    emotion: str
    table: pd.DataFrame
    folds: pd.DataFrame
    answers: pd.DataFrame
    kept: dict[int, NDArray[np.intp]]
    best: int
    nested: Interval
    rank_correlation: float
    options: dict[str, Any]

    def __repr__(self) -> str:
        sizes = ", ".join(map(str, self.kept))
        return f"PruningPath({self.emotion!r}: sizes {sizes}; best {self.best})"

    @property
    def highest(self) -> int:
        """The size with the highest balanced accuracy; the smaller one of two."""
        scores = self.table.set_index("landmarks")["balanced_accuracy"]
        return int(scores.index[scores == scores.max()].min())

    def printed(self) -> pd.DataFrame:
        """Return the table as the paper prints it: text, with intervals in brackets."""
        columns = {
            heading: [_cell(row, column, form) for _, row in self.table.iterrows()]
            for heading, (column, form) in _PRINTED.items()
            if column in self.table and self.table[column].notna().any()
        }
        return pd.DataFrame(columns)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that appears whole or not at all; its suffix says what.

        Parameters
        ----------
        path : path-like
            ``.json`` holds everything (`load` reads it); ``.csv`` holds ``table``; ``.md`` and
            ``.tex`` hold the table as the paper prints it.

        Raises
        ------
        ValueError
            If the suffix is another one.
        """
        path = Path(path)
        writers: dict[str, Callable[[], str]] = {
            ".json": self._json,
            ".csv": lambda: self.table.to_csv(index=False),
            ".md": lambda: self.printed().to_markdown(index=False) + "\n",
            ".tex": lambda: self.printed().to_latex(index=False, escape=True),
        }
        if path.suffix not in writers:
            raise ValueError(f"path: expected {', '.join(writers)}, got {path}")
        with written_aside(path) as aside:
            aside.write_text(writers[path.suffix](), encoding="utf-8")

    def _json(self) -> str:
        return json.dumps(
            {
                "fastexai_pruning_path": _FORMAT,
                "emotion": self.emotion,
                "best": self.best,
                "nested": self.nested,
                "rank_correlation": self.rank_correlation,
                "options": self.options,
                "kept": {size: landmarks.tolist() for size, landmarks in self.kept.items()},
                "table": self.table.to_dict("list"),
                "folds": self.folds.to_dict("list"),
                "answers": self.answers.to_dict("list"),
            },
            indent=1,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read the ``.json`` that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no pruning path, or of another format.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"path: expected a pruning path, got {path}, which is missing")
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            found = stored["fastexai_pruning_path"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"path: expected a .json file that save() wrote, got {path}") from None
        if found != _FORMAT:
            raise ValueError(f"path: expected format {_FORMAT}, got {found} in {path}")
        return cls(
            emotion=stored["emotion"],
            table=pd.DataFrame(stored["table"]),
            folds=pd.DataFrame(stored["folds"]),
            answers=pd.DataFrame(stored["answers"]),
            kept={int(k): np.array(v, dtype=np.intp) for k, v in stored["kept"].items()},
            best=stored["best"],
            nested=Interval(*stored["nested"]),
            rank_correlation=stored["rank_correlation"],
            options=stored["options"],
        )


def smallest_good_enough(sizes: Sequence[int], scores: Sequence[Interval]) -> int:
    """Return the smallest size within one standard error of the best score.

    The standard error is a quarter of the best one's 95 % interval, its width under a normal
    distribution (3.92 standard errors).

    References
    ----------
    L. Breiman et al., Classification and Regression Trees, 1984, section 3.4.3 (the 1 SE rule).
    """
    best = max(scores, key=lambda score: score.value)
    error = np.nan_to_num((best.high - best.low) / 3.92)
    good = [s for s, score in zip(sizes, scores, strict=True) if score.value >= best.value - error]
    return min(good)


def _cell(row: pd.Series, column: str, form: str) -> str:
    if not np.isfinite(row[column]):
        return ""
    text = form.format(row[column])
    if f"{column}_low" in row:
        text += f" [{form.format(row[f'{column}_low'])}, {form.format(row[f'{column}_high'])}]"
    return text
