"""What a model looks at: explain, overlay, live and report."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fastexai as fx
from fastexai.aside import written_aside
from fastexai.cli.console import console, stage
from fastexai.cli.options import FaceModel, ModelFile, camera_or_path
from fastexai.clip_explanation import ClipExplainer, clip_table
from fastexai.export import ModelMetadata, read_model

__all__ = ["explain", "live", "overlay", "report"]


def explain(
    source: Annotated[Path, typer.Argument(help="A video, or a landmark store.")],
    model: ModelFile,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write there instead of printing.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, json or csv; if left out, as --out ends."),
    ] = None,
    top: Annotated[int, typer.Option(help="Landmarks to name.")] = 5,
    tol: Annotated[float, typer.Option(help="Relative error of each clip.")] = 1e-2,
    face_model: FaceModel = None,
) -> None:
    """Say what a model sees in each video, where and when: fastexai explain smile.mp4 -m happy.pt.

    Per video: the emotion's probability; the regions and landmarks that decided it, with their
    share of the relevance; the time it was decided in, which is the shortest that holds half of the
    attribution; and the completeness error, in logits.
    """
    if form is None:
        form = out.suffix.lower().removeprefix(".") if out is not None else "table"
        form = form if form in _FORMATS else "table"
    if form not in _FORMATS:
        raise ValueError(f"format: expected table, json or csv, got {form!r}")
    read_model(model)  # what is no model shall not wait for the faces
    with ThreadPoolExecutor(1) as beside:  # a model's first run takes a second, as do the faces
        explainer = beside.submit(ClipExplainer, model, tol=tol)
        clips = _raw_clips(source, face_model)
    with stage(f"Explaining {len(clips)} clips") as progress:
        explained = fx.explain_clips(explainer.result(), clips, progress=progress)
    text = _FORMATS[form](explained, top)
    if out is None:
        typer.echo(text, nl=False)
        return
    with written_aside(out) as aside:
        aside.write_text(text, encoding="utf-8")
    console.print(str(out), soft_wrap=True, highlight=False)


def overlay(
    video: Annotated[Path, typer.Argument(help="The video to draw on.")],
    model: ModelFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .mp4 to write.")],
    face_model: FaceModel = None,
) -> None:
    """Draw relevance onto a video: fastexai overlay smile.mp4 --model happiness.pt -o out.mp4."""
    with stage("Drawing") as progress:
        fx.overlay(video, model, out, face_model=face_model, progress=progress)
    console.print(str(out), soft_wrap=True, highlight=False)


def live(
    model: ModelFile,
    source: Annotated[str, typer.Argument(help="A camera's index, or a video.")] = "0",
    port: Annotated[int, typer.Option(help="Of the page, on this machine; 0: any.")] = 0,
    seconds: Annotated[float, typer.Option(help="Ask the model about so much time.")] = 2.0,
    face_model: FaceModel = None,
) -> None:
    """Watch a camera in a browser page of this machine: fastexai live --model happiness.pt.

    The page shows the face in relevance colours and the emotion's probability. Nothing is stored or
    sent anywhere. Ctrl-C stops it. A video is played in its own time, again and again.
    """
    with suppress(KeyboardInterrupt):
        fx.live(
            camera_or_path(source),
            model,
            port=port,
            seconds=seconds,
            face_model=face_model,
            ready=lambda url: console.print(f"open {url} (Ctrl-C stops)", highlight=False),
        )
    console.print("stopped")


def report(
    source: Annotated[Path, typer.Argument(help="A landmark store, or a video.")],
    model: Annotated[list[Path], typer.Option("--model", "-m", help="One or more .pt files.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML page to write.")] = Path(
        "report.html"
    ),
    pruning: Annotated[
        list[Path] | None, typer.Option(help="A .json file written by prune; repeatable.")
    ] = None,
    face_model: FaceModel = None,
) -> None:
    """Write one page about one or more models: fastexai report clips.parquet -m happiness.pt."""
    paths = [fx.PruningPath.load(file) for file in pruning or ()]
    explanations = []
    for file in model:
        metadata, _, _ = read_model(file)
        clips = _clips(source, metadata, face_model)
        with stage(f"Attributing {metadata.emotion}") as progress:
            explanations.append(fx.explain_dataset(file, clips, progress=progress))
    console.print(str(fx.report([*explanations, *paths], out)), soft_wrap=True, highlight=False)


def _clips(source: Path, metadata: ModelMetadata, face_model: Path | None) -> fx.ClipSet:
    """Clips of a store, or the one clip of a video, as the model wants them."""
    frames, normalization = metadata.frames, metadata.normalization
    raw = _raw_clips(source, face_model)
    return fx.ClipSet.from_clips(raw, frames=frames, normalization=normalization)


def _raw_clips(source: Path, face_model: Path | None) -> fx.LandmarkStore | list[fx.LandmarkClip]:
    """Clips of a store, or the one clip of a video, as they were found."""
    if source.is_dir():
        return fx.LandmarkStore(source)
    with stage(f"Finding landmarks in {source.name}") as progress:
        clip = fx.extract_landmarks(source, face_model=face_model, progress=progress)
    return [replace(clip, source=source.name)]


def _as_table(explained: Sequence[fx.ClipExplanation], top: int) -> str:
    """Lay out one row per clip, as wide as the terminal."""
    table = Table(
        "video", "probability", "decided", "regions", "landmarks", "error", show_lines=True
    )
    for one in explained:
        begin, end = one.decided
        regions = list(one.regions.items())[:top]
        table.add_row(
            escape(one.source),
            f"{escape(one.emotion)}\n{one.probability:.1%}",
            f"{begin:.2f} to {end:.2f} s",
            "\n".join(f"{name} {share:.0%}" for name, share in regions),
            "\n".join(f"{fx.mesh.name(i)} {share:.1%}" for i, share in one.landmarks(top)),
            f"{one.completeness_error:.1e}",
        )
    plain = Console(width=console.width, color_system=None)  # it may be for a file
    with plain.capture() as captured:
        plain.print(table)
    return captured.get()


_FORMATS: dict[str, Callable[[Sequence[fx.ClipExplanation], int], str]] = {
    "table": _as_table,
    "json": lambda explained, top: (
        json.dumps([e.describe(top) for e in explained], indent=2) + "\n"
    ),
    "csv": lambda explained, top: clip_table(explained, top).to_csv(index=False),
}
