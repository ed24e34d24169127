"""From videos to landmarks: extract."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fastexai as fx
from fastexai.cli.console import console, errors
from fastexai.cli.options import FaceModel, camera_or_path
from fastexai.sources import IMAGE_FPS

__all__ = ["extract"]


def extract(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Videos, folders of videos or of numbered images, or a camera's index."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The landmark store to write.")],
    label: Annotated[str | None, typer.Option(help="Emotion shown in all of them.")] = None,
    subject: Annotated[str | None, typer.Option(help="Person shown in all of them.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    on_error: Annotated[str, typer.Option(help="A video that fails: skip or raise.")] = "skip",
    faces: Annotated[str, typer.Option(help="largest, or all: a clip for each face.")] = "largest",
    extra: Annotated[
        list[str] | None, typer.Option(help="Keep iris, blendshapes or head_pose too; repeatable.")
    ] = None,
    fps: Annotated[float, typer.Option(help="Images per second.")] = IMAGE_FPS,
    max_seconds: Annotated[
        float | None, typer.Option(help="Stop each video there; a camera needs it.")
    ] = None,
    face_model: FaceModel = None,
) -> None:
    """Find the face landmarks of videos: fastexai extract smile.mp4 -o clips.parquet.

    Stopped or killed, it continues where it was when run again. The exit code is 0 if all videos
    are in the store, 1 if some failed, 2 if all did or an option is wrong.
    """
    store = fx.extract(
        [camera_or_path(source) for source in sources],
        out,
        workers=workers,
        faces=faces,  # type: ignore[arg-type]  # extract checks the word
        extras=extra or (),  # type: ignore[arg-type]  # extract checks the words
        fps=fps,
        max_seconds=max_seconds,
        face_model=face_model,
        on_error=on_error,  # type: ignore[arg-type]  # extract checks the word
        labels=label,
        subjects=subject,
    )
    table = store.table
    console.print(
        f"{out}: {len(store)} clips, {int(table['frames'].sum())} frames, "
        f"{table['detection_share'].mean():.1%} with a face"
    )
    for source, reason in store.failures.items():
        errors.print(f"failed: {source}: {reason}", markup=False, soft_wrap=True)
    if store.failures:
        raise typer.Exit(1)
