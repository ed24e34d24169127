"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import contextmanager, suppress
from glob import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UNFINISHED_SECONDS = 10.0  # since the last write to it; a live writer takes less to its next one


@contextmanager
def written_aside(path: Path, *, beside: Path | None = None) -> Iterator[Path]:
    """Yield a hidden name to write to; move it onto ``path`` on success.

    The hidden file is on the same file system, so the move is one atomic rename: a reader sees the
    old file, the new file or none, whoever else writes at the same time. On any exception,
    ``KeyboardInterrupt`` included, the hidden file is removed and ``path`` is as it was. Only a
    process that is killed leaves it behind: see `remove_unfinished`.

    Parameters
    ----------
    path : Path
        The file to appear. Its directory is created where it is missing.
    beside : Path, optional
        What the hidden file is next to and named after, by default ``path``; on the same file
        system.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path if beside is None else beside
    # The suffix stays: writers such as OpenCV's choose the container by it.
    aside = neighbour.with_name(f".{neighbour.stem}-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield aside
        os.replace(aside, path)  # noqa: PTH105 (Path.replace hides that it overwrites)
    finally:
        aside.unlink(missing_ok=True)


def remove_unfinished(beside: Path, suffix: str) -> None:
    """Remove what killed writers left next to ``beside``.

    A file written to in the last ten seconds stays: another process may be at it.

    Parameters
    ----------
    beside : Path
        As `written_aside` was given.
    suffix : str
        Of the files that were to appear, such as ".parquet".
    """
    identifier = "[0-9a-f]" * 32
    for aside in beside.parent.glob(f".{escape(beside.stem)}-{identifier}{suffix}"):
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - aside.stat().st_mtime > _UNFINISHED_SECONDS:
                aside.unlink()
