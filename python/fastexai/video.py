"""Read videos, find the face's landmarks in every frame, write videos."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import cv2
import numpy as np

from fastexai.aside import written_aside
from fastexai.face_detector import LANDMARKS, FaceDetector

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    StrPath = str | os.PathLike[str]
    Frame = NDArray[np.uint8]  # (height, width, 3), RGB

__all__ = [
    "LandmarkClip",
    "VideoReader",
    "VideoWriter",
    "extract_landmarks",
    "frames",
]

#: Frames decoded ahead of the one in the detector; more only costs memory (2.8 MB each at 720p).
_AHEAD = 4

_T = TypeVar("_T")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # eq: arrays have no single truth value
class LandmarkClip:
    """The landmarks of one video, as they were found.

    Coordinates are pixels on all three axes: see Note [Landmark pixels] in `face_detector`.
    """

    landmarks: NDArray[np.float32]  #: (T, 468, 3), pixels; all NaN where no face was found
    timestamps: NDArray[np.float64]  #: (T,), seconds, strictly increasing
    fps: float  #: frames per second, as the container states it
    image_size: tuple[int, int]  #: (width, height) of a frame, pixels
    source: str  #: where the clip comes from: the absolute path of the video
    label: str | None = None  #: the emotion shown, where it is known
    subject: str | None = None  #: who shows it; clips of one subject stay in one fold

    def __post_init__(self) -> None:
        """Check shapes, dtypes and the order of the timestamps."""
        _check_array("landmarks", self.landmarks, np.float32, ("T", LANDMARKS, 3))
        _check_array("timestamps", self.timestamps, np.float64, (len(self.landmarks),))
        if not (np.isfinite(self.timestamps).all() and (np.diff(self.timestamps) > 0).all()):
            raise ValueError("timestamps: expected finite, strictly increasing seconds, got others")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps: expected a positive number, got {self.fps}")
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise ValueError(f"image_size: expected (width, height), got {self.image_size}")

    @property
    def detection_share(self) -> float:
        """Share of frames with a face, 0 to 1."""
        return float(np.isfinite(self.landmarks).all(axis=(1, 2)).mean())

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.landmarks)

    def __repr__(self) -> str:
        """Show shapes, not data."""
        return (
            f"LandmarkClip(landmarks={self.landmarks.shape}, timestamps={self.timestamps.shape}, "
            f"fps={self.fps:g}, image_size={self.image_size}, source={self.source!r}, "
            f"label={self.label!r}, subject={self.subject!r}, "
            f"detection_share={self.detection_share:.3f})"
        )


def _check_array(name: str, array: object, dtype: type, shape: tuple[int | str, ...]) -> None:
    """Check dtype and shape; a string in ``shape`` stands for any length from 1."""
    wanted = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)}) {np.dtype(dtype)}"
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected {wanted}, got {type(array).__name__}")
    fits = array.ndim == len(shape) and all(
        length == want if isinstance(want, int) else length > 0
        for length, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise ValueError(f"{name}: expected {wanted}, got {array.shape} {array.dtype}")


class VideoReader:
    """The frames of one video file, in order, each with its time.

    Parameters
    ----------
    video : path-like
        A file that OpenCV's FFmpeg can decode. Rotation stated by the container is applied.

    Attributes
    ----------
    source : str
        Absolute path of the file.
    fps : float
        Frames per second as the container states it (30 where it states none).
    image_size : tuple of int
        (width, height), pixels.
    frame_count : int
        Frames announced by the container; an estimate in some formats, 0 where unknown.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is a directory, or OpenCV finds no frame in it.
    """

    def __init__(self, video: StrPath) -> None:
        path = Path(video)
        if path.is_dir():
            raise ValueError(f"video: expected a video file, got the directory {path}")
        if not path.is_file():
            raise FileNotFoundError(f"video: expected a video file, got {path}, which is missing")
        self.source = str(path.absolute())
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        self._first = self._read() if self._capture.isOpened() else None
        if self._first is None:
            self.close()
            raise ValueError(f"video: expected a video that can be decoded, got {path}")
        # Not the container's size: this one is right for rotated videos too.
        height, width = self._first[1].shape[:2]
        self.image_size = (width, height)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if math.isfinite(fps) and fps > 0 else 30.0
        self.frame_count = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def __iter__(self) -> Iterator[tuple[float, Frame]]:
        """Yield (time in seconds, RGB frame); the file is read once, so only once.

        Times are the container's presentation times. Where it has none they are counted from
        ``fps``; where it repeats one or goes back, the frame is moved to 1 ms after the last one.
        """
        item, self._first = self._first, None
        index, last = 0, -math.inf
        while item is not None:
            seconds = item[0] if item[0] > 0 or index == 0 else index / self.fps
            last = max(seconds, last + 1e-3)
            yield last, item[1]
            index += 1
            item = self._read()

    def _read(self) -> tuple[float, Frame] | None:
        ok, image = self._capture.read()
        if not ok:
            return None
        seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        rgb: Frame = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        return seconds, rgb

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def __enter__(self) -> Self:
        """Return the open reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


