"""Where frames come from: a video, numbered images, a camera, or an iterator."""

from __future__ import annotations

import itertools
import math
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Sized
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    StrPath = str | os.PathLike[str]
    Frame = NDArray[np.uint8]  # (height, width, 3), RGB
    Source = StrPath | int | Iterable[StrPath] | Iterable[Frame]

__all__ = [
    "IMAGE_FPS",
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "CameraReader",
    "FrameReader",
    "ImageReader",
    "IteratorReader",
    "VideoReader",
    "frames",
    "images_in",
    "open_source",
    "sequence_name",
]

#: The files of a folder that are taken for videos.
VIDEO_SUFFIXES = frozenset(
    (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
)
#: The files of a folder that are taken for the frames of one clip.
IMAGE_SUFFIXES = frozenset(
    (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
#: Images carry no times. 25 a second, as ffmpeg assumes too, falls on MediaPipe's whole
#: milliseconds. Images are equally spaced, so whoever resamples a clip gets the same at any rate;
#: only the detector's smoothing, which works in seconds, depends on it.
IMAGE_FPS = 25.0


class FrameReader(ABC):
    """The frames of one source, in order, each with its time; a context manager.

    Attributes
    ----------
    source : str
        Where the frames come from, for people: the absolute path of a video or of a folder.
    fps : float
        Frames per second as the source states it.
    image_size : tuple of int
        (width, height), pixels; the same for all frames.
    frame_count : int
        Frames announced by the source; an estimate in some formats, 0 where unknown.
    """

    source: str
    fps: float
    frame_count: int = 0

    def _begin(self, otherwise: str) -> None:
        """Read the first frame, which tells the size; raise ``otherwise`` if there is none."""
        try:
            self._first = self._read()
        except BaseException:
            self.close()
            raise
        if self._first is None:
            self.close()
            raise ValueError(otherwise)
        # Not the container's size: this one is right for rotated videos too.
        height, width = self._first[1].shape[:2]
        self.image_size = (width, height)

    def __iter__(self) -> Iterator[tuple[float, Frame]]:
        """Yield (time in seconds, RGB frame); the source is read once, so only once.

        Times are the source's own. Where it has none they are counted from ``fps``; where it
        repeats one or goes back, the frame is moved to 1 ms after the last one.

        Raises
        ------
        ValueError
            If a frame is of another size than the first, or an image cannot be read.
        """
        item, self._first = self._first, None
        index, last = 0, -math.inf
        while item is not None:
            seconds, frame = item
            if (size := frame.shape[1::-1]) != self.image_size:
                raise ValueError(
                    f"video: expected all frames of (width, height) {self.image_size}, "
                    f"got {size} in frame {index} of {self.source}"
                )
            seconds = seconds if seconds > 0 or index == 0 else index / self.fps
            last = max(seconds, last + 1e-3)
            yield last, frame
            index += 1
            item = self._read()

    @abstractmethod
    def _read(self) -> tuple[float, Frame] | None:
        """Return the next frame and its time, None after the last."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Free what the source holds."""

    def __enter__(self) -> Self:
        """Return the open reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the source."""
        self.close()


class VideoReader(FrameReader):
    """The frames of one video file.

    Parameters
    ----------
    video : path-like
        A file that OpenCV's FFmpeg can decode. Rotation stated by the container is applied.

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
        self._bgr: Any = None
        self.fps = _stated_fps(self._capture)
        self.frame_count = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self._begin(f"video: expected a video that can be decoded, got {path}")

    def _read(self) -> tuple[float, Frame] | None:
        # Into the same memory again and again: fresh memory costs as much as the conversion.
        ok, self._bgr = self._capture.read(self._bgr)
        if not ok:
            return None
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, _from_bgr(self._bgr)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class CameraReader(FrameReader):
    """The frames of a camera, as long as it is read; each has the time of its arrival.

    Parameters
    ----------
    index : int
        The camera's number, 0 for the first.

    Raises
    ------
    ValueError
        If ``index`` is negative, or that camera delivers no frame.
    """

    def __init__(self, index: int) -> None:
        if index < 0:
            raise ValueError(f"video: expected a camera's index from 0, got {index}")
        # The time makes each recording a clip of its own.
        self.source = f"camera-{index}-{datetime.now():%Y%m%dT%H%M%S.%f}"
        self._capture = cv2.VideoCapture(index)
        self.fps = _stated_fps(self._capture)
        self._start = time.monotonic()
        self._begin(f"video: expected a camera that delivers frames, got none from index {index}")

    def _read(self) -> tuple[float, Frame] | None:
        ok, image = self._capture.read()
        return (time.monotonic() - self._start, _from_bgr(image)) if ok else None

    def close(self) -> None:
        """Free the camera."""
        self._capture.release()


class IteratorReader(FrameReader):
    """Frames that the caller makes.

    Parameters
    ----------
    images : iterable of ndarray, uint8
        Each (height, width, 3), RGB; or (height, width) or (height, width, 1), grey; or
        (height, width, 4), whose alpha is left out. A frame is copied when it is taken, and up to
        four are taken ahead.
    fps : float
        Frames per second.
    source : str
        What the clip shall be called.

    Raises
    ------
    TypeError
        If a frame is no array.
    ValueError
        If there is no frame, one has another shape or dtype, or ``fps`` is not positive.
    """

    def __init__(
        self, images: Iterable[Frame], *, fps: float = IMAGE_FPS, source: str = "frames"
    ) -> None:
        self.source, self.fps = source, _checked_fps(fps)
        self.frame_count = len(images) if isinstance(images, Sized) else 0
        self._images = enumerate(images)
        self._begin("video: expected one frame or more, got none")

    def _read(self) -> tuple[float, Frame] | None:
        for index, image in self._images:
            return index / self.fps, _as_rgb(image)
        return None


class ImageReader(IteratorReader):
    """Numbered images, each a frame.

    Parameters
    ----------
    images : path-like or iterable of path-like
        A folder, whose images are taken in natural order (2 before 10); a pattern such as
        ``anger/S010_004_*.png``, taken likewise; or the images themselves, in order. Grey images,
        alpha channels, 16 bits and EXIF rotation are all brought to RGB uint8.
    fps : float
        Frames per second, see `IMAGE_FPS`.

    Raises
    ------
    FileNotFoundError
        If an image is missing.
    ValueError
        If there are none, one cannot be decoded, or ``fps`` is not positive.
    """

    def __init__(self, images: StrPath | Iterable[StrPath], *, fps: float = IMAGE_FPS) -> None:
        if isinstance(images, str | os.PathLike):
            paths, source = images_in(Path(images)), str(Path(images).absolute())
            if not paths:
                raise ValueError(f"video: expected a folder of images, got none in {images}")
        else:
            paths = [Path(image) for image in images]
            source = sequence_name(paths) if paths else ""
        self._paths = paths
        super().__init__(map(_read_image, paths), fps=fps, source=source)
        self.frame_count = len(paths)


def open_source(video: Source, *, fps: float = IMAGE_FPS) -> FrameReader:
    """Open whatever holds frames.

    Parameters
    ----------
    video : path-like, int, iterable of path-like or iterable of ndarray
        A video file (`VideoReader`); an image, a folder of images, a pattern or images in order
        (`ImageReader`); a camera's index (`CameraReader`); or frames (`IteratorReader`).
    fps : float
        Frames per second of images and of iterators; videos and cameras have times of their own.

    Raises
    ------
    TypeError
        If ``video`` is none of these.
    FileNotFoundError, ValueError
        As the readers say.
    """
    if isinstance(video, str | os.PathLike):
        path = Path(video)
        if path.is_dir() or _is_pattern(path):
            return ImageReader(path, fps=fps)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageReader([path], fps=fps)
        return VideoReader(path)
    if isinstance(video, int):
        return CameraReader(video)
    if not isinstance(video, Iterable):
        raise TypeError(
            "video: expected a path, a camera's index, image paths or frames, "
            f"got {type(video).__name__}"
        )
    items = iter(video)
    first = next(items, None)
    rest = itertools.chain([] if first is None else [first], items)
    if isinstance(first, str | os.PathLike):
        return ImageReader(rest, fps=fps)  # type: ignore[arg-type]  # the first is a path: all are
    count = len(video) if isinstance(video, Sized) else 0
    reader = IteratorReader(rest, fps=fps)  # type: ignore[arg-type]  # it checks each
    reader.frame_count = count
    return reader


def frames(video: Source) -> Iterator[tuple[float, Frame]]:
    """Yield every frame of a source with its time.

    Parameters
    ----------
    video : path-like, int or iterable
        See `open_source`, which also says what is raised.

    Yields
    ------
    tuple of (float, ndarray)
        Seconds, strictly increasing, and the frame: (height, width, 3) uint8, RGB.
    """
    with open_source(video) as reader:
        yield from reader


def images_in(path: Path) -> list[Path]:
    """Return the images of a folder or of a pattern, in natural order; hidden files are none."""
    folder, pattern = (path.parent, path.name) if _is_pattern(path) else (path, "*")
    images = (
        image
        for image in folder.glob(pattern)
        if image.suffix.lower() in IMAGE_SUFFIXES and not image.name.startswith(".")
    )
    return sorted(images, key=_natural)


def sequence_name(images: Sequence[StrPath]) -> str:
    """Return the ``source`` of images in order: the first one's absolute path to the last's name."""
    first, last = Path(images[0]), Path(images[-1])
    return str(first.absolute()) if len(images) == 1 else f"{first.absolute()}..{last.name}"


def _is_pattern(path: Path) -> bool:
    return "*" in path.name and not path.exists()


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order by numbers as numbers: img2 before img10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _read_image(path: Path) -> Frame:
    if not path.is_file():
        raise FileNotFoundError(f"video: expected an image, got {path}, which is missing")
    data = np.frombuffer(path.read_bytes(), np.uint8)  # not imread: it fails on some names
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ValueError(f"video: expected an image that can be decoded, got {path}")
    return _from_bgr(image)


def _from_bgr(image: NDArray[Any]) -> Frame:
    rgb: Frame = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return rgb


def _as_rgb(image: object) -> Frame:
    """Return a copy as (height, width, 3) RGB: who made it may reuse its buffer."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"video: expected frames of uint8 arrays, got {type(image).__name__}")
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(
            f"video: expected frames of (height, width, 3) uint8, got {image.shape} {image.dtype}"
        )
    if not image.size:
        raise ValueError(f"video: expected frames with pixels, got {image.shape}")
    pixels = image.reshape(*image.shape[:2], channels)[..., :3]
    return np.array(np.broadcast_to(pixels, (*image.shape[:2], 3)), order="C")


def _stated_fps(capture: cv2.VideoCapture) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return float(fps) if math.isfinite(fps) and fps > 0 else 30.0


def _checked_fps(fps: float) -> float:
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps: expected a positive number, got {fps}")
    return float(fps)
