"""CK+, the extended Cohn-Kanade data set, and its small copy CK+48."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pandas as pd

from fastexai.datasets.clip_table import (
    ClipTable,
    StrPath,
    check_root,
    emotion_word,
    is_hidden,
    warn_if_incomplete,
)
from fastexai.sources import images_in

#: Emotions in the order of their codes.
_CODES = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
_CLASSES = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")  # of CK+48
_EXPECTED = (
    "root: expected cohn-kanade-images/S005/001/*.png and Emotion/S005/001/*_emotion.txt, or "
    "CK+48's anger/S010_004_00000017.png and so on"
)


def load_ck_plus(root: StrPath, *, unlabelled: bool = False) -> pd.DataFrame:
    """List the sequences of CK+: posed, from the neutral face to the peak of the expression.

    593 sequences of 123 subjects, 327 of them labelled. Its images are to be had from
    https://www.jeffcohn.net/Resources after signing an agreement; unpack
    ``cohn-kanade-images.zip`` and ``Emotion_labels.zip`` in one folder. The copy called CK+48
    holds the last three images of the labelled sequences as 48 × 48 pixel crops: too few to
    learn movements from.

    Parameters
    ----------
    root : path-like
        Folder with ``cohn-kanade-images`` and ``Emotion`` (or with folders that hold them), or
        CK+48's, with one folder per emotion (or with a folder ``CK+48``).
    unlabelled : bool
        Whether sequences without a label are listed too. CK+48 has none.

    Returns
    -------
    DataFrame
        ``path`` (a folder of images, or in CK+48 a pattern: see Note [Clip tables] in
        `clip_table`), ``label``, ``subject`` (``S005``), ``sequence`` (``S005_001``) and
        ``frames``, the number of images.

    Raises
    ------
    FileNotFoundError
        If there is no folder ``root``.
    ValueError
        If it has neither layout, or no label.

    Warns
    -----
    UserWarning
        If sequences cannot be used, which are left out, or the counts are not those above.

    References
    ----------
    Lucey, Cohn, Kanade, Saragih, Ambadar & Matthews, *The Extended Cohn-Kanade Dataset (CK+)*,
    CVPR Workshops 2010.
    """
    folder, clips = check_root(root), ClipTable("CK+")
    images, emotions = _find(folder, "cohn-kanade-images"), _find(folder, "Emotion")
    if not images:
        _add_crops(clips, _find(folder, "CK+48") or folder)
    elif emotions:
        _add_sequences(clips, images, emotions)
    else:
        raise ValueError(f"root: expected Emotion beside cohn-kanade-images, got none in {folder}")
    table = clips.finish(_EXPECTED, folder)
    labelled = table[table["label"] != ""]
    if labelled.empty:
        raise ValueError(f"root: expected */*/*_emotion.txt with labels, got none in {emotions}")
    counts = {"sequences": len(table), "labelled": len(labelled)}
    if images:
        complete = {"sequences": 593, "labelled": 327, "subjects": 123}
    else:
        complete = {"sequences": 327, "images": 981, "subjects": 118}
    counts |= {"images": int(table["frames"].sum()), "subjects": table["subject"].nunique()}
    warn_if_incomplete("CK+", **{what: (n, counts[what]) for what, n in complete.items()})
    return table if unlabelled else labelled.reset_index(drop=True)


def _find(folder: Path, name: str) -> Path | None:
    """Return the folder of that name in ``folder`` or one level deeper."""
    found = (path for pattern in (name, f"*/{name}") for path in sorted(folder.glob(pattern)))
    return next(filter(Path.is_dir, found), None)


def _add_sequences(clips: ClipTable, images: Path, emotions: Path) -> None:
    """Add the sequences of the original layout."""
    for path in filter(Path.is_dir, sorted(images.glob("*/*"))):
        subject = path.parent.name
        sequence = f"{subject}_{path.name}"
        if not re.fullmatch(r"S\d{3}_\d{3}", sequence):
            clips.leave_out(path, "its name is not like S005/001")
            continue
        try:
            label = _read_label(emotions / subject / path.name)
        except ValueError as error:
            clips.leave_out(path, str(error))
            continue
        clips.add(path, label, subject, sequence=sequence, frames=len(images_in(path)))
    for file in sorted(emotions.glob("*/*/*_emotion.txt")):
        if not (is_hidden(file) or (images / file.parent.relative_to(emotions)).is_dir()):
            clips.leave_out(file, "its sequence has no images")


def _read_label(folder: Path) -> str:
    """Read the label of a sequence, such as "   3.0000000e+00"; "" where there is no file."""
    files = [file for file in folder.glob("*_emotion.txt") if not is_hidden(file)]
    if not files:
        return ""
    texts = [file.read_text(errors="replace").strip() for file in files]
    code = re.fullmatch(r"([0-7])(\.0+(e\+0+)?)?", texts[0])
    if len(texts) > 1 or not code:
        raise ValueError(f"expected one code from 0 to 7 in its *_emotion.txt, got {texts}")
    return _CODES[int(code[1])]


def _add_crops(clips: ClipTable, folder: Path) -> None:
    """Add the sequences of CK+48, whose images lie side by side."""
    for name in _CLASSES:
        frames: Counter[str] = Counter()
        for image in images_in(folder / name):
            if match := re.fullmatch(r"(S\d{3}_\d{3})_\d{8}\.png", image.name):
                frames[match[1]] += 1
            else:
                clips.leave_out(image, "its name is not like S010_004_00000017.png")
        for sequence, count in frames.items():
            path, subject = folder / name / f"{sequence}_*.png", sequence[:4]
            clips.add(path, emotion_word(name), subject, sequence=sequence, frames=count)
