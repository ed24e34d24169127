"""Labelled videos of one's own: a folder per class, or a table."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import warnings
from pathlib import Path

import pandas as pd

from fastexai.datasets.clip_table import ClipTable, StrPath, check_root, emotion_word, is_hidden
from fastexai.sources import VIDEO_SUFFIXES


def load_folder(root: StrPath, *, subject_pattern: str | None = None) -> pd.DataFrame:
    r"""List the videos of a folder that has one folder per class.

    Parameters
    ----------
    root : path-like
        Folder with ``happy/smile.mp4`` and so on: videos, or folders of images.
    subject_pattern : str, optional
        Regular expression whose one group is the subject, sought in the name of each video or
        folder of images: ``r"^(\w+?)_"`` finds "anna" in ``anna_03.mp4``. Without it each clip
        counts as a person of its own, and scores are too good where people appear twice.

    Returns
    -------
    DataFrame
        ``path``, ``label`` (the class; words such as "happy" become those of `EMOTIONS`) and
        ``subject`` (the group, or class and name).

    Raises
    ------
    FileNotFoundError
        If there is no folder ``root``.
    ValueError
        If it holds no such clips, or ``subject_pattern`` is no regular expression with one group.

    Warns
    -----
    UserWarning
        If files cannot be used, or have no subject: they are left out.
    """
    folder, clips = check_root(root), ClipTable("load_folder")
    subject_of = _compile(subject_pattern)
    for path in sorted(folder.glob("*/*")):
        if is_hidden(path) or is_hidden(path.parent):
            continue
        subject = f"{path.parent.name}/{path.name}"
        if subject_of:
            match = subject_of.search(path.name)
            subject = (match[1] if match else "") or ""
        if not (path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES):
            clips.leave_out(path, "it is neither a video nor a folder of images")
        elif not subject:
            clips.leave_out(path, f"{subject_pattern!r} finds no subject in its name")
        else:
            clips.add(path, emotion_word(path.parent.name), subject)
    return clips.finish(
        "root: expected a folder per class, with videos such as happy/a.mp4", folder
    )


def _compile(subject_pattern: str | None) -> re.Pattern[str] | None:
    if subject_pattern is None:
        return None
    wanted = "subject_pattern: expected a regular expression with one group"
    try:
        pattern = re.compile(subject_pattern)
    except re.error as error:
        raise ValueError(f"{wanted}, got {subject_pattern!r}: {error}") from error
    if pattern.groups != 1:
        raise ValueError(f"{wanted}, got {pattern.groups} in {subject_pattern!r}")
    return pattern


def load_manifest(csv: StrPath) -> pd.DataFrame:
    """List the clips of a CSV file.

    Parameters
    ----------
    csv : path-like
        Table with the columns ``path`` (a video, a folder of images, or a pattern: see Note [Clip
        tables] in `clip_table`; if relative, then to the file's folder), ``label`` (may be empty)
        and, if known, ``subject``. What the other loaders return can be written and read again.

    Returns
    -------
    DataFrame
        ``path``, ``label`` (words such as "happy" become those of `EMOTIONS`), ``subject`` (the
        path as it was written, where none is given: each clip then counts as a person of its own)
        and all other columns.

    Raises
    ------
    FileNotFoundError
        If there is no file ``csv``.
    ValueError
        If it is no such table, a path is missing or there twice, or no clip can be used.

    Warns
    -----
    UserWarning
        If clips cannot be used, which are left out, or have no label.
    """
    file = Path(csv).absolute()
    if not file.is_file():
        raise FileNotFoundError(f"csv: expected a CSV file, got {file}, missing or no file")
    given = _read(file)
    clips = ClipTable("load_manifest")
    for row in given.to_dict("records"):
        path, label = row.pop("path"), emotion_word(row.pop("label"))
        subject = row.pop("subject", "") or path
        clips.add(file.parent / path, label, subject, **{str(name): row[name] for name in row})
    table = clips.finish("csv: expected paths of videos or folders of images", file.parent)
    if unlabelled := int((table["label"] == "").sum()):
        warnings.warn(
            f"load_manifest: {unlabelled} of {len(table)} rows have no label",
            stacklevel=2,
        )
    return table


def _read(file: Path) -> pd.DataFrame:
    """Read and check the table; utf-8-sig because spreadsheets mark their files."""
    wanted = "csv: expected the columns path, label and, if known, subject"
    names = {"path": str, "label": str, "subject": str}
    try:
        table = pd.read_csv(
            file, dtype=names, keep_default_na=False, index_col=False, encoding="utf-8-sig"
        )
    except ValueError as error:  # not text, empty, or rows of different lengths
        raise ValueError(f"{wanted}, got {file}: {error}") from error
    if not {"path", "label"} <= set(table.columns):
        raise ValueError(f"{wanted}; got {', '.join(table.columns)}")
    paths = table["path"]
    if wrong := paths[paths.duplicated() | (paths == "")].tolist():
        raise ValueError(f"csv: expected a path in every row, none twice; got {wrong[0]!r}")
    return table
