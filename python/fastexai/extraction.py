"""Fill a store with the landmarks of many videos."""

from __future__ import annotations

import logging
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastexai.face_detector import check_extras, check_faces
from fastexai.face_model import face_model_path
from fastexai.jobs import jobs_of
from fastexai.sources import IMAGE_FPS, VIDEO_SUFFIXES
from fastexai.store import LandmarkStore, default_id
from fastexai.workers import Meter, Options, run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from fastexai.face_detector import Extra, Faces
    from fastexai.jobs import Job, Names, Sources
    from fastexai.sources import StrPath
    from fastexai.video import LandmarkClip

__all__ = ["VIDEO_SUFFIXES", "extract"]

_logger = logging.getLogger(__name__)


def extract(
    sources: Sources,
    out: StrPath,
    *,
    workers: int = 1,
    faces: Faces = "largest",
    extras: Collection[Extra] = (),
    fps: float = IMAGE_FPS,
    max_seconds: float | None = None,
    face_model: StrPath | None = None,
    on_error: Literal["skip", "raise"] = "skip",
    progress: bool = True,
    labels: Names | None = None,
    subjects: Names | None = None,
) -> LandmarkStore:
    """Find the landmarks of many videos and keep them in a store.

    It can be stopped or killed at any time and called again: finished clips are kept, whole, and
    videos that are in the store already (by their absolute path) are not read again; their labels
    and whatever else they were extracted with stay too.

    Parameters
    ----------
    sources : path-like, int, iterable of these or DataFrame
        Videos; folders of videos, which are taken in the order of their names; folders of numbered
        images, patterns such as ``S010_004_*.png`` and tuples of image paths, each of which is one
        clip; indices of cameras. Or a table with one row per clip, as `fastexai.datasets` loads:
        the column ``path``, and optionally ``label``, ``subject`` and, with a tuple of image
        paths in a row that takes its images from there, ``frames``.
    out : path-like
        The store's directory; made where it is missing.
    workers : int
        Processes to spread the videos over. They are spawned: call this below
        ``if __name__ == "__main__":`` in a script.
    faces : {"largest", "all"}
        One clip per video (`fastexai.extract_landmarks`), or one for each face
        (`fastexai.extract_faces`); a label or a subject is then that of all its faces.
    extras, fps, max_seconds
        See `fastexai.extract_landmarks`.
    face_model : path-like, optional
        See `fastexai.face_model.face_model_path`.
    on_error : {"skip", "raise"}
        Whether a video that fails (broken, missing, no face, the end of the process that reads it)
        is logged, noted in the returned store's ``failures`` and skipped, or its exception raised.
    progress : bool
        Show a progress bar where standard error is a terminal.
    labels, subjects : str, sequence or mapping, optional
        One label or subject for all videos; one for each, in the order of ``sources`` with folders
        of videos expanded; or a mapping from file name, such as ``smile.mp4``, to label or subject.

    Returns
    -------
    LandmarkStore
        The whole store, with what an earlier call put there.

    Raises
    ------
    FileNotFoundError
        If ``sources`` is one path and missing, or the face model is.
    ChildProcessError
        If no worker process could start.
    TypeError
        If a source, label or subject is of a type that is not described here.
    ValueError
        If there are no videos, all of them failed (the message lists the reasons), a source is
        given twice with two labels or subjects, or an option has a value that is not described
        here.
    """
    if workers < 1:
        raise ValueError(f"workers: expected 1 or more, got {workers}")
    if on_error not in ("skip", "raise"):
        raise ValueError(f"on_error: expected 'skip' or 'raise', got {on_error!r}")
    faces, extras = check_faces(faces), check_extras(extras)
    jobs = jobs_of(sources, labels, subjects)
    model = face_model_path(face_model)  # before the workers, which would all fetch it
    options = Options(model, faces, extras, fps, max_seconds)
    with _store_at(Path(out)) as store:
        known = set(store.table["source"])
        waiting = [job for job in jobs if job.source not in known]
        _fill(store, waiting, options, max(1, min(workers, len(waiting))), on_error, progress)
        if not len(store):
            reasons = "".join(f"\n  {what}: {why}" for what, why in store.failures.items())
            raise ValueError(f"sources: all {len(jobs)} failed:{reasons}")
    return store


def _fill(
    store: LandmarkStore,
    jobs: list[Job],
    options: Options,
    workers: int,
    on_error: str,
    progress: bool,
) -> None:
    """Run the jobs; only this process writes to the store."""
    meter = Meter.create()
    with (
        _progress_bar(len(jobs), meter, progress) as advance,
        closing(run(jobs, options, meter, workers)) as outcomes,
    ):
        for job, outcome in outcomes:
            if not isinstance(outcome, Exception):
                _keep(store, job, outcome)
            elif on_error == "raise":
                raise outcome
            else:
                _logger.warning("skipped %s: %s", job.source, outcome)
                store.failures[job.source] = str(outcome)
            advance()


def _keep(store: LandmarkStore, job: Job, clips: list[LandmarkClip]) -> None:
    """Append the clips of one video, so that its own source is in the store only when all are."""
    for clip in reversed(clips):
        if (
            default_id(clip.source) not in store
        ):  # else it is from a call that was stopped in between
            store.append(replace(clip, label=job.label, subject=job.subject))


@contextmanager
def _store_at(out: Path) -> Iterator[LandmarkStore]:
    """Open the store; a directory made for it is removed again if no clip came."""
    is_new = not out.exists()
    store = LandmarkStore.create(out)
    try:
        yield store
    finally:
        if is_new and not len(store):
            out.rmdir()
        else:
            store.remove_unfinished()


@contextmanager
def _progress_bar(total: int, meter: Meter, show: bool) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error, where that is a terminal; yield what counts a clip."""
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    class Bar(Progress):
        """Reads the meter whenever it is drawn, which a thread does ten times a second."""

        began = 0.0

        def get_renderables(self) -> Iterable[RenderableType]:
            frames = meter.frames.value
            if not frames:
                self.began = time.monotonic()  # what follows is without the start of the workers
            rate = frames / max(time.monotonic() - self.began, 1e-3)
            for task in self.tasks:
                self.update(task.id, completed=meter.share.value, rate=rate)
            return super().get_renderables()

    console = Console(stderr=True)
    disable = not (show and console.is_terminal)
    columns = (
        TextColumn("Extracting landmarks"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[clips]}/{task.fields[of]} clips"),
        TextColumn("{task.fields[rate]:.0f} frames/s"),
        TimeRemainingColumn(),
    )
    clips = 0
    with Bar(*columns, console=console, disable=disable) as bar:
        task = bar.add_task("", total=1.0, clips=0, of=total, rate=0.0)

        def advance() -> None:
            nonlocal clips
            clips += 1
            bar.update(task, clips=clips)

        yield advance
