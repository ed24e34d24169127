"""A camera, the probability of an emotion and its relevance, in a browser page of this machine."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import os
from collections.abc import Callable

from fastexai.live.serve import Server
from fastexai.live.watch import Watcher

__all__ = ["live"]


def live(
    source: int | str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    port: int = 0,
    seconds: float = 2.0,
    face_model: str | os.PathLike[str] | None = None,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Watch a face in a browser page until interrupted, or until the camera ends.

    The page shows the face in relevance colours, the emotion's probability and the regions that the
    model looks at, as pictures and as text. Only programs of this machine can open it; nothing is
    stored or sent anywhere. What cannot be worked off in time is left out, so the picture does not
    lag.

    Parameters
    ----------
    source : int or path-like
        A camera's index; or a video, which is played in its own time, again and again.
    model : path-like
        A file written by ``EmotionClassifier.export``.
    port : int
        Of the page; 0 takes any that is free.
    seconds : float
        The model is asked about so much of the time just passed. It should be about the length of
        the clips that the model has learned from.
    face_model : path-like, optional
        See `fastexai.face_model.face_model_path`.
    ready : callable, optional
        Called with the page's address as soon as it can be opened.

    Raises
    ------
    FileNotFoundError
        If the video, the model or the face model is missing.
    ValueError
        If the camera or the video cannot be read, the model is no such file, the port is taken, or
        ``seconds`` is not positive.
    KeyboardInterrupt
        On Ctrl-C, after camera and port are free again.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds: expected a positive number, got {seconds}")
    with (
        Watcher(source, model, seconds=seconds, face_model=face_model) as watcher,
        Server(watcher.pictures, watcher.states, port) as server,
    ):
        if ready is not None:
            ready(server.url)
        watcher.wait()
