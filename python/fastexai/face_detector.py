"""Follow faces through a video with MediaPipe's face landmarker.

Note [Landmark pixels]: coordinates are pixels on all three axes. MediaPipe divides x and z by
the frame's width and y by its height, so its own numbers stretch a face with the shape of the
frame; multiplied back, one unit is the same length along x, y and z. x grows to the right, y
downwards, z away from the camera, with 0 near the centre of the head.

Note [Which face]: MediaPipe smooths over time only where it follows a single face, and chooses that
one by its confidence. To follow the largest, all others are painted over while no face is followed
yet; from then on MediaPipe looks only near where the face was. When the face is lost and several
are there, the one nearest to where it was last is taken. To follow all, faces are matched from frame
to frame by overlap, without smoothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Collection
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
from scipy.optimize import linear_sum_assignment

from fastexai.face_model import face_model_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Box = NDArray[np.float64]  # (2, 2), pixels: left and top, right and bottom

__all__ = ["BLENDSHAPES", "IRIS_POINTS", "LANDMARKS", "Extra", "Face", "FaceDetector", "Faces"]

LANDMARKS = 468  #: points of MediaPipe's face mesh, without those of the irises
IRIS_POINTS = 10  #: five of the right iris, then five of the left: the centre and four on the rim

#: What the values of a clip's ``blendshapes`` are, in order.
BLENDSHAPES = tuple(
    """
    _neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff
    cheekSquintLeft cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight
    eyeLookInLeft eyeLookInRight eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight
    eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight jawForward jawLeft jawOpen jawRight
    mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight mouthFunnel mouthLeft
    mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight
    mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft mouthSmileRight
    mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft
    noseSneerRight
    """.split()  # noqa: SIM905 (a list literal of them is 52 lines long)
)

Faces = Literal["largest", "all"]
Extra = Literal["iris", "blendshapes", "head_pose"]

_COORDINATES = attrgetter("x", "y", "z")
_MOST_FACES = 8  # of one frame; each costs a run of the landmark network
_SAME_FACE = 0.2  # intersection over union of two boxes from which they are one face
_FORGET_SECONDS = 1.0  # a face that was away for longer is a new one


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face in one frame; what was not asked for is None."""

    landmarks: NDArray[np.float32]  #: (468, 3), see Note [Landmark pixels]
    iris: NDArray[np.float32] | None  #: (10, 3), as the landmarks
    blendshapes: NDArray[np.float32] | None  #: (52,), 0 to 1, see `BLENDSHAPES`
    head_pose: NDArray[np.float32] | None  #: (4, 4), from the canonical face to the camera, cm

    @property
    def box(self) -> Box:
        """The corners of the smallest upright rectangle around the landmarks."""
        points = self.landmarks[:, :2].astype(np.float64)
        return np.stack([points.min(axis=0), points.max(axis=0)])

    @property
    def area(self) -> float:
        """The area of `box`, square pixels."""
        return _area(self.box)


