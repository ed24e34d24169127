"""The strip beneath the picture: an emotion's probability over time."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fastexai.overlay.paint import COLORS

__all__ = ["Strip"]

Image = NDArray[np.uint8]  # (height, width, 3), RGB
Color = tuple[int, int, int]

_PAPER: Color = (18, 17, 23)
_INK: Color = (236, 235, 241)
_SOFT: Color = (169, 166, 182)
_LINE: Color = (70, 68, 82)
_CURVE: Color = (127, 200, 214)
_AREA: Color = (38, 62, 74)


class Strip:
    """The drawn curve, onto which each frame puts its mark.

    Parameters
    ----------
    image_size : tuple of int
        (width, height) of the video, pixels. Video and strip together have an even height.
    emotion : str
        Its name; characters that the font lacks become question marks.
    seconds, probability : ndarray, shape (T,)
        Of every frame; NaN where the model has no answer.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        emotion: str,
        seconds: NDArray[np.float64],
        probability: NDArray[np.float64],
    ) -> None:
        width, picture = image_size
        height = max(48, round(picture / 6))
        self._height = height + (picture + height) % 2
        self._probability = probability
        self._font = cv2.FontFace("sans")
        self._image = np.full((self._height, width, 3), _PAPER, dtype=np.uint8)
        # Left column for words, as wide as the strip is high twice; half of narrow videos.
        self._column = min(round(2.1 * height), width // 2)
        self._pad = max(3, round(0.12 * height))
        left, right = self._column + self._pad, max(width - self._pad, self._column + self._pad + 1)
        span = max(seconds[-1] - seconds[0], 1e-9)
        self._x = np.rint(left + (right - left) * (seconds - seconds[0]) / span).astype(int)
        bottom, top = self._height - self._pad, self._pad
        self._y = np.rint(bottom - (bottom - top) * np.nan_to_num(probability)).astype(int)
        self._draw_words(emotion)
        self._draw_curve(left, right, top, bottom)

    def at(self, index: int) -> Image:
        """Return the strip with a frame's instant marked and its probability written."""
        image = self._image.copy()
        x, value = int(self._x[index]), self._probability[index]
        cv2.line(image, (x, self._pad // 2), (x, self._height - self._pad // 2), _INK, 1)
        known = bool(np.isfinite(value))
        if known:
            radius = max(2, self._height // 20)
            cv2.circle(image, (x, int(self._y[index])), radius + 1, _PAPER, -1, cv2.LINE_AA)
            cv2.circle(image, (x, int(self._y[index])), radius, _INK, -1, cv2.LINE_AA)
        text = f"{100 * value:.0f} %" if known else "no face"
        self._write(image, text, 0.66, 0.28, _INK, 600)
        return image

    def _draw_words(self, emotion: str) -> None:
        self._write(self._image, emotion, 0.3, 0.17, _CURVE, 500)
        top, bottom = (round(f * self._height) for f in (0.82, 0.88))
        right = self._column - self._pad
        if right > self._pad:
            ramp = COLORS[np.linspace(0, 255, right - self._pad).astype(int), 0]
            self._image[top:bottom, self._pad : right] = ramp

    def _draw_curve(self, left: int, right: int, top: int, bottom: int) -> None:
        known = np.isfinite(self._probability)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
        runs = [
            np.stack([self._x[a:b], self._y[a:b]], axis=1).astype(np.int32)
            for a, b in edges.reshape(-1, 2)
        ]
        for run in runs:
            ends = np.array([[run[-1, 0], bottom], [run[0, 0], bottom]], dtype=np.int32)
            cv2.fillPoly(self._image, [np.concatenate([run, ends])], _AREA)
        for y in (top, (top + bottom) // 2, bottom):
            cv2.line(self._image, (left, y), (right, y), _LINE, 1)
        for run in runs:
            thickness = max(1, self._height // 50)
            cv2.polylines(self._image, [run], False, _CURVE, thickness, cv2.LINE_AA)

    def _write(
        self, image: Image, text: str, baseline: float, size: float, color: Color, weight: int
    ) -> None:
        """Write into the left column, as large as fits; positions are parts of the height."""
        room = self._column - 2 * self._pad
        pixels = max(6, round(size * self._height))
        origin = (self._pad, round(baseline * self._height))
        _, _, wide, _ = cv2.getTextSize(
            (image.shape[1], image.shape[0]), text, origin, self._font, pixels, weight
        )
        pixels = max(5, min(pixels, int(pixels * room / max(wide, 1))))
        cv2.putText(image, text, origin, color, self._font, pixels, weight)
