"""Fill a store with the landmarks of many videos."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastexai.face_model import face_model_path
from fastexai.store import LandmarkStore
from fastexai.video import extract_landmarks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from fastexai.video import LandmarkClip

    StrPath = str | os.PathLike[str]
    Names = Sequence[str | None] | Mapping[str, str]

__all__ = ["VIDEO_SUFFIXES", "extract"]

#: The files of a folder that `extract` takes for videos.
VIDEO_SUFFIXES = frozenset(
    (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """One video to extract, and what is known of it."""

    source: str  # absolute path
    label: str | None
    subject: str | None


def extract(
    videos: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    workers: int = 1,
    face_model: StrPath | None = None,
    on_error: Literal["skip", "raise"] = "skip",
    progress: bool = True,
    labels: Names | None = None,
    subjects: Names | None = None,
) -> LandmarkStore:
    """Find the landmarks of many videos and keep them in a store.

    It can be stopped at any time and called again: finished clips are kept, whole, and videos that
    are in the store already (by their absolute path) are not read again; their labels stay too.

    Parameters
    ----------
    videos : path-like or iterable of path-like
        Videos, or one video, or a folder, whose videos are taken in the order of their names.
    out : path-like
        The store's directory; made where it is missing.
    workers : int
        Processes to spread the videos over. They are spawned: call this below
        ``if __name__ == "__main__":`` in a script.
    face_model : path-like, optional
        See `fastexai.face_model.face_model_path`.
    on_error : {"skip", "raise"}
        Whether a video that fails (broken, missing, no face) is logged, noted in the returned
        store's ``failures`` and skipped, or its exception raised.
    progress : bool
        Show a progress bar where standard error is a terminal.
    labels, subjects : sequence or mapping, optional
        One label or subject per video, in the order of ``videos``; or a mapping from file name,
        such as ``smile.mp4``, to label or subject.

    Returns
    -------
    LandmarkStore
        The whole store, with what an earlier call put there.

    Raises
    ------
    FileNotFoundError
        If ``videos`` is one path and missing, or the face model is.
    ValueError
        If there are no videos, all of them failed (the message lists the reasons), or an option
        has a value that is not described here.
    """
    if workers < 1:
        raise ValueError(f"workers: expected 1 or more, got {workers}")
    if on_error not in ("skip", "raise"):
        raise ValueError(f"on_error: expected 'skip' or 'raise', got {on_error!r}")
    jobs = _jobs(_video_files(videos), labels, subjects)
    model = face_model_path(face_model)  # before the workers, which would all fetch it
    with _store_at(Path(out)) as store:
        known = set(store.table["source"])
        waiting = [job for job in jobs if job.source not in known]
        with _progress_bar(len(jobs), len(jobs) - len(waiting), progress) as advance:
            _fill(store, waiting, model, workers, on_error, advance)
        if not len(store):
            reasons = "".join(f"\n  {what}: {why}" for what, why in store.failures.items())
            raise ValueError(f"videos: all {len(jobs)} failed:{reasons}")
    return store


def _fill(
    store: LandmarkStore,
    jobs: list[_Job],
    model: Path,
    workers: int,
    on_error: str,
    advance: Callable[[], None],
) -> None:
    """Run the jobs; only this process writes to the store."""
    run = _run_here if workers == 1 else _run_in_processes
    with closing(run(jobs, model, min(workers, len(jobs)))) as results:
        for job, result in results:
            if not isinstance(result, Exception):
                store.append(result)
            elif on_error == "raise":
                raise result
            else:
                _logger.warning("skipped %s: %s", job.source, result)
                store.failures[job.source] = str(result)
            advance()


def _extract_job(job: _Job, model: Path) -> LandmarkClip:
    clip = extract_landmarks(job.source, face_model=model)
    return replace(clip, label=job.label, subject=job.subject)


def _run_here(
    jobs: list[_Job], model: Path, _workers: int
) -> Generator[tuple[_Job, LandmarkClip | Exception]]:
    for job in jobs:
        yield job, _outcome(partial(_extract_job, job, model))


def _run_in_processes(
    jobs: list[_Job], model: Path, workers: int
) -> Generator[tuple[_Job, LandmarkClip | Exception]]:
    """Yield results as they come; stop early without waiting for jobs that have not begun."""
    if not jobs:
        return
    # Spawned: a fork would copy locks that MediaPipe's or OpenCV's threads hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_die_quietly)
    try:
        futures = {pool.submit(_extract_job, job, model): job for job in jobs}
        for future in as_completed(list(futures)):
            yield futures.pop(future), _outcome(future.result)
    finally:
        pool.shutdown(cancel_futures=True)


def _outcome(run: Callable[[], LandmarkClip]) -> LandmarkClip | Exception:
    try:
        return run()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "videos: a worker process was killed (out of memory, or a decoder crashed); "
            "finished clips are kept, so call again, with workers=1 to find the file"
        ) from error
    except Exception as error:  # noqa: BLE001 (whatever a broken file does to its decoder)
        return error


def _die_quietly() -> None:
    """Leave Ctrl-C to the parent: a worker ends at once, without a traceback of its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _video_files(videos: StrPath | Iterable[StrPath]) -> list[Path]:
    if not isinstance(videos, (str, os.PathLike)):
        files = [Path(video) for video in videos]
    elif (path := Path(videos)).is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
    elif path.is_file():
        files = [path]
    else:
        raise FileNotFoundError(f"videos: expected a video or a folder, got {path}: it is missing")
    if not files:
        raise ValueError(f"videos: expected one video or more, got none in {videos!r}")
    return files


def _jobs(files: list[Path], labels: Names | None, subjects: Names | None) -> list[_Job]:
    columns = zip(
        files, _names("labels", labels, files), _names("subjects", subjects, files), strict=True
    )
    jobs: dict[str, _Job] = {}
    for file, label, subject in columns:
        source = str(file.absolute())
        jobs.setdefault(source, _Job(source, label, subject))
    return list(jobs.values())


def _names(name: str, given: Names | None, files: list[Path]) -> list[str | None]:
    """Bring labels or subjects into the order of the files."""
    if given is None:
        return [None] * len(files)
    if isinstance(given, Mapping):
        if unknown := set(given) - {file.name for file in files}:
            raise ValueError(f"{name}: expected names of the videos, got {sorted(unknown)}")
        return [given.get(file.name) for file in files]
    if isinstance(given, str) or len(given) != len(files):
        got = repr(given) if isinstance(given, str) else len(given)
        raise ValueError(f"{name}: expected {len(files)}, one per video, got {got}")
    return list(given)


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


@contextmanager
def _progress_bar(total: int, done: int, show: bool) -> Iterator[Callable[[], None]]:
    """Show a bar over clips on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    console = Console(stderr=True)
    disable = not (show and console.is_terminal)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=disable) as bar:
        task = bar.add_task("Extracting landmarks", total=total, completed=done)
        yield lambda: bar.advance(task)
