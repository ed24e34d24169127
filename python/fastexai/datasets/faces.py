"""Faces that differ, and landmarks that tremble: smooth random fields on the canonical face."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from fastexai.mesh import CANONICAL_FACE, LANDMARKS, MIRROR, region_landmarks

Array = NDArray[np.float32]

# Regions whose size and place differ between people beyond what the smooth modes give.
_SCALED_REGIONS = ("nose", "lips", "right eye", "left eye", "chin")


@cache
def smooth_modes(length_cm: float, count: int) -> Array:
    """Return the leading modes, (count, 468), of a smooth random field on the face.

    Standard normal weights give a field with a mean variance of 1 and a Gaussian correlation
    of ``length_cm`` (Karhunen-Loève expansion).
    """
    face = CANONICAL_FACE.astype(np.float64)
    square = ((face[:, None] - face[None]) ** 2).sum(axis=-1)
    values, vectors = np.linalg.eigh(np.exp(-square / (2 * length_cm**2)))
    modes = (vectors[:, -count:] * np.sqrt(values[-count:])).T
    modes = modes * np.sqrt(LANDMARKS / (modes**2).sum())
    # The sign of an eigenvector is arbitrary: fix it, so that a seed means the same everywhere.
    signs = np.sign(modes[np.arange(count), np.abs(modes).argmax(axis=1)])
    return np.asarray(modes * signs[:, None], np.float32)


def draw_faces(rng: np.random.Generator, count: int) -> Array:
    """Draw the expressionless faces of ``count`` people, (count, 468, 3) in cm.

    Overall proportions vary by 4 %, depth by 8 %, regions by 6 %, and smooth deformations move
    landmarks by 2 mm (standard deviations): about the spread of adult faces.
    """
    weights = rng.normal(size=(count, 3, 12)).astype(np.float32)
    smooth = np.moveaxis(0.2 * weights @ smooth_modes(5.0, 12), 1, 2)
    mirrored = smooth[:, MIRROR] * np.array([-1, 1, 1], np.float32)
    smooth = 0.7 * smooth + 0.3 * mirrored  # faces are nearly, not quite, symmetric
    faces = CANONICAL_FACE * rng.normal(1, [0.04, 0.04, 0.08], (count, 1, 3)) + smooth
    for name in _SCALED_REGIONS:
        center = CANONICAL_FACE[region_landmarks(name)].mean(axis=0)
        offset = CANONICAL_FACE - center
        near = np.exp(-(offset**2).sum(axis=1, keepdims=True) / (2 * 1.8**2))
        faces += rng.normal(0, 0.06, (count, 1, 3)) * near * offset
    return np.asarray(faces, np.float32)


def draw_jitter(rng: np.random.Generator, frames: int) -> Array:
    """Draw the detector's error, (frames, 3, 468), with a standard deviation near 1 in x and y.

    Three quarters of its variance are correlated over 1.8 cm of skin and over four frames,
    as MediaPipe's is; depth, which a camera does not see, is twice as uncertain.
    """
    modes = smooth_modes(1.8, 40)
    draws = rng.standard_normal((frames + 3, 3, len(modes)), dtype=np.float32)
    weights = np.zeros_like(draws[3:])
    for k, tap in enumerate((0.4, 0.6, 0.6, 0.4)):
        weights += tap / 1.04**0.5 * draws[k : k + frames]  # 1.04: the taps' squares, summed
    weights *= 0.75**0.5
    # One large product: as a stack of (3, 40) by (40, 468) it takes several times as long.
    jitter = (weights.reshape(-1, len(modes)) @ modes).reshape(frames, 3, LANDMARKS)
    white = rng.standard_normal(jitter.shape, dtype=np.float32)
    white *= 0.5
    jitter += white
    jitter[:, 2] *= 2
    return np.asarray(jitter)
