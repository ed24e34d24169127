"""The whole pipeline on simulated clips: from landmarks to a report in one call."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fastexai.datasets import simulate_expressions
from fastexai.experiment import Stage, run_experiment

__all__ = ["run_demo"]


def run_demo(
    out: Path, *, emotions: Sequence[str], n: int, seed: int, stage: Stage
) -> tuple[list[Path], pd.DataFrame]:
    """Simulate ``n`` clips and run the experiment on them (`run_experiment`).

    Few sizes, inner folds and random subsets: it is to be over in a minute.
    """
    with stage(f"Simulating {n} clips"):
        clips = simulate_expressions(n, seed=seed)
    return run_experiment(
        clips,
        out,
        emotions=emotions,
        architecture="randomized_bilstm",
        seed=seed,
        stage=stage,
        sizes=(468, 32, 16),
        inner_folds=2,
        random_subsets=2,
    )
