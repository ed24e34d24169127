"""RAVDESS, the Ryerson audio-visual database of emotional speech and song."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from typing import Literal

import pandas as pd

from fastexai.datasets.clip_table import (
    ClipTable,
    StrPath,
    check_root,
    videos_below,
    warn_if_incomplete,
)

# Modality (with a picture), channel, emotion, intensity, statement, repetition, actor.
_NAME = re.compile(r"0[12]-((0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4]))\.\w+")
#: Emotions in the order of their codes, from 01.
_CODES = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
#: Code of a channel; recordings and actors of the whole data set.
_CHANNELS = {"speech": ("01", 1440, 24), "song": ("02", 1012, 23)}


def load_ravdess(root: StrPath, *, channel: Literal["speech", "song"] = "speech") -> pd.DataFrame:
    """List the videos of RAVDESS: 24 actors who speak or sing two sentences with emotion.

    1440 recordings of speech; 1012 of song, without actor 18, disgust and surprise. It is free
    for research: https://zenodo.org/records/1188976, the files ``Video_Speech_Actor_*.zip`` and
    ``Video_Song_Actor_*.zip``. Recordings come with and without sound (modalities 01 and 02);
    their pictures are the same, so each recording is listed once, with sound where both are there.

    Parameters
    ----------
    root : path-like
        Folder with ``Actor_01/01-01-03-01-01-01-01.mp4`` and so on, at any depth.
    channel : {"speech", "song"}
        Which of its halves to list.

    Returns
    -------
    DataFrame
        ``path``, ``label`` (`EMOTIONS` without contempt, "neutral" and "calm"), ``subject``
        (``Actor_01``), ``sequence`` (the name without its modality), ``intensity`` ("normal" or
        "strong"; neutral is always normal), ``statement`` and ``repetition`` (1 or 2).

    Raises
    ------
    FileNotFoundError
        If there is no folder ``root``.
    ValueError
        If it holds no such videos, or there is no such channel.

    Warns
    -----
    UserWarning
        If files cannot be used, which are left out, or the counts are not those above.

    References
    ----------
    Livingstone & Russo, *The Ryerson Audio-Visual Database of Emotional Speech and Song
    (RAVDESS)*, PLoS ONE 13(5), 2018, e0196391.
    """
    if channel not in _CHANNELS:
        raise ValueError(f"channel: expected 'speech' or 'song', got {channel!r}")
    code, recordings, actors = _CHANNELS[channel]
    folder, clips = check_root(root), ClipTable("RAVDESS")
    for file in sorted(videos_below(folder), key=lambda file: file.name):  # 01 before 02
        if not (match := _NAME.fullmatch(file.name)):
            clips.leave_out(file, "its name is not like 01-01-03-01-01-01-01.mp4")
        elif match[2] == code:
            clips.add(
                file,
                _CODES[int(match[3]) - 1],
                f"Actor_{match[7]}",
                sequence=match[1],
                intensity=("normal", "strong")[int(match[4]) - 1],
                statement=int(match[5]),
                repetition=int(match[6]),
            )
    expected = f"root: expected {channel} videos such as Actor_01/01-{code}-03-01-01-01-01.mp4"
    table = clips.finish(expected, folder).drop_duplicates("sequence", ignore_index=True)
    warn_if_incomplete(
        f"RAVDESS {channel}",
        recordings=(recordings, len(table)),
        actors=(actors, table["subject"].nunique()),
    )
    return table
