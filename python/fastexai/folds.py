"""Folds that never share a subject."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

__all__ = ["subject_folds"]


def subject_folds(
    positive: NDArray[np.bool_],
    groups: NDArray[Any] | None,
    *,
    folds: int,
    seed: int,
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Split clips into stratified (training, test) folds that share no subject.

    Without ``groups`` every clip counts as a person of its own.

    Raises
    ------
    ValueError
        If there are fewer subjects, or fewer clips of one class, than folds.
    """
    rarer = int(min(positive.sum(), (~positive).sum()))
    subjects = len(positive) if groups is None else len(np.unique(groups))
    for name, count in (("clips of the rarer class", rarer), ("subjects", subjects)):
        if count < folds:
            raise ValueError(f"folds: expected at most the number of {name}, {count}, got {folds}")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(positive)), positive, groups))
