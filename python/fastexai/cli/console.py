"""What all commands share: where they print to, bars, tables."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["console", "errors", "print_table", "stage"]

console = Console()
errors = Console(stderr=True)


@contextmanager
def stage(title: str) -> Iterator[Callable[[int, int], object]]:
    """Show one line with a bar (pulsing while nobody reports) on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
        progress.update(task, completed=1, total=1)


def print_table(frame: pd.DataFrame) -> None:
    """Print a table with short numbers."""
    table = Table(*[name.replace("_", " ") for name in frame.columns])
    for row in frame.itertuples(index=False):
        table.add_row(*[_cell(value) for value in row])
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        number = float(value)
        return f"{number:,.0f}" if abs(number) >= 1e4 else f"{number:.3g}"
    return str(value)
