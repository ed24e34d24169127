"""Find the landmarks of faces in every frame of a video, and write videos."""

from __future__ import annotations

import logging
import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import cv2
import numpy as np

from fastexai.aside import written_aside
from fastexai.face_detector import BLENDSHAPES, IRIS_POINTS, LANDMARKS, FaceDetector
from fastexai.sources import IMAGE_FPS, VideoReader, frames, open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    from fastexai.face_detector import Extra, Face
    from fastexai.sources import Frame, FrameReader, Source, StrPath

__all__ = [
    "EXTRA_SHAPES",
    "LandmarkClip",
    "VideoReader",
    "VideoWriter",
    "clips_of",
    "extract_faces",
    "extract_landmarks",
    "frames",
]

#: What a clip may hold beside its landmarks, and the shape of it for one frame.
EXTRA_SHAPES: dict[Extra, tuple[int, ...]] = {
    "iris": (IRIS_POINTS, 3),
    "blendshapes": (len(BLENDSHAPES),),
    "head_pose": (4, 4),
}

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
    #: (T, 10, 3), pixels: MediaPipe's points 468 to 477, five for each iris; the right one first
    iris: NDArray[np.float32] | None = None
    #: (T, 52), 0 to 1: see `fastexai.face_detector.BLENDSHAPES`
    blendshapes: NDArray[np.float32] | None = None
    #: (T, 4, 4), centimetres: maps MediaPipe's canonical face to the camera's coordinates
    head_pose: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check shapes, dtypes and the order of the timestamps."""
        _check_array("landmarks", self.landmarks, np.float32, ("T", LANDMARKS, 3))
        _check_array("timestamps", self.timestamps, np.float64, (len(self.landmarks),))
        for name, shape in EXTRA_SHAPES.items():
            if (extra := getattr(self, name)) is not None:
                _check_array(name, extra, np.float32, (len(self.landmarks), *shape))
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
        extras = [
            f"{name}={extra.shape}, "
            for name in EXTRA_SHAPES
            if (extra := getattr(self, name)) is not None
        ]
        return (
            f"LandmarkClip(landmarks={self.landmarks.shape}, timestamps={self.timestamps.shape}, "
            f"fps={self.fps:g}, image_size={self.image_size}, source={self.source!r}, "
            f"label={self.label!r}, subject={self.subject!r}, {''.join(extras)}"
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
    video: Source,
    *,
    extras: Collection[Extra] = (),
    fps: float = IMAGE_FPS,
    max_seconds: float | None = None,
    face_model: StrPath | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> LandmarkClip:
    """Find the landmarks of one face in every frame of a video.

    Of several faces it is the one that is largest when a face is first seen (`extract_faces` takes
    all); see Note [Which face] in `fastexai.face_detector`. Decoding runs in a thread of its own, a few frames ahead.

    Parameters
    ----------
    video : path-like, int, iterable of path-like or iterable of ndarray
        A video file; a folder of numbered images, a pattern for some of them, or image paths in
        order; a camera's index; or frames, RGB uint8. See `fastexai.sources.open_source`.
    extras : collection of {"iris", "blendshapes", "head_pose"}
        What to keep beside the landmarks, see `LandmarkClip`.
    fps : float
        Frames per second of images and of iterators; videos and cameras have times of their own.
    max_seconds : float, optional
        Stop after so much of the video. A camera needs it.
    face_model : path-like, optional
        See `fastexai.face_model.face_model_path`.
    progress : callable, optional
        Called after each frame with the frames done and the frames announced by the container
        (never less than those done).

    Returns
    -------
    LandmarkClip
        One row per frame; its ``source`` is the absolute path of the video or of the folder.

    Raises
    ------
    FileNotFoundError
        If the video, an image or the face model is missing.
    TypeError
        If ``video`` is none of what is described here.
    ValueError
        If it cannot be read, no frame has a face, or an option has a value that is not described
        here.
    """
    with FaceDetector(face_model, extras=extras) as detector:
        (clip,) = clips_of(video, detector, fps=fps, max_seconds=max_seconds, progress=progress)
    return clip


def extract_faces(
    video: Source,
    *,
    extras: Collection[Extra] = (),
    fps: float = IMAGE_FPS,
    max_seconds: float | None = None,
    face_model: StrPath | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[LandmarkClip]:
    """Find the landmarks of all faces of a video: one clip for each, up to eight at a time.

    Parameters and exceptions are those of `extract_landmarks`.

    Returns
    -------
    list of LandmarkClip
        Each from the first to the last frame that shows the face. The face that shows most (its
        area, summed over frames) comes first and has the video's own ``source``, the next ones end
        in ``#face1`` and so on. A face that was away for more than a second is a new one.
    """
    with FaceDetector(face_model, faces="all", extras=extras) as detector:
        return clips_of(video, detector, fps=fps, max_seconds=max_seconds, progress=progress)


def clips_of(
    video: Source,
    detector: FaceDetector,
    *,
    fps: float = IMAGE_FPS,
    max_seconds: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[LandmarkClip]:
    """Find the faces that a detector follows; it is reset first.

    See `extract_landmarks` for the parameters, and `extract_faces` for what is returned; a detector
    of the largest face gives one clip of all frames.
    """
    if isinstance(video, int) and max_seconds is None:
        raise ValueError("max_seconds: expected a number for a camera, which never ends, got None")
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"max_seconds: expected a positive number, got {max_seconds}")
    detector.reset()
    seconds: list[float] = []
    sightings: dict[int, dict[int, Face]] = {}  # by identity, then by frame
    with open_source(video, fps=fps) as reader, closing(_ahead(iter(reader))) as decoded:
        for time, frame in decoded:
            if max_seconds is not None and seconds and time - seconds[0] >= max_seconds:
                break
            for identity, face in detector.detect(time, frame).items():
                sightings.setdefault(identity, {})[len(seconds)] = face
            seconds.append(time)
            if progress is not None:
                progress(len(seconds), max(len(seconds), reader.frame_count))
        else:
            if len(seconds) < 0.9 * reader.frame_count:
                _logger.warning(
                    "%s: read %d of %d frames", reader.source, len(seconds), reader.frame_count
                )
    if not sightings:
        raise ValueError(
            f"video: no face was found in any of its {len(seconds)} frames: {reader.source}"
        )
    if detector.faces == "largest":
        return [_clip(sightings[0], range(len(seconds)), seconds, reader, reader.source)]
    prominent = sorted(sightings.values(), key=lambda faces: -sum(f.area for f in faces.values()))
    return [
        _clip(
            faces,
            range(min(faces), max(faces) + 1),
            seconds,
            reader,
            f"{reader.source}#face{number}" if number else reader.source,
        )
        for number, faces in enumerate(prominent)
    ]


def _clip(
    faces: dict[int, Face], rows: range, seconds: list[float], reader: FrameReader, source: str
) -> LandmarkClip:
    """Put the sightings of one face in order; frames without it are NaN."""

    def stacked(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        values = np.full((len(rows), *shape), np.nan, np.float32)
        for index, face in faces.items():
            values[index - rows.start] = getattr(face, name)
        return values

    some = next(iter(faces.values()))
    extras = {
        name: stacked(name, shape)
        for name, shape in EXTRA_SHAPES.items()
        if getattr(some, name) is not None
    }
    return LandmarkClip(
        landmarks=stacked("landmarks", (LANDMARKS, 3)),
        timestamps=np.array(seconds[rows.start : rows.stop]),
        fps=reader.fps,
        image_size=reader.image_size,
        source=source,
        iris=extras.get("iris"),
        blendshapes=extras.get("blendshapes"),
        head_pose=extras.get("head_pose"),
    )


def _ahead(items: Iterator[_T]) -> Generator[_T]:
    """Yield ``items``, taking the next few in a thread; OpenCV decodes without the GIL."""
    with ThreadPoolExecutor(1) as thread:
        coming = deque(thread.submit(next, items, None) for _ in range(_AHEAD))
        while (item := coming.popleft().result()) is not None:
            coming.append(thread.submit(next, items, None))
            yield item