class FaceDetector:
    """MediaPipe's face landmarker, following faces through one video after the other.

    It keeps track of faces and smooths over time, so call `reset` between two videos: results are
    then, bit for bit, those of a new detector, which would cost ten times as much. Use it as a
    context manager. Which faces it follows: see Note [Which face].

    Parameters
    ----------
    face_model : path-like, optional
        See `fastexai.face_model.face_model_path`.
    faces : {"largest", "all"}
        Follow the face that is largest where one is first seen, or up to eight faces.
    extras : collection of {"iris", "blendshapes", "head_pose"}
        What to return beside the landmarks.

    Raises
    ------
    ValueError
        If ``faces`` or ``extras`` holds a value that is not described here.
    """

    def __init__(
        self,
        face_model: str | os.PathLike[str] | None = None,
        *,
        faces: Faces = "largest",
        extras: Collection[Extra] = (),
    ) -> None:
        self.faces, self.extras = check_faces(faces), check_extras(extras)
        self._model = face_model_path(face_model).read_bytes()
        # Here, not above: the import takes a second.
        import mediapipe

        self._mediapipe: Any = mediapipe
        modes = mediapipe.tasks.vision.RunningMode
        self._landmarker = self._open(
            modes.VIDEO, 1 if faces == "largest" else _MOST_FACES, self.extras
        )
        self._scout: Any = None  # finds all faces of one frame, whatever was before
        # From 1, not 0, which MediaPipe's smoothing takes for "no time yet": all videos alike.
        self._last_ms = 0
        self._forget()

    def _forget(self) -> None:
        self._start_ms = self._last_ms + 1
        self._known: dict[int, tuple[Box, float]] = {}  # where and when each face was last seen
        self._identities = 0
        self._follows = False

    def _open(self, mode: object, most: int, extras: Collection[Extra]) -> Any:
        tasks = self._mediapipe.tasks
        options = tasks.vision.FaceLandmarkerOptions(
            # Bytes, not a path: MediaPipe's own file reader is particular about paths on Windows.
            base_options=tasks.BaseOptions(model_asset_buffer=self._model),
            running_mode=mode,
            num_faces=most,
            output_face_blendshapes="blendshapes" in extras,
            output_facial_transformation_matrixes="head_pose" in extras,
        )
        with _without_start_messages():
            return tasks.vision.FaceLandmarker.create_from_options(options)

    def reset(self) -> None:
        """Forget the last video, so that another can follow."""
        if self._last_ms:
            # A frame without a face ends MediaPipe's track and restarts its filters.
            self._last_ms += 1
            empty = self._image(np.zeros((64, 64, 3), np.uint8))
            self._landmarker.detect_for_video(empty, self._last_ms)
        self._forget()

    def detect(self, seconds: float, frame: NDArray[np.uint8]) -> dict[int, Face]:
        """Find the faces in the next frame.

        Parameters
        ----------
        seconds : float
            Time of the frame. MediaPipe counts whole, strictly increasing milliseconds; a frame
            less than one after the last is moved to the next.
        frame : ndarray, shape (height, width, 3), uint8
            RGB, contiguous.

        Returns
        -------
        dict of int to Face
            The faces by their identity: the same number is the same face, from 0. Empty where
            there is none.
        """
        self._last_ms = max(self._start_ms + round(seconds * 1000), self._last_ms + 1)
        if self.faces == "largest" and not self._follows:
            frame = self._with_one_face(frame)
        result = self._landmarker.detect_for_video(self._image(frame), self._last_ms)
        found = _faces_of(result, frame, self.extras)
        self._follows = bool(found)
        named = dict(enumerate(found)) if self.faces == "largest" else self._named(seconds, found)
        self._known |= {identity: (face.box, seconds) for identity, face in named.items()}
        return named

    def _image(self, frame: NDArray[np.uint8]) -> Any:
        return self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=frame)

    def _with_one_face(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the frame, with all faces but the wanted one painted over."""
        if self._scout is None:
            modes = self._mediapipe.tasks.vision.RunningMode
            self._scout = self._open(modes.IMAGE, _MOST_FACES, ())
        result = self._scout.detect(self._image(frame))
        boxes = [face.box for face in _faces_of(result, frame, ())]
        if len(boxes) < 2:
            return frame
        wanted = self._wanted(boxes)
        alone = frame.copy()
        for index, box in enumerate(boxes):
            if index != wanted:
                alone[_slices(box, 0.25)] = 128
        alone[_slices(boxes[wanted], 0.1)] = frame[_slices(boxes[wanted], 0.1)]
        return alone

    def _wanted(self, boxes: list[Box]) -> int:
        """Choose the face nearest to where the followed one was last, or else the largest."""
        if 0 not in self._known:
            return int(np.argmax([_area(box) for box in boxes]))
        last = self._known[0][0]
        return int(np.argmin([np.linalg.norm((box - last).sum(axis=0)) for box in boxes]))

    def _named(self, seconds: float, found: list[Face]) -> dict[int, Face]:
        """Give each face the identity of the known one it overlaps most, or a new one."""
        self._known = {
            identity: (box, last)
            for identity, (box, last) in self._known.items()
            if seconds - last <= _FORGET_SECONDS
        }
        identities = list(self._known)
        overlap = np.array(
            [[_overlap(self._known[known][0], face.box) for known in identities] for face in found]
        ).reshape(len(found), len(identities))
        named = {}
        for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[row, column] >= _SAME_FACE:
                named[identities[column]] = found[row]
        matched = {id(face) for face in named.values()}
        for face in found:
            if id(face) not in matched:
                named[self._identities] = face
                self._identities += 1
        return named

    def close(self) -> None:
        """Free the model."""
        self._landmarker.close()
        if self._scout is not None:
            self._scout.close()

    def __enter__(self) -> Self:
        """Return the detector."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free the model."""
        self.close()


def check_faces(faces: str) -> Faces:
    """Return ``faces``, or raise if it is no choice of faces."""
    if faces not in get_args(Faces):
        raise ValueError(f"faces: expected 'largest' or 'all', got {faces!r}")
    return faces  # type: ignore[return-value]  # mypy cannot narrow by get_args


def check_extras(extras: Collection[str]) -> tuple[Extra, ...]:
    """Return the extras in their one order, or raise if one is unknown."""
    known = get_args(Extra)
    if isinstance(extras, str) or (unknown := set(extras) - set(known)):
        got = extras if isinstance(extras, str) else sorted(unknown)
        raise ValueError(f"extras: expected some of {list(known)}, got {got!r}")
    return tuple(extra for extra in known if extra in extras)


def _faces_of(result: Any, frame: NDArray[np.uint8], extras: Collection[Extra]) -> list[Face]:
    """Read MediaPipe's answer."""
    height, width = frame.shape[:2]
    faces = []
    for index, marks in enumerate(result.face_landmarks):
        shares = np.fromiter(chain.from_iterable(map(_COORDINATES, marks)), np.float64)
        points = (shares.reshape(-1, 3) * (width, height, width)).astype(np.float32)
        iris = shapes = pose = None
        if "iris" in extras:
            iris = points[LANDMARKS:]
        if "blendshapes" in extras:
            scores = [category.score for category in result.face_blendshapes[index]]
            shapes = np.array(scores, np.float32)
        if "head_pose" in extras:
            pose = np.array(result.facial_transformation_matrixes[index], np.float32)
        faces.append(Face(points[:LANDMARKS], iris, shapes, pose))
    return faces


def _area(box: Box) -> float:
    return float(np.prod(np.maximum(box[1] - box[0], 0)))


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union, 0 to 1."""
    both = np.stack([np.maximum(one[0], other[0]), np.minimum(one[1], other[1])])
    return _area(both) / max(_area(one) + _area(other) - _area(both), 1e-9)


def _slices(box: Box, margin: float) -> tuple[slice, slice]:
    """Rows and columns of a box, larger by a share of its size on every side."""
    more = margin * (box[1] - box[0])
    (left, top), (right, bottom) = np.maximum(box + np.stack([-more, more]), 0).astype(int)
    return slice(top, bottom + 1), slice(left, right + 1)


_stderr_lock = threading.Lock()
_START_MESSAGES = (
    "Logging before InitGoogle()",
    "FaceBlendshapesGraph acceleration",
    "Created TensorFlow Lite XNNPACK delegate",
    "Feedback manager requires a model",
)


@contextmanager
def _without_start_messages() -> Iterator[None]:
    """Keep MediaPipe's four start-up lines off the terminal, and nothing else.

    They are written to file descriptor 2 by C++ code that heeds no log level, for every video
    again. The descriptor is held for those milliseconds; all other lines are passed on after.
    """
    sys.stderr.flush()
    with _stderr_lock, tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not any(message.encode() in line for message in _START_MESSAGES):
                    os.write(2, line)
