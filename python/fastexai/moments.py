"""Sums over clips from which means, spreads and errors follow, and which add up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fastexai import mesh

__all__ = ["REPLICATES", "Level", "Moments", "row_names"]

REPLICATES = 200  # of the bootstrap

Level = Literal["landmark", "frame", "coordinate", "region"]
Floats = NDArray[np.float64]

_REGIONS = [mesh.region(i) for i in range(mesh.LANDMARKS)]


@dataclass(frozen=True, slots=True, eq=False)  # eq: arrays have no single truth value
class Moments:
    """Sums over a group of clips; those of disjoint groups add up to those of their union.

    Attributes
    ----------
    count : int
        Clips in the group.
    face : ndarray, shape (T, L, 3), float64
        Sum of their landmarks.
    sums : dict of str to ndarray, shape (3, ...), float64
        At each level ("cell", which is (T, L, 3), or one of `Level`) a clip has the sum of its
        attributions there: these sums, their squares and their absolute values, summed over clips.
    weights : ndarray, shape (REPLICATES,), float64
        How often clips were drawn for each replicate of the bootstrap. Every clip draws its own
        number of times from the Poisson distribution of mean 1 (Hanley & MacGibbon, 2006), so that
        no clip need be kept; what it draws depends on its landmarks alone.
    drawn : ndarray, shape (REPLICATES, L, 3), float64
        Attributions summed over time and over the clips drawn.
    """

    count: int
    face: Floats
    sums: Mapping[str, Floats]
    weights: Floats
    drawn: Floats

    @classmethod
    def of(cls, clips: NDArray[np.float32], attributions: Floats) -> Self:
        """Sum over clips, (N, T, L, 3), and their attributions, of the same shape."""
        levels = _levels(attributions)
        sums = {
            name: np.stack([v.sum(0), np.square(v).sum(0), np.abs(v).sum(0)])
            for name, v in levels.items()
        }
        draws = np.array([_draws(clip) for clip in clips], dtype=np.float64)
        draws = draws.reshape(len(clips), REPLICATES)
        drawn = np.tensordot(draws, attributions.sum(1), axes=(0, 0))
        return cls(len(clips), clips.sum(0, dtype=np.float64), sums, draws.sum(0), drawn)

    def __add__(self, other: Moments) -> Moments:
        sums = {name: self.sums[name] + other.sums[name] for name in self.sums}
        return Moments(
            self.count + other.count,
            self.face + other.face,
            sums,
            self.weights + other.weights,
            self.drawn + other.drawn,
        )

    def mean(self, level: str) -> Floats:
        """Return the mean over clips."""
        return np.asarray(self.sums[level][0] / self.count)

    def mean_abs(self, level: str) -> Floats:
        """Return the mean over clips of the absolute value."""
        return np.asarray(self.sums[level][2] / self.count)

    def std(self, level: str) -> Floats:
        """Return the sample standard deviation over clips; NaN of a single clip."""
        total, squares, _ = self.sums[level]
        if self.count < 2:
            return np.full(total.shape, np.nan)
        # Rounding alone can make equal values differ by less than nothing.
        scatter = np.maximum(squares - np.square(total) / self.count, 0)
        return np.asarray(np.sqrt(scatter / (self.count - 1)))

    def standard_error(self, level: str) -> Floats:
        """Return the standard error of `mean`; NaN of a single clip."""
        return np.asarray(self.std(level) / np.sqrt(self.count))


def _draws(clip: NDArray[np.float32]) -> NDArray[np.int64]:
    """How often each replicate draws a clip; the same in every data set that holds it."""
    digest = hashlib.blake2b(np.ascontiguousarray(clip).tobytes(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "little"))
    return generator.poisson(1, REPLICATES)


def row_names(by: Level, frames: int, landmarks: int) -> pd.DataFrame:
    """Start a table: what each of its rows is about."""
    if by == "frame":
        return pd.DataFrame({"frame": np.arange(frames)})
    if by == "coordinate":
        return pd.DataFrame({"coordinate": ["x", "y", "z"]})
    if by == "region":
        sizes = [_REGIONS.count(region) for region in mesh.REGIONS]
        return pd.DataFrame({"region": mesh.REGIONS, "landmarks": sizes})
    known = landmarks == mesh.LANDMARKS  # landmarks of another mesh have no names
    names = [mesh.name(i) if known else "" for i in range(landmarks)]
    regions = _REGIONS if known else [""] * landmarks
    return pd.DataFrame({"landmark": np.arange(landmarks), "name": names, "region": regions})


def _levels(attributions: Floats) -> dict[str, Floats]:
    """Sum attributions (N, T, L, 3) over everything that each level is not about."""
    by_landmark = attributions.sum(1)
    landmark = by_landmark.sum(2)
    levels = {
        "cell": attributions,
        "landmark": landmark,
        "frame": attributions.sum((2, 3)),
        "coordinate": by_landmark.sum(1),
    }
    if landmark.shape[1] == mesh.LANDMARKS:
        member = np.array(_REGIONS)[:, None] == np.array(mesh.REGIONS)
        levels["region"] = landmark @ member.astype(np.float64)
    return levels
