"""CREMA-D, the crowd-sourced emotional multimodal actors data set."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import pandas as pd

from fastexai.datasets.clip_table import (
    ClipTable,
    StrPath,
    check_root,
    videos_below,
    warn_if_incomplete,
)

# Actor, sentence, emotion, level.
_NAME = re.compile(r"(\d{4})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX)\.\w+")
_CODES = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}


def load_crema_d(root: StrPath) -> pd.DataFrame:
    """List the videos of CREMA-D: 91 actors who say twelve sentences with emotion, 7442 clips.

    It is free: clone https://github.com/CheyneyComputerScience/CREMA-D with Git LFS installed.
    ``label`` is the emotion that the actor was asked for, not what raters saw. A clip that is
    there twice, as flv and converted, is listed once.

    Parameters
    ----------
    root : path-like
        Folder with ``VideoFlash/1001_DFA_ANG_XX.flv`` and so on, at any depth, in any format.

    Returns
    -------
    DataFrame
        ``path``, ``label`` (anger, disgust, fear, happiness, neutral, sadness), ``subject``
        (``1001``), ``sequence`` (``1001_DFA_ANG_XX``), ``sentence`` (its three letters) and
        ``level`` of the emotion: LO, MD, HI, or XX where none was asked for.

    Raises
    ------
    FileNotFoundError
        If there is no folder ``root``.
    ValueError
        If it holds no such videos.

    Warns
    -----
    UserWarning
        If files cannot be used, which are left out, or the counts are not those above.

    References
    ----------
    Cao, Cooper, Keutmann, Gur, Nenkova & Verma, *CREMA-D: Crowd-sourced Emotional Multimodal
    Actors Dataset*, IEEE Transactions on Affective Computing 5(4), 2014.
    """
    folder, clips = check_root(root), ClipTable("CREMA-D")
    for file in videos_below(folder):
        if match := _NAME.fullmatch(file.name):
            actor, sentence, emotion, level = match.groups()
            more = {"sequence": file.stem, "sentence": sentence, "level": level}
            clips.add(file, _CODES[emotion], actor, **more)
        else:
            clips.leave_out(file, "its name is not like 1001_DFA_ANG_XX.flv")
    expected = "root: expected videos such as VideoFlash/1001_DFA_ANG_XX.flv"
    table = clips.finish(expected, folder).drop_duplicates("sequence", ignore_index=True)
    warn_if_incomplete("CREMA-D", clips=(7442, len(table)), actors=(91, table["subject"].nunique()))
    return table
