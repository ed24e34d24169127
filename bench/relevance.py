"""Relevance against the truth: does it find the landmarks that an emotion truly moves.

Simulated clips know their truth. For every emotion a classifier is judged on unseen subjects, fitted
to all clips and explained from its own training prototypes; the figure is the ROC-AUC of relevance
against the truly moved landmarks. A random ranking scores 0.5::

    python bench/relevance.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd
from sklearn.metrics import roc_auc_score

import fastexai as fx
from machine import machine, write_json


def judge(clips: fx.ClipSet, emotion: str, architecture: str, folder: Path) -> dict[str, object]:
    """One row: the classifier's scores, and how well its relevance finds the truth."""
    clf = fx.EmotionClassifier(emotion, architecture)
    scores = fx.cross_validate(clf, clips)
    model = folder / f"{emotion}.pt"
    clf.fit(clips).export(model, overwrite=True)
    explanation = fx.explain_dataset(model, clips)
    assert clips.relevant is not None  # simulated clips know their truth
    return {
        "architecture": architecture,
        "emotion": emotion,
        "balanced_accuracy": scores.balanced_accuracy,
        "roc_auc": scores.roc_auc,
        "majority_rate": float(scores.table["majority_rate"].mean()),
        "relevance_vs_truth_auc": float(
            roc_auc_score(clips.relevant[emotion], explanation.relevance)
        ),
        "completeness_error_max": float(explanation.completeness_error.max()),
    }


def main() -> None:
    """Print the table and write it to ``bench/results/relevance.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[20, 21, 22], help="of data sets")
    parser.add_argument("--architectures", nargs="+", default=["randomized_bilstm", "bilstm"])
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            clips = fx.datasets.simulate_expressions(
                options.clips, seed=seed, difficulty=options.difficulty
            )
            for architecture in options.architectures:
                for emotion in fx.datasets.EMOTIONS:
                    rows.append({"seed": seed} | judge(clips, emotion, architecture, Path(folder)))
                    row = pd.DataFrame(rows[-1:])
                    print(row.to_string(index=False, header=len(rows) == 1), flush=True)
    summary = pd.DataFrame(rows).groupby(["architecture", "emotion"])["relevance_vs_truth_auc"]
    print(summary.agg(["min", "mean", "max"]).to_string())
    packages = ("fastexai", "torch", "numpy", "scikit-learn")
    write_json("relevance", {"machine": machine(packages), "options": vars(options), "rows": rows})


if __name__ == "__main__":
    main()
