"""Do folds and seeds agree: on the landmarks that they keep, and on the ranking."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

__all__ = ["kuncheva_index", "rank_correlation"]


def kuncheva_index(subsets: Sequence[ArrayLike], landmarks: int) -> float:
    """Return how much subsets of one size overlap, corrected for chance.

    Parameters
    ----------
    subsets : sequence of array_like of int, each (k,)
        Landmarks kept by each fold.
    landmarks : int
        How many there were to choose from, L.

    Returns
    -------
    float
        Mean over all pairs: 1 for equal subsets, 0 for random ones, at least -1. NaN where there is
        nothing to compare: a single subset, or k = L.

    References
    ----------
    L. Kuncheva, "A stability index for feature selection", AIA 2007, equation 2.

    Examples
    --------
    >>> kuncheva_index([[1, 2, 3], [3, 2, 1]], 9)
    1.0
    >>> kuncheva_index([[0, 1, 2], [2, 3, 4]], 9)
    0.0
    """
    sets = [set(np.asarray(subset).tolist()) for subset in subsets]
    sizes = {len(chosen) for chosen in sets}
    if len(sizes) > 1:
        raise ValueError(f"subsets: expected one size, got {', '.join(map(str, sorted(sizes)))}")
    k = sizes.pop() if sizes else 0
    if len(sets) < 2 or not 0 < k < landmarks:
        return float("nan")
    by_chance = k * k / landmarks
    overlaps = [len(one & other) for one, other in combinations(sets, 2)]
    return float((np.mean(overlaps) - by_chance) / (k - by_chance))


def rank_correlation(relevance: NDArray[np.float64]) -> float:
    """Return the mean of Spearman's correlation over all pairs of rows; NaN for a single row.

    Parameters
    ----------
    relevance : ndarray, shape (F, L)
        The relevance that each fold found.
    """
    pairs = list(combinations(np.asarray(relevance), 2))
    if not pairs:
        return float("nan")
    return float(np.mean([spearmanr(one, other).statistic for one, other in pairs]))
