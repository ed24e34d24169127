"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a hidden name beside ``path`` to write to; move it onto ``path`` on success.

    The hidden file is in the same directory, so the move is one atomic rename: a reader sees the
    old file, the new file or none, whoever else writes at the same time. On any exception,
    ``KeyboardInterrupt`` included, the hidden file is removed and ``path`` is as it was.

    Parameters
    ----------
    path : Path
        The file to appear. Its directory is created where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays: writers such as OpenCV's choose the container by it.
    aside = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield aside
        os.replace(aside, path)  # noqa: PTH105 (Path.replace hides that it overwrites)
    finally:
        aside.unlink(missing_ok=True)
