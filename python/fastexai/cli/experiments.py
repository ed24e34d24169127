"""Everything in one command: demo and replicate."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from fastexai.cli.console import console, print_table, stage
from fastexai.cli.options import Architecture, FaceModel
from fastexai.demo import run_demo
from fastexai.replicate import run_replication

__all__ = ["demo", "replicate"]


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path(
        "fastexai-demo"
    ),
    emotion: Annotated[list[str] | None, typer.Option("--emotion", "-e")] = None,
    n: Annotated[int, typer.Option(help="Clips to simulate.")] = 400,
    seed: int = 0,
) -> None:
    """Run the whole pipeline on simulated clips: fastexai demo."""
    emotions = emotion or ["happiness", "surprise"]
    files, summary = run_demo(out, emotions=emotions, n=n, seed=seed, stage=stage)
    _print_results(files, summary)


def replicate(
    root: Annotated[Path, typer.Argument(help="The data set's folder.")],
    dataset: Annotated[str, typer.Option(help="ck+, ck+48, ravdess or crema-d.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path(
        "fastexai-replication"
    ),
    emotion: Annotated[
        list[str] | None, typer.Option("--emotion", "-e", help="Repeatable; all if left out.")
    ] = None,
    architecture: Architecture = "randomized_bilstm",
    folds: int = 5,
    frames: Annotated[int, typer.Option(help="Frames per clip.")] = 20,
    workers: Annotated[int, typer.Option(help="Processes that find landmarks.")] = 1,
    seed: int = 0,
    face_model: FaceModel = None,
) -> None:
    """Run the paper's experiment on a data set: fastexai replicate CK+ --dataset ck+.

    Finds landmarks, trains a classifier per emotion, explains, prunes and reports. Stopped or
    killed, it continues where it was when run again.
    """
    files, summary = run_replication(
        root,
        out,
        dataset=dataset,
        stage=stage,
        emotions=emotion or (),
        architecture=architecture,
        folds=folds,
        frames=frames,
        workers=workers,
        seed=seed,
        face_model=face_model,
    )
    _print_results(files, summary)


def _print_results(files: Sequence[Path], summary: pd.DataFrame) -> None:
    print_table(summary)
    for file in files:
        console.print(str(file), soft_wrap=True, highlight=False)
