"""Options that several commands take."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastexai.models import ARCHITECTURES

__all__ = ["Architecture", "Emotion", "FaceModel", "ModelFile", "Store", "camera_or_path"]

ModelFile = Annotated[Path, typer.Option("--model", "-m", help="A .pt file written by train.")]
FaceModel = Annotated[
    Path | None, typer.Option(help="MediaPipe's face_landmarker.task; found by itself if left out.")
]
Store = Annotated[Path, typer.Argument(help="A landmark store written by extract.")]
Architecture = Annotated[str, typer.Option(help=f"One of {', '.join(ARCHITECTURES)}.")]
Emotion = Annotated[str, typer.Option("--emotion", "-e", help="The label that means yes.")]


def camera_or_path(source: str) -> int | str:
    """Take a number for a camera, unless there is a file or a folder of that name."""
    return int(source) if source.isdecimal() and not Path(source).exists() else source
