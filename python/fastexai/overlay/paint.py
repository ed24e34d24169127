"""Draw one face in relevance colours."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fastexai import mesh

__all__ = ["COLORS", "levels", "paint", "strongest"]

Image = NDArray[np.uint8]  # (height, width, 3), RGB

#: (256, 1, 3), viridis in RGB.
COLORS: Image = np.ascontiguousarray(
    cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)[..., ::-1]
)
_CONTOURS = np.concatenate(list(mesh.CONTOURS.values()))
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates
_OPACITY = np.rint(255 * np.linspace(0.35, 0.8, 256)).astype(np.uint8)  # of each level
_STRONGEST = 10  # so many share the last colour, as relevance has a long tail, and wear dots


def strongest(relevance: NDArray[np.float64]) -> float:
    """Return the relevance that the last colour begins at, the most of any row of (..., L)."""
    return float(np.partition(relevance, -_STRONGEST, axis=-1)[..., -_STRONGEST].max())


def levels(relevance: NDArray[np.float64], top: float | None = None) -> NDArray[np.float64]:
    """Bring relevance, (L,), to the range of colours, 0 to 1.

    The last colour begins at ``top``, by default at `strongest` of this very relevance.
    """
    top = strongest(relevance) if top is None else top
    return np.clip(relevance / top, 0, 1) if top > 0 else np.zeros_like(relevance)


def paint(frame: Image, landmarks: NDArray[np.float32], level: NDArray[np.float64]) -> None:
    """Colour the face in a frame, in place.

    Parameters
    ----------
    frame : ndarray, shape (height, width, 3), uint8
        RGB.
    landmarks : ndarray, shape (468, 3), float32
        Finite, in pixels of the frame; z grows away from the camera.
    level : ndarray, shape (468,)
        Colour of each landmark, 0 to 1 on viridis; more is also more opaque.
    """
    height, width = frame.shape[:2]
    low = np.clip(np.floor(landmarks[:, :2].min(0)) - 2, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(landmarks[:, :2].max(0)) + 3, 0, (width, height)).astype(int)
    if (high <= low).any():
        return  # the face is outside the picture
    face = frame[low[1] : high[1], low[0] : high[0]]
    points = landmarks - np.array([*low, 0], dtype=np.float32)
    color, opacity = _skin(face.shape[:2], points, level)
    face[:] = cv2.blendLinear(face, color, 1 - opacity, opacity)
    _draw_lines(face, points, level)


def _skin(
    shape: tuple[int, ...], points: NDArray[np.float32], level: NDArray[np.float64]
) -> tuple[Image, NDArray[np.float32]]:
    """Return the colour and opacity of every pixel, the triangles' edges smoothed away."""
    corners = points[mesh.TRIANGLES]
    far_first = np.argsort(-corners[..., 2].mean(1))
    pixels = np.rint(corners[far_first, :, :2] * (1 << _SHIFT)).astype(np.int32)
    values = (255 * level[mesh.TRIANGLES].mean(1))[far_first].tolist()
    canvas = np.zeros((*shape, 2), dtype=np.uint8)  # level, coverage
    for triangle, value in zip(pixels, values, strict=True):
        cv2.fillConvexPoly(canvas, triangle, (value, 255), cv2.LINE_8, _SHIFT)
    radius = max(1, round(0.02 * float(np.ptp(points[:, 0]))))
    level_sum, cover = cv2.split(cv2.blur(canvas, (2 * radius + 1, 2 * radius + 1)))
    smooth = cv2.divide(level_sum, cover, scale=255)  # bytes throughout: a third of floats' time
    color: Image = cv2.applyColorMap(smooth, COLORS).astype(np.uint8, copy=False)
    opacity = cv2.bitwise_and(cv2.LUT(smooth, _OPACITY), canvas[..., 1])
    return color, opacity.astype(np.float32) * np.float32(1 / 255)


def _draw_lines(face: Image, points: NDArray[np.float32], level: NDArray[np.float64]) -> None:
    """Draw lips, eyes, brows, nose and oval, and a dot on each of the strongest landmarks."""
    pixels = np.rint(points[:, :2] * (1 << _SHIFT)).astype(np.int32)
    size = float(np.ptp(points[:, 0]))
    white, black = (255, 255, 255), (0, 0, 0)
    thickness = max(1, round(size / 400))
    cv2.polylines(face, list(pixels[_CONTOURS]), False, white, thickness, cv2.LINE_AA, _SHIFT)
    radius = max(1, round(size / 110)) << _SHIFT
    for i in np.argsort(-level, kind="stable")[:_STRONGEST]:
        center = pixels[i].tolist()
        cv2.circle(face, center, radius + (1 << _SHIFT), black, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(face, center, radius, white, -1, cv2.LINE_AA, _SHIFT)
