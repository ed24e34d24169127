"""Watch a face: frames in, painted pictures and what the model says of them out."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from fastexai import mesh
from fastexai.clip_explanation import ClipExplainer, ClipExplanation
from fastexai.face_detector import FaceDetector
from fastexai.live.newest import Newest
from fastexai.overlay.paint import levels, paint, strongest
from fastexai.sources import FrameReader, open_source
from fastexai.video import LandmarkClip

__all__ = ["State", "Watcher"]

Frame = NDArray[np.uint8]

_NODES = 8  # per path: colours need no more
_EVERY_SECONDS = 0.15  # between two answers of the model
_FADE = 0.97  # of the last colour's relevance from one answer to the next, so that nothing flickers
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 80]


@dataclass(frozen=True, slots=True)
class State:
    """What is known at one moment, for people.

    Attributes
    ----------
    status : str
        What is going on, in words.
    frames_per_second : float
        Of the pictures, over the last two seconds.
    explanation : ClipExplanation, optional
        Of the last seconds; None while too little of a face was seen.
    """

    emotion: str
    status: str
    frames_per_second: float
    explanation: ClipExplanation | None

    def describe(self, top: int = 5) -> dict[str, Any]:
        """Return plain numbers and names, for JSON."""
        about: dict[str, Any] = {
            "emotion": self.emotion,
            "status": self.status,
            "frames_per_second": round(self.frames_per_second, 1),
        }
        one = self.explanation
        if one is None:
            return about | {"probability": None, "regions": [], "landmarks": []}
        regions = [[name, round(share, 4)] for name, share in one.regions.items()]
        return about | {
            "probability": round(one.probability, 4),
            "completeness_error": float(f"{one.completeness_error:.2g}"),
            "regions": regions[:top],
            "landmarks": [mesh.name(i) for i, _ in one.landmarks(top)],
        }


class Watcher:
    """Three threads: one reads frames, one finds and paints the face, one asks the model.

    Each takes what is newest when it is ready and leaves out the rest, so that the picture never
    lags behind the camera. Use it as a context manager: inside, ``pictures`` and ``states`` fill.

    Parameters
    ----------
    source : int or path-like
        A camera's index, or a video that is played in its own time, again and again.
    model : path-like
        A file written by ``EmotionClassifier.export``.
    seconds : float
        The model is asked about so much of the time just passed.
    face_model : path-like, optional
        See `fastexai.face_model.face_model_path`.
    """

    def __init__(
        self,
        source: int | str | os.PathLike[str],
        model: str | os.PathLike[str],
        *,
        seconds: float,
        face_model: str | os.PathLike[str] | None,
    ) -> None:
        self.pictures: Newest[bytes] = Newest()  #: JPEG
        self.states: Newest[State] = Newest()
        self._explainer = ClipExplainer(model, n_steps=_NODES)
        self._source, self._seconds = source, seconds
        self._reader: FrameReader = open_source(source)
        self._detector = FaceDetector(face_model)
        self._frames: Newest[tuple[float, Frame]] = Newest()
        self._tracks: Newest[LandmarkClip] = Newest()
        self._level = np.zeros(mesh.LANDMARKS)
        self._done: deque[float] = deque()  # when each of the last pictures was ready
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(3)
        self._work: list[Future[None]] = []

    def __enter__(self) -> Self:
        """Start."""
        for work in (self._read, self._paint, self._ask):
            self._work.append(self._threads.submit(work))
            self._work[-1].add_done_callback(lambda _: self._close())  # one's end is the end of all
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the threads, and free the camera and the detector."""
        self._close()
        self._threads.shutdown()
        self._reader.close()
        self._detector.close()

    def wait(self) -> None:
        """Return when the source ends, and raise what has gone wrong in a thread."""
        for work in self._work:
            work.result()

    def _close(self) -> None:
        self._stop.set()
        for place in (self._frames, self._tracks, self.pictures, self.states):
            place.close()

    def _read(self) -> None:
        """Put frames as they come; a camera ends, where it does, for good."""
        begin, offset, last = time.monotonic(), 0.0, 0.0
        while not self._stop.is_set():
            for seconds, frame in self._reader:
                last = offset + seconds
                if not isinstance(self._source, int):
                    self._stop.wait(max(0.0, begin + last - time.monotonic()))
                if self._stop.is_set():
                    return
                self._frames.put((last, frame))
            if isinstance(self._source, int):
                return
            offset = last + 1 / self._reader.fps
            self._reader.close()
            self._reader = open_source(self._source)

    def _paint(self) -> None:
        """Find the face in each frame that is taken, paint it and keep the last seconds of it."""
        track: deque[tuple[float, NDArray[np.float32]]] = deque()
        missing = np.full((mesh.LANDMARKS, 3), np.nan, np.float32)
        for seconds, frame in self._frames:
            face = self._detector.detect(seconds, frame).get(0)
            track.append((seconds, missing if face is None else face.landmarks))
            while seconds - track[0][0] > self._seconds:
                track.popleft()
            self._tracks.put(self._clip(track, frame))
            if face is not None:
                paint(frame, face.landmarks, self._level)
            ok, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), _JPEG)
            assert ok
            self._done.append(time.monotonic())
            self.pictures.put(jpeg.tobytes())

    def _clip(self, track: deque[tuple[float, NDArray[np.float32]]], frame: Frame) -> LandmarkClip:
        seconds, landmarks = zip(*track, strict=True)
        height, width = frame.shape[:2]
        return LandmarkClip(
            np.stack(landmarks), np.array(seconds), self._reader.fps, (width, height), "live"
        )

    def _ask(self) -> None:
        """Explain the last seconds, again and again."""
        top = 0.0
        for clip in self._tracks:
            status, explanation = self._status(clip), None
            if not status:
                (explanation,) = self._explainer.explain([clip])
                top = max(_FADE * top, strongest(explanation.relevance))
                self._level = levels(explanation.relevance, top)
                status = "watching"
            else:
                self._level = np.zeros(mesh.LANDMARKS)
            emotion = self._explainer.metadata.emotion
            self.states.put(State(emotion, status, self._rate(), explanation))
            self._stop.wait(_EVERY_SECONDS)

    def _status(self, clip: LandmarkClip) -> str:
        """Say why there is no answer; nothing, if there can be one."""
        if clip.detection_share < 0.5:
            return "no face in sight"
        if clip.timestamps[-1] - clip.timestamps[0] < 0.8 * self._seconds:
            return "getting ready"
        return ""

    def _rate(self) -> float:
        """Return pictures per second over the last two seconds."""
        now = time.monotonic()
        while self._done and now - self._done[0] > 2:
            self._done.popleft()
        span = now - self._done[0] if self._done else 0
        return (len(self._done) - 1) / span if span > 0 and len(self._done) > 1 else 0.0
