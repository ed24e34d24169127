"""The command line: one command per stage, and ``demo`` for all of them.

The only package that prints.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
import sys

import cv2
import typer

from fastexai.cli.console import errors
from fastexai.cli.experiments import demo, replicate
from fastexai.cli.extracting import extract
from fastexai.cli.fitting import prune, train
from fastexai.cli.showing import explain, live, overlay, report

__all__ = ["app", "main"]

app = typer.Typer(
    help="From face videos to explained, pruned emotion classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (extract, train, explain, prune, overlay, live, report, demo, replicate):
    app.command()(command)


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
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("interrupted")
        sys.exit(130)
