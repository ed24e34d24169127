"""The command line: one command per stage, and ``demo`` for all of them.

The only module that prints.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

import fastexai as fx
from fastexai.aside import written_aside
from fastexai.demo import run_demo
from fastexai.export import ModelMetadata, read_model
from fastexai.sources import IMAGE_FPS

__all__ = ["app", "main"]

app = typer.Typer(
    help="From face videos to explained, pruned emotion classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)

ModelFile = Annotated[Path, typer.Option("--model", "-m", help="A .pt file written by train.")]
FaceModel = Annotated[
    Path | None, typer.Option(help="MediaPipe's face_landmarker.task; found by itself if left out.")
]
Store = Annotated[Path, typer.Argument(help="A landmark store written by extract.")]
Architecture = Annotated[str, typer.Option(help="bilstm or randomized_bilstm.")]
Emotion = Annotated[str, typer.Option("--emotion", "-e", help="The label that means yes.")]


def main() -> None:
    """Run the command line; what the caller did wrong is one line and exit code 2."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # What OpenCV and FFmpeg say of a broken video beside our own message; workers inherit it.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        app()
    except (ValueError, TypeError, OSError) as error:
        _err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        _err.print("interrupted")
        sys.exit(130)


@app.command()
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
        [_camera_or_path(source) for source in sources],
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
    _out.print(
        f"{out}: {len(store)} clips, {int(table['frames'].sum())} frames, "
        f"{table['detection_share'].mean():.1%} with a face"
    )
    for source, reason in store.failures.items():
        _err.print(f"failed: {source}: {reason}", markup=False, soft_wrap=True)
    if store.failures:
        raise typer.Exit(1)


@app.command()
def train(
    store: Store,
    emotion: Emotion,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .pt file to write.")],
    architecture: Architecture = "randomized_bilstm",
    frames: Annotated[int, typer.Option(help="Frames per clip.")] = 20,
    cv: Annotated[int, typer.Option(help="Subject-independent folds to judge with; 0: none.")] = 0,
    seed: int = 0,
) -> None:
    """Fit a binary classifier: fastexai train clips.parquet -e happiness -o happiness.pt."""
    clips = fx.ClipSet.from_store(fx.LandmarkStore(store), frames=frames)
    clf = fx.EmotionClassifier(emotion, architecture, seed=seed)
    if cv:
        with _stage(f"Judging in {cv} folds"):
            result = fx.cross_validate(clf, clips, folds=cv, seed=seed)
        _print_table(result.table.assign(fold=range(1, cv + 1)).set_index("fold").reset_index())
    with _stage(f"Training {emotion}"):
        clf.fit(clips)
    clf.export(out)
    _out.print(f"{out}: {emotion}, {architecture}, trained on {len(clips)} clips")


@app.command()
def explain(
    source: Annotated[Path, typer.Argument(help="A video, or a landmark store.")],
    model: ModelFile,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write it as JSON.")] = None,
    top: Annotated[int, typer.Option(help="Landmarks to name.")] = 10,
    tol: Annotated[float, typer.Option(help="Relative error of each clip.")] = 1e-2,
    face_model: FaceModel = None,
) -> None:
    """Say what a model looks at: fastexai explain smile.mp4 --model happiness.pt."""
    metadata, _, _ = read_model(model)
    clips = _clips(source, metadata, face_model)
    with _stage(f"Attributing {len(clips)} clips") as progress:
        explanation = fx.explain_dataset(model, clips, tol=tol, progress=progress)
    description = _describe(explanation, clips, top)
    if out is not None:
        with written_aside(out) as aside:
            aside.write_text(json.dumps(description, indent=2))
    _print_table(pd.DataFrame(description["clips"]))
    _print_table(pd.DataFrame(description["regions"]))
    _print_table(pd.DataFrame(description["landmarks"]))


@app.command()
def prune(
    store: Store,
    emotion: Emotion,
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV table to write.")],
    sizes: Annotated[str, typer.Option(help="Landmarks to keep, decreasing.")] = "468,128,64,32,16",
    architecture: Architecture = "randomized_bilstm",
    folds: int = 5,
    frames: int = 20,
    seed: int = 0,
) -> None:
    """Find how few landmarks are enough: fastexai prune clips.parquet -e happiness -o path.csv."""
    try:
        wanted = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        raise ValueError(
            f"sizes: expected whole numbers and commas between, got {sizes!r}"
        ) from None
    clips = fx.ClipSet.from_store(fx.LandmarkStore(store), frames=frames)
    clf = fx.EmotionClassifier(emotion, architecture, seed=seed)
    with _stage(f"Pruning {emotion}") as progress:
        path = fx.prune(clf, clips, wanted, folds=folds, seed=seed, progress=progress)
    with written_aside(out) as aside:
        path.table.to_csv(aside, index=False)
    _print_table(path.table)
    _out.print(f"{out}: {path.best} landmarks are enough (one-standard-error rule)")


