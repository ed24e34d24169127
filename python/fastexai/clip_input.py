"""Clips and labels as users hand them over, checked."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fastexai.landmarks import ClipSet

__all__ = ["check_clips", "clips_and_labels", "neutral_clips"]

_FEW = 5  # neutral clips: too few to stand for a face at rest


def check_clips(X: ArrayLike) -> NDArray[np.float32]:
    """Return clips as float32, (N, T, L, 3); refuse other shapes, NaN and infinity."""
    clips = np.ascontiguousarray(X, dtype=np.float32)
    if clips.ndim != 4 or clips.shape[-1] != 3 or len(clips) == 0:
        raise ValueError(f"X: expected (N, T, L, 3) with N >= 1, got {clips.shape}")
    flat = torch.from_numpy(clips).flatten()
    if not flat.dot(flat).isfinite():  # one pass without a copy tells, unless the numbers are huge
        finite = np.isfinite(clips).all(axis=(1, 2, 3))
        if not finite.all():
            raise ValueError(
                f"X: expected finite values, got NaN or Inf in clip {np.argmin(finite)}"
            )
    return clips


def clips_and_labels(
    X: ArrayLike | ClipSet, y: ArrayLike | None, groups: ArrayLike | None, emotion: str
) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[Any] | None]:
    """Return clips, one label for each, and their subjects where these are known.

    Of a `ClipSet`, the label is whether it shows ``emotion``.

    Raises
    ------
    ValueError
        If a shape is wrong, a clip is not finite, labels are missing, or labels or subjects stand
        beside a `ClipSet`.
    """
    if isinstance(X, ClipSet):
        if y is not None or groups is not None:
            raise ValueError("y, groups: expected none beside a ClipSet, which has its own")
        return clips_and_labels(X.X, X.labels == emotion, X.subjects, emotion)
    clips = check_clips(X)
    if y is None:
        raise ValueError("y: expected one label per clip, got none")
    labels = np.asarray(y)
    if labels.shape != clips.shape[:1]:
        raise ValueError(f"y: expected {clips.shape[:1]}, got {labels.shape}")
    people = None if groups is None else np.asarray(groups)
    if people is not None and people.shape != labels.shape:
        raise ValueError(f"groups: expected {labels.shape}, got {people.shape}")
    return clips, labels, people


def neutral_clips(clips: ArrayLike | ClipSet, positive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say which clips show a face at rest, shape (N,): those labelled neutral, where five are.

    All False where nobody knows, or where too few do. Clips that show the emotion are not among them.
    """
    if not isinstance(clips, ClipSet):
        return np.zeros_like(positive)
    neutral: NDArray[np.bool_] = (clips.labels == "neutral") & ~positive
    return neutral if neutral.sum() >= _FEW else np.zeros_like(positive)
