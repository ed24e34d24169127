"""Follow one face through a video with MediaPipe's face landmarker.

Note [Landmark pixels]: coordinates are pixels on all three axes. MediaPipe divides x and z by
the frame's width and y by its height, so its own numbers stretch a face with the shape of the
frame; multiplied back, one unit is the same length along x, y and z. x grows to the right, y
downwards, z away from the camera, with 0 near the centre of the head.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastexai.face_model import face_model_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["LANDMARKS", "FaceDetector"]

LANDMARKS = 468  #: points of MediaPipe's face mesh, without the 10 of the irises


class FaceDetector:
    """MediaPipe's face landmarker, following one face through one video.

    It keeps a track and smooths over time, so use a new one for each video. Where several faces
    are in view it follows one of them. Use it as a context manager.

    Parameters
    ----------
    face_model : path-like, optional
        See `fastexai.face_model.face_model_path`.
    """

    def __init__(self, face_model: str | os.PathLike[str] | None = None) -> None:
        model = face_model_path(face_model)
        # Here, not above: the import takes a second.
        import mediapipe

        tasks = mediapipe.tasks
        options = tasks.vision.FaceLandmarkerOptions(
            # Bytes, not a path: MediaPipe's own file reader is particular about paths on Windows.
            base_options=tasks.BaseOptions(model_asset_buffer=model.read_bytes()),
            running_mode=tasks.vision.RunningMode.VIDEO,
            num_faces=1,
        )
        self._image: Any = mediapipe.Image
        self._srgb = mediapipe.ImageFormat.SRGB
        self._last_ms = -1
        with _without_start_messages():
            self._landmarker = tasks.vision.FaceLandmarker.create_from_options(options)

    def detect(self, seconds: float, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Find the landmarks in the next frame.

        Parameters
        ----------
        seconds : float
            Time of the frame. MediaPipe counts whole, strictly increasing milliseconds; a frame
            less than one after the last is moved to the next.
        frame : ndarray, shape (height, width, 3), uint8
            RGB, contiguous.

        Returns
        -------
        ndarray, shape (468, 3), float32
            Pixels, see Note [Landmark pixels]; all NaN where there is no face.
        """
        self._last_ms = max(round(seconds * 1000), self._last_ms + 1)
        image = self._image(image_format=self._srgb, data=frame)
        faces = self._landmarker.detect_for_video(image, self._last_ms).face_landmarks
        if not faces:
            return np.full((LANDMARKS, 3), np.nan, np.float32)
        height, width = frame.shape[:2]
        points = np.array([(point.x, point.y, point.z) for point in faces[0][:LANDMARKS]])
        return (points * (width, height, width)).astype(np.float32)

    def close(self) -> None:
        """Free the model."""
        self._landmarker.close()

    def __enter__(self) -> Self:
        """Return the detector."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free the model."""
        self.close()


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
