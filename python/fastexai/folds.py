"""Folds that never share a subject."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

__all__ = ["check_split", "subject_folds"]

Split = tuple[NDArray[np.intp], NDArray[np.intp]]


def subject_folds(
    positive: NDArray[np.bool_],
    groups: NDArray[Any] | None,
    *,
    folds: int,
    seed: int,
) -> list[Split]:
    """Split clips into stratified (training, test) folds that share no subject.

    Without ``groups`` every clip counts as a person of its own. All clips of one name, "unknown"
    included, stay in one fold.

    Raises
    ------
    ValueError
        If there are fewer than two folds, fewer subjects or fewer clips of one class than folds, or
        clips whose subject has no name: nobody knows whom they must not be parted from.

    Examples
    --------
    >>> import numpy as np
    >>> positive = np.array([True, False] * 4)
    >>> subjects = np.array(["ann", "ann", "bob", "bob", "cid", "cid", "dee", "dee"])
    >>> for training, test in subject_folds(positive, subjects, folds=2, seed=0):
    ...     assert not set(subjects[training]) & set(subjects[test])
    """
    if folds < 2:
        raise ValueError(f"folds: expected at least 2, got {folds}")
    if groups is not None:
        nameless = np.flatnonzero(pd.isna(groups) | (groups == ""))
        if nameless.size:
            raise ValueError(
                f"groups: expected a subject for every clip, got none for {nameless[0]}"
            )
    rarer = int(min(positive.sum(), (~positive).sum()))
    subjects = len(positive) if groups is None else len(np.unique(groups))
    for name, count in (("clips of the rarer class", rarer), ("subjects", subjects)):
        if count < folds:
            raise ValueError(f"folds: expected at most the number of {name}, {count}, got {folds}")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(positive)), positive, groups))


def check_split(
    split: Split,
    positive: NDArray[np.bool_],
    subjects: NDArray[Any],
    *,
    allow_shared_subjects: bool,
) -> None:
    """Refuse a (training, test) pair that leaks, or that nothing can be learnt or judged with.

    Raises
    ------
    ValueError
        If an index is out of range, either side is empty, training lacks a class, or the two sides
        share a clip, or a subject unless that is allowed.
    """
    for name, part in zip(("training", "test"), split, strict=True):
        if part.ndim != 1 or part.dtype.kind not in "iu" or part.size == 0:
            raise ValueError(
                f"splits: expected indices of {name} clips, got {part.dtype} {part.shape}"
            )
        if part.min() < 0 or part.max() >= len(positive):
            raise ValueError(f"splits: expected indices in [0, {len(positive)}), got others")
    training, test = split
    if np.intersect1d(training, test).size:
        raise ValueError("splits: expected training without test clips, got clips on both sides")
    if len(np.unique(positive[training])) < 2:
        raise ValueError(
            "splits: expected both classes in every training fold, got one without: the clips of one "
            "class are from too few subjects"
        )
    shared = np.intersect1d(subjects[training], subjects[test])
    if shared.size and not allow_shared_subjects:
        raise ValueError(
            f"splits: expected no subject on both sides, got {shared[0]!s} and {shared.size - 1} "
            "others; allow_shared_subjects=True judges such folds, on people that training has seen"
        )