@app.command()
def overlay(
    video: Annotated[Path, typer.Argument(help="The video to draw on.")],
    model: ModelFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .mp4 to write.")],
    face_model: FaceModel = None,
) -> None:
    """Draw relevance onto a video: fastexai overlay smile.mp4 --model happiness.pt -o out.mp4."""
    with _stage("Drawing") as progress:
        fx.overlay(video, model, out, face_model=face_model, progress=progress)
    _out.print(f"{out} (without sound)")


@app.command()
def report(
    source: Annotated[Path, typer.Argument(help="A landmark store, or a video.")],
    model: Annotated[list[Path], typer.Option("--model", "-m", help="One or more .pt files.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML page to write.")] = Path(
        "report.html"
    ),
    face_model: FaceModel = None,
) -> None:
    """Write one page about one or more models: fastexai report clips.parquet -m happiness.pt."""
    explanations = []
    for file in model:
        metadata, _, _ = read_model(file)
        clips = _clips(source, metadata, face_model)
        with _stage(f"Attributing {metadata.emotion}") as progress:
            explanations.append(fx.explain_dataset(file, clips, progress=progress))
    _out.print(str(fx.report(explanations, out)))


@app.command()
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
    files, summary = run_demo(out, emotions=emotions, n=n, seed=seed, stage=_stage)
    _print_table(summary)
    for file in files:
        _out.print(str(file), soft_wrap=True, highlight=False)


def _camera_or_path(source: str) -> int | str:
    """Take a number for a camera, unless there is a file or a folder of that name."""
    return int(source) if source.isdecimal() and not Path(source).exists() else source


def _clips(source: Path, metadata: ModelMetadata, face_model: Path | None) -> fx.ClipSet:
    """Clips of a store, or the one clip of a video, as the model wants them."""
    frames, normalization = metadata.frames, metadata.normalization
    if source.is_dir():
        return fx.ClipSet.from_store(
            fx.LandmarkStore(source), frames=frames, normalization=normalization
        )
    with _stage(f"Finding landmarks in {source.name}") as progress:
        clip = fx.extract_landmarks(source, face_model=face_model, progress=progress)
    return fx.ClipSet.from_clips(
        [replace(clip, source=source.name)], frames=frames, normalization=normalization
    )


def _describe(
    explanation: fx.DatasetExplanation, clips: fx.ClipSet, top: int
) -> dict[str, list[dict[str, object]]]:
    """Plain numbers and names, for the terminal and for JSON."""
    share = explanation.relevance / max(explanation.relevance.sum(), np.finfo(float).tiny)
    regions = {name: float(share[fx.mesh.region_landmarks(name)].sum()) for name in fx.mesh.REGIONS}
    probability = 1 / (1 + np.exp(-explanation.output))
    return {
        "clips": [
            {
                "clip": id_,
                explanation.emotion or "probability": float(p),
                "completeness_error": float(e),
            }
            for id_, p, e in zip(
                clips.ids, probability, explanation.completeness_error, strict=True
            )
        ],
        "regions": [
            {"region": name, "relevance": regions[name]}
            for name in sorted(regions, key=lambda name: -regions[name])
        ],
        "landmarks": [
            {"landmark": int(i), "name": fx.mesh.name(int(i)), "relevance": float(share[i])}
            for i in explanation.ranking[:top]
        ],
    }


@contextmanager
def _stage(title: str) -> Iterator[Callable[[int, int], object]]:
    """Show one line with a bar (pulsing while nobody reports) on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
        progress.update(task, completed=1, total=1)


def _print_table(frame: pd.DataFrame) -> None:
    table = Table(*[name.replace("_", " ") for name in frame.columns])
    for row in frame.itertuples(index=False):
        table.add_row(*[_cell(value) for value in row])
    _out.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        number = float(value)
        return f"{number:,.0f}" if abs(number) >= 1e4 else f"{number:.3g}"
    return str(value)
