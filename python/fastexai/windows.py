"""Slide a clip classifier over a long video: one answer per window, then one per frame."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fastexai.attribution import IntegratedGradients, integrated_gradients
from fastexai.export import read_model
from fastexai.landmarks import ClipSet
from fastexai.video import LandmarkClip

__all__ = ["WindowSeries", "slide", "window_rows"]

_BATCH_WINDOWS = 16


@dataclass(frozen=True, slots=True, eq=False)  # eq: arrays have no single truth value
class WindowSeries:
    """What a model says about every window of one video.

    Attributes
    ----------
    emotion : str
        What the model recognises.
    start, stop : ndarray, shape (W,), float64
        The windows, in seconds.
    logit : ndarray, shape (W,), float64
        The model's output; above 0 it sees the emotion.
    relevance : ndarray, shape (W, L), float64, optional
        Of every landmark in every window, as `DatasetExplanation.relevance` of that window alone.
        None where it was not asked for.
    """

    emotion: str
    start: NDArray[np.float64]
    stop: NDArray[np.float64]
    logit: NDArray[np.float64]
    relevance: NDArray[np.float64] | None

    def probability_at(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the emotion's probability at some instants, NaN where no window reaches.

        Between the middles of windows it is interpolated.
        """
        probability = 1 / (1 + np.exp(-np.clip(self.logit, -60, 60)))
        covered = ((self.start <= seconds[:, None]) & (seconds[:, None] <= self.stop)).any(1)
        at = np.interp(seconds, (self.start + self.stop) / 2, probability)
        return np.where(covered, at, np.nan)

    def relevance_at(self, seconds: float) -> NDArray[np.float64]:
        """Return the relevance of every landmark at one instant, shape (L,), interpolated."""
        if self.relevance is None:
            raise ValueError("relevance: expected windows slid with n_steps, got none")
        middle = (self.start + self.stop) / 2
        right = min(int(np.searchsorted(middle, seconds)), len(middle) - 1)
        left = max(right - 1, 0)
        span = middle[right] - middle[left]
        part = np.clip((seconds - middle[left]) / span, 0, 1) if span > 0 else 1.0
        return np.asarray((1 - part) * self.relevance[left] + part * self.relevance[right])


def window_rows(
    clip: LandmarkClip, *, seconds: float = 2.0, stride: float = 0.5
) -> list[tuple[int, int]]:
    """Cut a clip into overlapping windows: half-open ranges of its frames.

    A clip that is no longer than a window is one window. The last window ends with the clip.
    Windows with a face in less than half of their frames are left out, unless no other is there.

    Parameters
    ----------
    clip : LandmarkClip
        With a face in some frame.
    seconds : float
        Length of a window.
    stride : float
        Seconds from one window's start to the next one's.

    Raises
    ------
    ValueError
        If ``seconds`` or ``stride`` is not positive, or no frame has a face.
    """
    for name, value in (("seconds", seconds), ("stride", stride)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}: expected a positive number, got {value}")
    found = np.asarray(np.isfinite(clip.landmarks).all(axis=(1, 2)))
    if not found.any():
        raise ValueError("clip: expected a face in some frame, got none")
    times = clip.timestamps
    last = max(times[-1] - seconds, times[0])
    starts = np.append(np.arange(times[0], last, stride), last)
    ends = starts + seconds + 1e-9  # a frame on the edge belongs to the window, rounded or not
    rows = np.stack([np.searchsorted(times, starts), np.searchsorted(times, ends, "right")])
    ranges = [(int(a), int(b)) for a, b in np.unique(rows.T, axis=0) if found[a:b].any()]
    enough = [(a, b) for a, b in ranges if found[a:b].mean() >= 0.5]
    return enough or ranges


def slide(
    model: str | os.PathLike[str],
    clip: LandmarkClip,
    *,
    seconds: float = 2.0,
    stride: float = 0.5,
    n_steps: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> WindowSeries:
    """Ask an exported model about every window of a video.

    Each window is brought to the model's number of frames, as training clips were. A model that
    learned from clips of another length sees the expression at another speed than it is used to.

    Parameters
    ----------
    model : path-like
        A file written by ``EmotionClassifier.export``.
    clip : LandmarkClip
        Raw landmarks, in pixels.
    seconds, stride : float
        See `window_rows`.
    n_steps : int, optional
        With it, every window is also attributed from the file's baselines, so many nodes a path.
    progress : callable, optional
        Called with (windows done, windows in all).

    Raises
    ------
    FileNotFoundError
        If there is no such model file.
    ValueError
        If it is no such model, takes other landmarks than the clip has, or `window_rows` objects.
    """
    metadata, baselines, _ = read_model(model)
    if metadata.landmarks != clip.landmarks.shape[1]:
        raise ValueError(
            f"model: expected one of {clip.landmarks.shape[1]} landmarks, got {metadata.landmarks}"
        )
    rows = window_rows(clip, seconds=seconds, stride=stride)
    ig = IntegratedGradients(model)
    logits, relevances = [], []
    for first in range(0, len(rows), _BATCH_WINDOWS):
        batch = rows[first : first + _BATCH_WINDOWS]
        windows = ClipSet.from_clips(
            (_cut(clip, a, b) for a, b in batch),
            frames=metadata.frames,
            normalization=metadata.normalization,
        ).X
        logits.append(ig.model.value(torch.from_numpy(windows)).numpy())
        if n_steps is not None:
            relevances.append(_relevance(ig, windows, baselines, n_steps))
        if progress is not None:
            progress(first + len(batch), len(rows))
    starts, stops = np.array(rows).T
    return WindowSeries(
        emotion=metadata.emotion,
        start=clip.timestamps[starts],
        stop=clip.timestamps[stops - 1],
        logit=np.concatenate(logits).astype(np.float64),
        relevance=np.concatenate(relevances).astype(np.float64) if relevances else None,
    )


def _cut(clip: LandmarkClip, first: int, stop: int) -> LandmarkClip:
    """Return some frames of a clip."""
    frames = slice(first, stop)
    return LandmarkClip(
        clip.landmarks[frames], clip.timestamps[frames], clip.fps, clip.image_size, clip.source
    )


def _relevance(
    ig: IntegratedGradients,
    windows: NDArray[np.float32],
    baselines: NDArray[np.float32],
    n_steps: int,
) -> NDArray[np.float32]:
    """Attributions of (W, T, L, 3), averaged over baselines, as one relevance each, (W, L)."""
    attribution = integrated_gradients(
        ig,
        torch.from_numpy(windows),
        torch.from_numpy(baselines),
        baseline_mode="mean",
        n_steps=n_steps,
    )
    mean = attribution.values.numpy()
    return np.asarray(np.abs(mean.sum(axis=1)).sum(axis=-1))
