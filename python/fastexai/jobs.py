"""What `extract` is asked for, brought into one form: one job per video."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from fastexai.sources import VIDEO_SUFFIXES, images_in, sequence_name

if TYPE_CHECKING:
    from fastexai.sources import StrPath

    OneSource = StrPath | int | Sequence[StrPath]  # what the frames of one video are in
    Sources = StrPath | int | Iterable[OneSource] | pd.DataFrame
    Names = str | Sequence[str | None] | Mapping[str, str]

__all__ = ["Job", "jobs_of"]


@dataclass(frozen=True, slots=True)
class Job:
    """One video to extract, and what is known of it."""

    source: str  # absolute path, or another name that no other clip has
    video: str | int | tuple[str, ...]  # what `open_source` takes
    label: str | None
    subject: str | None

    def files(self) -> list[Path]:
        """Return what is read from disk."""
        if isinstance(self.video, int):
            return []
        if isinstance(self.video, tuple):
            return [Path(image) for image in self.video]
        return images_in(Path(self.video)) or [Path(self.video)]

    def size(self) -> int:
        """Bytes: what a job weighs in the progress bar, as clips differ in length."""
        return sum(file.stat().st_size for file in self.files() if file.exists()) or 1


def jobs_of(sources: Sources, labels: Names | None, subjects: Names | None) -> list[Job]:
    """Return the jobs of `extract`, in its order; see there for parameters and exceptions."""
    if isinstance(sources, pd.DataFrame):
        return _jobs_of_table(sources, labels, subjects)
    videos = _videos_of(sources)
    return _jobs(videos, _names("labels", labels, videos), _names("subjects", subjects, videos))


def _videos_of(sources: StrPath | int | Iterable[OneSource]) -> list[OneSource]:
    """Return one entry per clip: folders of videos are expanded."""
    given: Iterable[OneSource]
    if isinstance(sources, str | os.PathLike | int):
        if not isinstance(sources, int) and not _is_there(Path(sources)):
            raise FileNotFoundError(
                f"sources: expected a video or a folder, got {sources}: it is missing"
            )
        given = [sources]
    else:
        given = sources
    videos: list[OneSource] = []
    for source in given:
        inside = _videos_in(source) if isinstance(source, str | os.PathLike) else []
        videos += inside or [source]
    if not videos:
        raise ValueError(f"sources: expected one video or more, got none in {sources!r}")
    return videos


def _is_there(path: Path) -> bool:
    return path.exists() or bool(images_in(path))


def _videos_in(path: StrPath) -> list[Path]:
    folder = Path(path)
    if not folder.is_dir():
        return []
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in VIDEO_SUFFIXES and not file.name.startswith(".")
    )


def _jobs_of_table(table: pd.DataFrame, labels: Names | None, subjects: Names | None) -> list[Job]:
    if labels is not None or subjects is not None:
        raise ValueError("labels, subjects: expected None beside a table, which has its own")
    if "path" not in table:
        raise ValueError(f"sources: expected a column 'path', got {list(map(str, table.columns))}")
    if not len(table):
        raise ValueError("sources: expected one clip or more, got a table of none")
    videos: list[OneSource] = list(table["path"])
    if "frames" in table:  # a number of frames, as some tables have, says nothing here
        videos = [
            tuple(images) if isinstance(images, tuple | list) else video
            for images, video in zip(table["frames"], videos, strict=True)
        ]
    columns = [
        list(table[name]) if name in table else [None] * len(table) for name in ("label", "subject")
    ]
    return _jobs(videos, *columns)


def _jobs(
    videos: list[OneSource], labels: Sequence[object], subjects: Sequence[object]
) -> list[Job]:
    jobs: dict[str, Job] = {}
    for number, (video, label, subject) in enumerate(zip(videos, labels, subjects, strict=True)):
        source, opened = _named(video, number)
        job = Job(source, opened, _text("labels", label), _text("subjects", subject))
        if (other := jobs.setdefault(source, job)) != job:
            raise ValueError(
                f"sources: expected {source} once, got it as "
                f"(label, subject) {(other.label, other.subject)} and {(job.label, job.subject)}"
            )
    return list(jobs.values())


def _named(video: OneSource, number: int) -> tuple[str, str | int | tuple[str, ...]]:
    """Return the name that a clip has in the store, and what `open_source` takes."""
    if isinstance(video, str | os.PathLike):
        return str(Path(video).absolute()), os.fspath(video)
    if isinstance(video, int):
        return f"camera {video}", video
    if isinstance(video, list | tuple) and video:
        images = tuple(os.fspath(i) for i in video if isinstance(i, str | os.PathLike))
        if len(images) == len(video):
            return sequence_name(images), images
    raise TypeError(
        f"sources: expected paths, tuples of image paths or camera indices, got "
        f"{type(video).__name__} at position {number}"
    )


def _names(name: str, given: Names | None, videos: list[OneSource]) -> list[str | None]:
    """Bring labels or subjects into the order of the videos."""
    if given is None or isinstance(given, str):
        return [given] * len(videos)
    if isinstance(given, Mapping):
        files = [Path(v).name if isinstance(v, str | os.PathLike) else None for v in videos]
        if unknown := set(given) - set(files):
            raise ValueError(f"{name}: expected names of the videos, got {sorted(unknown)}")
        return [None if file is None else given.get(file) for file in files]
    if len(given) != len(videos):
        raise ValueError(f"{name}: expected {len(videos)}, one per video, got {len(given)}")
    return list(given)


def _text(name: str, value: object) -> str | None:
    """Return a label or a subject as text; what is missing or empty is None."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    raise TypeError(f"{name}: expected text, got {value!r}")
