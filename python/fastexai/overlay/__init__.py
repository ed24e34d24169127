"""Draw a model's relevance onto the face of a video, with the emotion's probability beneath."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastexai import mesh
from fastexai.aside import written_aside
from fastexai.export import ModelMetadata, read_model
from fastexai.overlay.paint import levels, paint, strongest
from fastexai.overlay.sound import keep_sound
from fastexai.overlay.strip import Strip
from fastexai.video import LandmarkClip, VideoReader, VideoWriter, extract_landmarks
from fastexai.windows import WindowSeries, slide

if TYPE_CHECKING:
    from fastexai.explanation import DatasetExplanation

__all__ = ["overlay"]

_NODES = 8  # per path: colours need no more
_logger = logging.getLogger(__name__)


def overlay(
    video: str | os.PathLike[str],
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    explanation: DatasetExplanation | None = None,
    face_model: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write the video with its face coloured by relevance and the probability over time beneath.

    A strip below the picture holds the curve; the picture itself keeps its size (an odd width
    gains one column, which the codec needs) and, in frames without a face, its content as well as
    the codec can keep it. The number of frames and the length of the video stay; frames are spaced
    evenly. The sound is kept where ffmpeg is found; a warning says so where it is lost.

    The probability at an instant is that of windows of 2 seconds around it, every half second.

    Parameters
    ----------
    video : path-like
        The video to read.
    model : path-like
        A file written by ``EmotionClassifier.export``.
    out : path-like
        The video to write, which ends in ``.mp4``; it appears whole or not at all.
    explanation : DatasetExplanation, optional
        Colours every face by this relevance. Without it, each instant is coloured by the
        attribution of the windows around it, from the model file's baselines.
    face_model : path-like, optional
        See `fastexai.face_model.face_model_path`.
    progress : callable, optional
        Called with (frames done, frames in all); every frame counts twice, once to find the face
        and once to draw.

    Returns
    -------
    Path
        The video written.

    Raises
    ------
    FileNotFoundError
        If the video, the model or the face model is missing.
    ValueError
        If the video cannot be read or shows no face, the model is no such file, ``out`` does not
        end in ``.mp4`` or is the video itself, or ``explanation`` is of another emotion or not
        of 468 landmarks.
    """
    out = Path(out)
    metadata, _, _ = read_model(model)
    _check(Path(video), out, metadata, explanation)

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total)

    clip = extract_landmarks(
        video, face_model=face_model, progress=lambda done, total: tell(done, 2 * total)
    )
    series = slide(model, clip, n_steps=_NODES if explanation is None else None)
    strip = Strip(
        clip.image_size,
        " ".join(metadata.emotion.split()),
        clip.timestamps,
        series.probability_at(clip.timestamps),
    )
    level = _levels(series, explanation)
    with written_aside(out) as silent:
        with VideoReader(video) as reader, VideoWriter(silent, fps=_rate(clip)) as writer:
            # strict: decoding is deterministic, so both passes see the same frames
            for index, (landmarks, (seconds, frame)) in enumerate(
                zip(clip.landmarks, reader, strict=True)
            ):
                if np.isfinite(landmarks).all():
                    paint(frame, landmarks, level(seconds))
                writer.write(np.vstack([frame, strip.at(index)]))
                tell(len(clip) + index + 1, 2 * len(clip))
        if (lost := keep_sound(Path(video), silent)) is not None:
            _logger.warning("%s: %s", out, lost)
    return out


def _rate(clip: LandmarkClip) -> float:
    """Return the frames per second that give the video its own length.

    The container's figure, unless the times of the frames speak against it.
    """
    if len(clip) < 2:
        return clip.fps
    mean = float((len(clip) - 1) / (clip.timestamps[-1] - clip.timestamps[0]))
    return clip.fps if abs(mean / clip.fps - 1) < 0.01 else mean


def _check(
    video: Path, out: Path, metadata: ModelMetadata, explanation: DatasetExplanation | None
) -> None:
    """Find what is wrong before the long work begins."""
    if out.suffix.lower() != ".mp4":
        raise ValueError(f"out: expected a name that ends in .mp4, got {out}")
    if out.resolve() == video.resolve():
        raise ValueError(f"out: expected another file than the video, got {out}")
    if metadata.landmarks != mesh.LANDMARKS:
        raise ValueError(f"model: expected one of 468 landmarks, got {metadata.landmarks}")
    if explanation is None:
        return
    if explanation.emotion != metadata.emotion:
        raise ValueError(
            f"explanation: expected {metadata.emotion!r}, which the model recognises, "
            f"got {explanation.emotion!r}"
        )
    if explanation.relevance.shape != (mesh.LANDMARKS,):
        raise ValueError(f"explanation: expected 468 landmarks, got {len(explanation.relevance)}")


def _levels(
    series: WindowSeries, explanation: DatasetExplanation | None
) -> Callable[[float], NDArray[np.float64]]:
    """Return what gives every landmark's colour, 0 to 1, at an instant."""
    if explanation is not None:
        still = levels(explanation.relevance)
        return lambda seconds: still
    assert series.relevance is not None
    top = strongest(series.relevance)
    return lambda seconds: levels(series.relevance_at(seconds), top)
