"""Altered copies of training clips, from which a classifier learns what does not matter."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastexai.mesh import LANDMARKS, MIRROR

__all__ = ["Augmentation", "copies_of", "mirrored"]

Clips = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What altered copies of the training clips look like. Only training sees them.

    Parameters
    ----------
    mirror : bool
        The first, third, ... copy shows the mirror image: left and right landmarks change places.
    jitter : float
        Standard deviation of the noise that each coordinate gets, in inter-ocular distances.
    time_warp : float
        How unevenly time may pass, 0 to 1 (exclusive): its speed varies between 1 - ``time_warp``
        and 1 + ``time_warp`` of the true one. First and last frame stay.
    copies : int
        Altered copies of every clip, which join the clip itself.

    Raises
    ------
    ValueError
        If a value is out of range.

    Examples
    --------
    >>> import fastexai as fx
    >>> fx.EmotionClassifier(augmentation=fx.Augmentation(mirror=True, jitter=0.01)).augmentation
    Augmentation(mirror=True, jitter=0.01, time_warp=0.0, copies=1)
    """

    mirror: bool = False
    jitter: float = 0.0
    time_warp: float = 0.0
    copies: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.jitter < np.inf:
            raise ValueError(f"jitter: expected a number from 0, got {self.jitter}")
        if not 0 <= self.time_warp < 1:
            raise ValueError(f"time_warp: expected a number in [0, 1), got {self.time_warp}")
        if self.copies < 1:
            raise ValueError(f"copies: expected at least 1, got {self.copies}")

    def join(self, clips: Clips, *, seed: int) -> Clips:
        """Return the clips, followed by their copies.

        Parameters
        ----------
        clips : ndarray, shape (N, T, L, 3), float32
            Normalised clips.
        seed : int
            Of noise and time.

        Returns
        -------
        ndarray, shape ((1 + copies) * N, T, L, 3), float32
            Clip i and its copies are i, N + i, 2 N + i, ...

        Raises
        ------
        ValueError
            If mirror images are asked for and L is not 468.
        """
        rng = np.random.default_rng(seed)
        return np.concatenate([clips, *(self._copy(clips, k, rng) for k in range(self.copies))])

    def _copy(self, clips: Clips, number: int, rng: np.random.Generator) -> Clips:
        altered = mirrored(clips) if self.mirror and number % 2 == 0 else clips
        if self.time_warp:
            altered = _warped(altered, self.time_warp, rng)
        if self.jitter:
            noise = rng.standard_normal(altered.shape, dtype=np.float32)
            altered = altered + np.float32(self.jitter) * noise
        return altered


def mirrored(clips: Clips) -> Clips:
    """Return the mirror image of clips, (..., 468, 3): x turns round, left and right change places.

    Raises
    ------
    ValueError
        If there are not 468 landmarks.
    """
    if clips.shape[-2] != LANDMARKS:
        raise ValueError(
            f"mirror: expected {LANDMARKS} landmarks per frame, got {clips.shape[-2]}; "
            "who is whose mirror image is known for the full mesh only"
        )
    return clips[..., MIRROR, :] * np.array([-1, 1, 1], np.float32)


def _warped(clips: Clips, strength: float, rng: np.random.Generator) -> Clips:
    """Let time pass unevenly: frame t shows what happened at t + a sin(πt), t from 0 to 1."""
    last = clips.shape[1] - 1
    time = np.linspace(0, 1, last + 1)
    sway = rng.uniform(-strength, strength, (len(clips), 1)) / np.pi
    position = last * (time + sway * np.sin(np.pi * time))
    before = np.clip(position.astype(int), 0, max(last - 1, 0))
    share = (position - before).astype(np.float32)[:, :, None, None]
    clip = np.arange(len(clips))[:, None]
    after = np.minimum(before + 1, last)
    warped: Clips = clips[clip, before] * (1 - share) + clips[clip, after] * share
    return warped


def copies_of(clips: NDArray[np.intp], n: int, rows: int) -> NDArray[np.intp]:
    """Return the rows of some of ``n`` clips and of their copies, among ``rows`` in all."""
    return (n * np.arange(rows // n)[:, None] + clips).ravel()
