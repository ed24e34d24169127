"""Run jobs in this process or in several, and tell how far they are."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2

from fastexai.face_detector import FaceDetector
from fastexai.video import clips_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from multiprocessing.sharedctypes import Synchronized
    from pathlib import Path

    from fastexai.face_detector import Extra, Faces
    from fastexai.jobs import Job
    from fastexai.video import LandmarkClip

    Outcome = list[LandmarkClip] | Exception  # an exception says why a job failed

__all__ = ["Meter", "Options", "run"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """How every video is extracted."""

    face_model: Path
    faces: Faces
    extras: tuple[Extra, ...]
    fps: float
    max_seconds: float | None


@dataclass(frozen=True, slots=True)
class Meter:
    """What all processes have done so far; shared memory."""

    frames: Synchronized[int]
    share: Synchronized[float]  # of all jobs, by their size: 0 to 1
    stop: Synchronized[bool]  # set by the parent: workers end at the next frame
    started: Synchronized[int]  # processes that could begin

    @classmethod
    def create(cls) -> Meter:
        """Return one that stands at nothing."""
        context = multiprocessing.get_context("spawn")
        return cls(
            context.Value("q", 0),
            context.Value("d", 0.0),
            context.Value("b", False),
            context.Value("i", 0),
        )


def run(
    jobs: list[Job], options: Options, meter: Meter, workers: int
) -> Generator[tuple[Job, Outcome]]:
    """Yield each job and its outcome as they come; closing it ends all processes.

    Parameters
    ----------
    jobs : list of Job
    options : Options
    meter : Meter
        Is kept up to date meanwhile.
    workers : int
        Processes; 1 is this one.
    """
    sizes = {job.source: job.size() for job in jobs}
    total = sum(sizes.values())
    shares = {source: size / total for source, size in sizes.items()}
    if workers == 1:
        with closing(_Worker(options, meter)) as worker:
            for job in jobs:
                yield job, worker(job, shares[job.source])
    else:
        yield from _run_in_processes(jobs, shares, options, meter, workers)


class _Worker:
    """Extract one video after the other with one detector."""

    def __init__(self, options: Options, meter: Meter) -> None:
        self._options, self._meter = options, meter
        self._detector: FaceDetector | None = None

    def __call__(self, job: Job, share: float) -> Outcome:
        """Return the clips, or why there are none; ``share`` is the job's part of the progress."""
        done = 0.0

        def advance(frames: int, announced: int) -> None:
            nonlocal done
            if self._meter.stop.value:
                raise KeyboardInterrupt
            with self._meter.frames.get_lock():
                self._meter.frames.value += 1
            with self._meter.share.get_lock():
                self._meter.share.value += share * frames / announced - done
            done = share * frames / announced

        try:
            return self._clips(job, advance)
        except Exception as error:  # noqa: BLE001 (whatever a broken file does to its decoder)
            # Whatever state the detector is in, the next video begins with a new one.
            with suppress(Exception):
                self.close()
            return _readable(job, error)
        finally:
            with self._meter.share.get_lock():
                self._meter.share.value += share - done

    def _clips(self, job: Job, progress: Callable[[int, int], object]) -> list[LandmarkClip]:
        options = self._options
        if self._detector is None:
            self._detector = FaceDetector(
                options.face_model, faces=options.faces, extras=options.extras
            )
        return clips_of(
            job.video,
            self._detector,
            fps=options.fps,
            max_seconds=options.max_seconds,
            progress=progress,
        )

    def close(self) -> None:
        """Free the detector."""
        detector, self._detector = self._detector, None
        if detector is not None:
            detector.close()


def _readable(job: Job, error: Exception) -> Exception:
    """Return an exception that says what failed in one line, and that can leave a process."""
    if type(error) in (ValueError, TypeError, FileNotFoundError):
        return error
    _logger.debug("%s", job.source, exc_info=error)
    message = " ".join(str(error).split())
    return ValueError(f"{job.source}: {type(error).__name__}: {message}")


def _run_in_processes(
    jobs: list[Job], shares: dict[str, float], options: Options, meter: Meter, workers: int
) -> Generator[tuple[Job, Outcome]]:
    """Yield outcomes as they come; a video that ends its process fails alone."""
    while jobs:
        finished = set()
        with closing(_pool(jobs, shares, options, meter, workers)) as outcomes:
            for job, outcome in outcomes:
                finished.add(job.source)
                yield job, outcome
        jobs = [job for job in jobs if job.source not in finished]
        if jobs and not meter.started.value:
            raise ChildProcessError(
                "workers: no process could start; in a script, call this below "
                "`if __name__ == '__main__':`, or ask for one worker"
            )
        # A process died. Its video is among those handed out: one and a queued one per worker, and
        # one more. Each of them is read again in a process of its own.
        suspects, jobs = jobs[: 2 * workers + 1], jobs[2 * workers + 1 :]
        for job in suspects:
            died = ValueError(
                f"video: expected one that can be decoded, got {job.source}, which ended the "
                "process that read it (out of memory, or the decoder crashed)"
            )
            yield from list(_pool([job], shares, options, meter, 1)) or [(job, died)]


def _pool(
    jobs: list[Job], shares: dict[str, float], options: Options, meter: Meter, workers: int
) -> Generator[tuple[Job, Outcome]]:
    """Yield outcomes until all jobs are done or a process dies."""
    # Spawned: a fork would copy locks that MediaPipe's or OpenCV's threads hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(options, meter)
    )
    try:
        futures = {pool.submit(_work, job, shares[job.source]): job for job in jobs}
        for future in as_completed(list(futures)):
            try:
                outcome = future.result()
            except BrokenProcessPool:
                return
            yield futures.pop(future), outcome
    except (GeneratorExit, KeyboardInterrupt):
        meter.stop.value = True  # do not wait for the end of long videos
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_worker: _Worker | None = None  # of this process, where it is a worker


def _start_worker(options: Options, meter: Meter) -> None:
    global _worker
    _worker = _Worker(options, meter)
    with meter.started.get_lock():
        meter.started.value += 1
    cv2.setNumThreads(1)  # the other cores are the other workers'
    # Leave Ctrl-C to the parent: a worker ends at once, without a traceback of its own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent was killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(job: Job, share: float) -> Outcome:
    assert _worker is not None
    return _worker(job, share)
