"""The whole pipeline on simulated clips: from landmarks to a report in one call."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
from sklearn.metrics import roc_auc_score

from fastexai.aside import written_aside
from fastexai.datasets import simulate_expressions
from fastexai.explanation import DatasetExplanation, explain_dataset
from fastexai.pruning import PruningPath, prune
from fastexai.report import report
from fastexai.training import EmotionClassifier

__all__ = ["run_demo"]

Stage = Callable[[str], AbstractContextManager[Callable[[int, int], object]]]

_SIZES = (468, 64, 32, 16)


def run_demo(
    out: Path, *, emotions: Sequence[str], n: int, seed: int, stage: Stage
) -> tuple[list[Path], pd.DataFrame]:
    """Simulate, train, export, explain, prune and report.

    Parameters
    ----------
    out : Path
        Folder for the files; created if missing.
    emotions : sequence of str
        One classifier each.
    n : int
        Clips to simulate.
    seed : int
        Of the simulation, the folds and the networks.
    stage : callable
        ``stage(title)`` is a context manager that yields a progress callback (done, total).

    Returns
    -------
    files : list of Path
        What was written: a ``.pt`` per emotion, ``pruning.csv`` and ``report.html``.
    summary : DataFrame
        One row per emotion: balanced accuracy with all and with the best number of landmarks, the
        random control there, and how well the relevance finds the truly moved landmarks (ROC-AUC).
    """
    with stage(f"Simulating {n} clips"):
        clips = simulate_expressions(n, seed=seed)
    assert clips.relevant is not None  # simulated clips know their truth
    out.mkdir(parents=True, exist_ok=True)
    explanations: list[DatasetExplanation] = []
    paths: list[PruningPath] = []
    files: list[Path] = []
    rows = []
    for emotion in emotions:
        clf = EmotionClassifier(emotion, "randomized_bilstm", seed=seed)
        with stage(f"Training {emotion}"):
            clf.fit(clips)
            files.append(out / f"{emotion}.pt")
            clf.export(files[-1])
        with stage(f"Explaining {emotion}") as progress:
            explanations.append(explain_dataset(files[-1], clips, progress=progress))
        with stage(f"Pruning {emotion}") as progress:
            paths.append(prune(clf, clips, _SIZES, random_subsets=2, seed=seed, progress=progress))
        truth_auc = roc_auc_score(clips.relevant[emotion], explanations[-1].relevance)
        rows.append({**_summary(paths[-1]), "relevance_vs_truth_auc": truth_auc})
    with stage("Writing the report"):
        table = pd.concat([path.table.assign(emotion=path.emotion) for path in paths])
        files.append(out / "pruning.csv")
        with written_aside(files[-1]) as aside:
            table.set_index("emotion").to_csv(aside)
        files.append(report([*explanations, *paths], out / "report.html"))
    return files, pd.DataFrame(rows)


def _summary(path: PruningPath) -> dict[str, object]:
    by_size = path.table.set_index("landmarks")
    return {
        "emotion": path.emotion,
        "balanced_accuracy_all": by_size["balanced_accuracy"].iloc[0],
        "landmarks_best": path.best,
        "balanced_accuracy_best": by_size.loc[path.best, "balanced_accuracy"],
        "random_balanced_accuracy": by_size.loc[path.best, "random_balanced_accuracy"],
    }