def frames(video: StrPath) -> Iterator[tuple[float, Frame]]:
    """Yield every frame of a video with its time.

    Parameters
    ----------
    video : path-like
        See `VideoReader`, which also says what is raised.

    Yields
    ------
    tuple of (float, ndarray)
        Seconds, strictly increasing, and the frame: (height, width, 3) uint8, RGB.
    """
    with VideoReader(video) as reader:
        yield from reader


class VideoWriter:
    """Write an mp4 video that appears only when it is complete.

    Use it as a context manager. The file is written aside and moved to ``path`` when the block
    ends well; when it raises, nothing is left, and a video that was there before stays.

    Parameters
    ----------
    path : path-like
        The video to write; its name ends in ``.mp4``.
    fps : float
        Frames per second.

    Raises
    ------
    ValueError
        If ``path`` ends otherwise, ``fps`` is not positive, a frame is not (height, width, 3)
        uint8 or not of the first frame's size, or the block ends without a frame.
    """

    def __init__(self, path: StrPath, *, fps: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise ValueError(f"path: expected a name that ends in .mp4, got {self.path}")
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps: expected a positive number, got {fps}")
        self.fps = fps
        self._shape: tuple[int, ...] | None = None

    def __enter__(self) -> Self:
        """Start a file beside ``path``."""
        self._stack = ExitStack()
        self._aside = self._stack.enter_context(written_aside(self.path))
        self._writer = cv2.VideoWriter()
        self._stack.callback(self._writer.release)
        return self

    def write(self, frame: Frame) -> None:
        """Append one RGB frame; an odd width or height gains a copy of its last column or row.

        Parameters
        ----------
        frame : ndarray, shape (height, width, 3), uint8
        """
        if self._shape is None:
            _check_array("frame", frame, np.uint8, ("height", "width", 3))
            self._open(frame.shape)
            self._shape = frame.shape
        _check_array("frame", frame, np.uint8, self._shape)
        height, width = frame.shape[:2]
        image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        if height % 2 or width % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        self._writer.write(image)

    def _open(self, shape: tuple[int, ...]) -> None:
        # The codec halves the colour planes: OpenCV would cut an odd row or column off.
        size = (shape[1] + shape[1] % 2, shape[0] + shape[0] % 2)
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        if not self._writer.open(str(self._aside), cv2.CAP_FFMPEG, codec, self.fps, size):
            raise OSError(f"path: OpenCV cannot write a video of {size} to {self.path}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Move the finished file to ``path``, or remove it."""
        if kind is None and self._shape is None:
            error = ValueError(f"path: expected at least one frame for {self.path}, got none")
            self._stack.__exit__(ValueError, error, None)
            raise error
        self._stack.__exit__(kind, error, trace)


def extract_landmarks(
    video: StrPath,
    *,
    face_model: StrPath | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> LandmarkClip:
    """Find the face's landmarks in every frame of a video.

    Decoding runs in a thread of its own, a few frames ahead of the detector.

    Parameters
    ----------
    video : path-like
        See `VideoReader`.
    face_model : path-like, optional
        See `fastexai.face_model.face_model_path`.
    progress : callable, optional
        Called after each frame with the frames done and the frames announced by the container
        (never less than those done).

    Returns
    -------
    LandmarkClip
        One row per frame; its ``source`` is the video's absolute path.

    Raises
    ------
    FileNotFoundError
        If the video or the face model is missing.
    ValueError
        If it is no video, or no frame has a face.
    """
    seconds, rows = [], []
    with (
        VideoReader(video) as reader,
        FaceDetector(face_model) as detector,
        closing(_ahead(iter(reader))) as decoded,
    ):
        for time, frame in decoded:
            seconds.append(time)
            rows.append(detector.detect(time, frame))
            if progress is not None:
                progress(len(rows), max(len(rows), reader.frame_count))
    if len(rows) < 0.9 * reader.frame_count:
        _logger.warning("%s: read %d of %d frames", video, len(rows), reader.frame_count)
    landmarks = np.stack(rows)
    if np.isnan(landmarks).all():
        raise ValueError(f"video: no face was found in any of its {len(rows)} frames: {video}")
    return LandmarkClip(
        landmarks=landmarks,
        timestamps=np.array(seconds),
        fps=reader.fps,
        image_size=reader.image_size,
        source=reader.source,
    )


def _ahead(items: Iterator[_T]) -> Generator[_T]:
    """Yield ``items``, taking the next few in a thread; OpenCV decodes without the GIL."""
    with ThreadPoolExecutor(1) as thread:
        coming = deque(thread.submit(next, items, None) for _ in range(_AHEAD))
        while (item := coming.popleft().result()) is not None:
            coming.append(thread.submit(next, items, None))
            yield item
