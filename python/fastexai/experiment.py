"""The paper's experiment on any clips: train, explain, prune and report, emotion by emotion."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from fastexai.aside import written_aside
from fastexai.dataset_explanation import DatasetExplanation
from fastexai.explanation import explain_dataset
from fastexai.landmarks import ClipSet
from fastexai.pruning import PruningPath, prune
from fastexai.report import report
from fastexai.training import EmotionClassifier

__all__ = ["Stage", "run_experiment"]

#: ``stage(title)`` is a context manager that yields a progress callback (done, total).
Stage = Callable[[str], AbstractContextManager[Callable[[int, int], object]]]

_MADE = ("{}.pt", "{}.explanation.parquet", "{}.pruning.json")  # for each emotion


def run_experiment(
    clips: ClipSet,
    out: Path,
    *,
    emotions: Sequence[str],
    architecture: str,
    seed: int,
    stage: Stage,
    **pruning: Any,
) -> tuple[list[Path], pd.DataFrame]:
    """Train, export, explain, prune and report.

    It can be stopped and called again: what the same clips and options have made already in ``out``
    is kept, what others made is replaced.

    Parameters
    ----------
    clips : ClipSet
        Labelled clips with subjects.
    out : Path
        Folder for the files; created if missing.
    emotions : sequence of str
        One classifier each.
    architecture : str
        See `EmotionClassifier`.
    seed : int
        Of the folds and the networks.
    stage : callable
        See ``Stage``.
    **pruning
        As `prune` takes them.

    Returns
    -------
    files : list of Path
        What there is now: a ``.pt`` per emotion, ``pruning.csv``, ``results.md`` and
        ``report.html``.
    summary : DataFrame
        One row per emotion: balanced accuracy with all and with the best number of landmarks, the
        random control there, that of the whole nested procedure, and, where the clips know their
        truth, how well relevance finds the truly moved landmarks (ROC-AUC).
    """
    out.mkdir(parents=True, exist_ok=True)
    _forget_others(
        out, emotions, {"architecture": architecture, "seed": seed, **pruning}, _fingerprint(clips)
    )
    explanations: list[DatasetExplanation] = []
    paths: list[PruningPath] = []
    rows = []
    for emotion in emotions:
        clf = EmotionClassifier(emotion, architecture, seed=seed)
        explanations.append(_explained(clf, clips, out, stage))
        paths.append(_pruned(clf, clips, out, stage, seed=seed, **pruning))
        rows.append(_summary(paths[-1]) | _truth(clips, explanations[-1]))
    with stage("Writing the report"):
        files = [out / f"{emotion}.pt" for emotion in emotions]
        files += _write_tables(paths, out)
        files.append(report([*explanations, *paths], out / "report.html"))
    return files, pd.DataFrame(rows)


def _forget_others(
    out: Path, emotions: Sequence[str], options: dict[str, Any], fingerprint: str
) -> None:
    """Remove what other clips or options have made."""
    about = json.dumps(options | {"clips": fingerprint}, default=list, indent=1)
    noted = out / "experiment.json"
    if not noted.is_file() or noted.read_text(encoding="utf-8") != about:
        for emotion in emotions:
            for name in _MADE:
                (out / name.format(emotion)).unlink(missing_ok=True)
        with written_aside(noted) as aside:
            aside.write_text(about, encoding="utf-8")


def _fingerprint(clips: ClipSet) -> str:
    digest = hashlib.sha256(clips.X.tobytes())
    digest.update("\0".join([*clips.labels, *clips.subjects]).encode())
    return digest.hexdigest()


def _explained(
    clf: EmotionClassifier, clips: ClipSet, out: Path, stage: Stage
) -> DatasetExplanation:
    model, file = (out / name.format(clf.emotion) for name in _MADE[:2])
    if not model.is_file():
        with stage(f"Training {clf.emotion}"):
            clf.fit(clips)
            clf.export(model)
    if not file.is_file():
        with stage(f"Explaining {clf.emotion}") as progress:
            explain_dataset(model, clips, progress=progress).save(file)
    return DatasetExplanation.load(file)


def _pruned(
    clf: EmotionClassifier, clips: ClipSet, out: Path, stage: Stage, **options: Any
) -> PruningPath:
    file = out / _MADE[2].format(clf.emotion)
    if not file.is_file():
        with stage(f"Pruning {clf.emotion}") as progress:
            prune(clf, clips, progress=progress, **options).save(file)
    return PruningPath.load(file)


def _write_tables(paths: Sequence[PruningPath], out: Path) -> list[Path]:
    table = pd.concat([path.table.assign(emotion=path.emotion) for path in paths])
    printed = [f"## {path.emotion}\n\n{path.printed().to_markdown(index=False)}" for path in paths]
    with written_aside(out / "pruning.csv") as aside:
        table.set_index("emotion").to_csv(aside)
    with written_aside(out / "results.md") as aside:
        aside.write_text("\n\n".join(printed) + "\n", encoding="utf-8")
    return [out / "pruning.csv", out / "results.md"]


def _truth(clips: ClipSet, explanation: DatasetExplanation) -> dict[str, float]:
    if clips.relevant is None:
        return {}
    truth = clips.relevant[explanation.emotion]
    return {"relevance_vs_truth_auc": float(roc_auc_score(truth, explanation.relevance))}


def _summary(path: PruningPath) -> dict[str, object]:
    by_size = path.table.set_index("landmarks")
    return {
        "emotion": path.emotion,
        "balanced_accuracy_all": by_size["balanced_accuracy"].iloc[0],
        "landmarks_best": path.best,
        "balanced_accuracy_best": by_size.loc[path.best, "balanced_accuracy"],
        "random_balanced_accuracy": by_size["random_balanced_accuracy"].get(path.best, np.nan),
        "balanced_accuracy_nested": path.nested.value,
    }
