"""The table that every labelled data set becomes, and the checks that all of them share.

Note [Clip tables]: a table has one row per clip. ``path`` is absolute: a video, a folder of images
or, where one folder holds the images of several clips, a pattern such as ``anger/S010_004_*.png``.
``label`` is an emotion (`EMOTIONS`), "neutral", or else the data set's own word; "" where there is
none. ``subject`` says who shows it. `fastexai.extract` takes such a table.

Files that cannot be used are left out and named in one warning: one stray file of thousands must
not stop the work, and none may vanish silently. It is an error if nothing is left.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path

import pandas as pd

from fastexai.datasets.action_units import EMOTIONS
from fastexai.sources import VIDEO_SUFFIXES, images_in

StrPath = str | os.PathLike[str]

_WORDS = {word: word for word in (*EMOTIONS, "neutral", "calm")} | {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}
_LFS_POINTER = b"version https://git-lfs"  # about 130 bytes that stand for a file


def emotion_word(name: str) -> str:
    """Return this package's word for an emotion; a word of another kind stays as it is."""
    return _WORDS.get(name.strip().lower(), name.strip())


def check_root(root: StrPath) -> Path:
    """Return ``root`` as an absolute path, or raise if it is no folder."""
    folder = Path(root).absolute()
    if not folder.exists():
        raise FileNotFoundError(f"root: expected a data set's folder, got {folder}, missing")
    if not folder.is_dir():
        raise ValueError(f"root: expected a data set's folder, got {folder}, a file")
    return folder


def is_hidden(path: Path) -> bool:
    """Whether an operating system put this file there (``.DS_Store``, ``._S005.png``)."""
    return path.name.startswith(".")


def videos_below(folder: Path) -> list[Path]:
    """All videos in a folder and its folders, in the order of their paths."""
    files = (file for file in folder.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)
    return sorted(file for file in files if not is_hidden(file))


def _why_unusable(path: Path) -> str:
    """Say what keeps a clip of Note [Clip tables] from being read; "" if nothing seems to."""
    files = images_in(path) if path.is_dir() or "*" in path.name else [path]
    for file in files:
        if not os.access(file, os.R_OK):
            return f"{file.name} is missing or not readable"
        size = file.stat().st_size
        if size == 0:
            return f"{file.name} is empty"
        if size < 200 and file.read_bytes().startswith(_LFS_POINTER):
            return f"{file.name} is only a pointer: run `git lfs pull`"
    return "" if files else "it holds no images"


class ClipTable:
    """The clips of a data set while they are collected: each is a row, or left out by name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rows: list[dict[str, object]] = []
        self._left_out: dict[Path, str] = {}

    def add(self, path: Path, label: str, subject: str, **more: object) -> None:
        """Append a row, or leave the clip out if it cannot be read."""
        if why := _why_unusable(path):
            self.leave_out(path, why)
        else:
            self._rows.append({"path": str(path), "label": label, "subject": subject, **more})

    def leave_out(self, path: Path, why: str) -> None:
        """Remember what is not in the table."""
        self._left_out[path] = why

    def finish(self, expected: str, root: Path) -> pd.DataFrame:
        """Return the table; warn of what was left out, raise if that is everything.

        ``expected`` begins with the argument's name; ``root`` is where the clips were sought.
        """
        named = [f"{path} ({why})" for path, why in list(self._left_out.items())[:5]]
        rest = len(self._left_out) - len(named)
        left_out = "; ".join([*named, *([f"and {rest} more"] if rest else [])])
        if not self._rows:
            raise ValueError(f"{expected}; got {left_out or _contents(root)}")
        if left_out:
            what = f"left out {len(self._left_out)} that cannot be used: {left_out}"
            warnings.warn(f"{self._name}: {what}", stacklevel=3)  # at the caller of a loader
        return pd.DataFrame(self._rows)


def _contents(folder: Path) -> str:
    """Count the files below a folder by their suffix."""
    kinds = Counter(file.suffix or file.name for file in folder.rglob("*") if file.is_file())
    return ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(4)) or "an empty folder"


def warn_if_incomplete(name: str, **counts: tuple[int, int]) -> None:
    """Warn if a copy of a data set is not the whole: ``counts`` are (expected, got)."""
    if any(expected != got for expected, got in counts.values()):
        expected, got = (
            ", ".join(f"{pair[i]} {what}" for what, pair in counts.items()) for i in (0, 1)
        )
        warnings.warn(f"{name}: expected {expected}; got {got}", stacklevel=3)
