"""The paper's experiment from a data set on disk to a report, in one call."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from fastexai.datasets import load_ck_plus, load_crema_d, load_ravdess
from fastexai.experiment import Stage, run_experiment
from fastexai.extraction import extract
from fastexai.landmarks import ClipSet

__all__ = ["DATASETS", "run_replication"]

#: The data sets that `run_replication` knows, and who loads them. CK+48 is another layout of CK+.
DATASETS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "ck+": load_ck_plus,
    "ck+48": load_ck_plus,
    "ravdess": load_ravdess,
    "crema-d": load_crema_d,
}


def run_replication(
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dataset: str,
    stage: Stage,
    emotions: Sequence[str] = (),
    architecture: str = "randomized_bilstm",
    sizes: Sequence[int] = (468, 256, 128, 64, 32, 16, 8),
    frames: int = 20,
    folds: int = 5,
    seed: int = 0,
    workers: int = 1,
    face_model: str | os.PathLike[str] | None = None,
) -> tuple[list[Path], pd.DataFrame]:
    """Extract landmarks, train a binary classifier per emotion, explain, prune and report.

    It follows Di Luzio, Rosato & Panella (arXiv 2407.14865), with folds that share no subject. It
    can be stopped or killed at any time; the same call continues.

    Parameters
    ----------
    root : path-like
        Where the data set is.
    out : path-like
        Folder for the landmark store, the models, the tables and the report.
    dataset : str
        One of ``DATASETS``.
    stage : callable
        See `fastexai.experiment.Stage`.
    emotions : sequence of str
        All that the data set shows, if left out; "neutral" is no emotion.
    architecture, seed
        See `EmotionClassifier`.
    sizes, folds
        See `prune`.
    frames : int
        Frames per clip.
    workers, face_model
        See `extract`.

    Returns
    -------
    files : list of Path
        What was written.
    summary : DataFrame
        One row per emotion; see `run_experiment`.

    Raises
    ------
    ValueError
        If the data set or an emotion is unknown, or an emotion has fewer subjects than folds.
    FileNotFoundError
        If ``root`` is missing.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset: expected one of {', '.join(DATASETS)}, got {dataset!r}")
    table = DATASETS[dataset](Path(root))
    table = table[table["label"] != ""]
    shown = sorted(set(table["label"]) - {"neutral"})
    if unknown := set(emotions) - set(shown):
        raise ValueError(
            f"emotions: expected some of {', '.join(shown)}, got {', '.join(sorted(unknown))}"
        )
    store = extract(table, Path(out) / "clips.parquet", workers=workers, face_model=face_model)
    clips = ClipSet.from_store(store, frames=frames)
    return run_experiment(
        clips,
        Path(out),
        emotions=emotions or shown,
        architecture=architecture,
        seed=seed,
        stage=stage,
        sizes=tuple(sizes),
        folds=folds,
    )
