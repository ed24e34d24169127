"""How few landmarks are enough, and whether the choice beats chance.

On simulated clips, which know what each emotion truly moves: `fastexai.prune` for every emotion
(nested folds, ten random subsets of every size in every fold, a logistic regression), the share of
truly moved landmarks among as many kept ones, the time that a pruned model takes, and the same with
shuffled labels, which must be at chance. Run it on an otherwise idle machine::

    python bench/fewer_landmarks.py
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd

import fastexai as fx
from machine import machine, write_json

SIZES = (468, 64, 32, 16)

Row = dict[str, Any]


def judge(clips: fx.ClipSet, emotion: str, options: argparse.Namespace) -> Row:
    """One row: what pruning costs and gains for an emotion."""
    clf = fx.EmotionClassifier(emotion, options.architecture)
    path = fx.prune(clf, clips, SIZES, random_subsets=options.random_subsets)
    table = path.table.set_index("landmarks")
    yes = {size: path.answers[str(size)].to_numpy() > 0 for size in (468, 16)}
    positive = path.answers["positive"].to_numpy(bool)
    loss = fx.paired_difference(positive, yes[16], yes[468], clips.subjects)
    row: Row = {"emotion": emotion, "best": path.best, "nested": path.nested.value}
    for size in SIZES:
        row[f"balanced_accuracy_{size}"] = table["balanced_accuracy"][size]
    return row | {
        "16_minus_468": loss.value,
        "16_minus_468_low": loss.low,
        "16_minus_468_high": loss.high,
        "gain_over_random": table["gain_over_random"][16],
        "gain_over_random_low": table["gain_over_random_low"][16],
        "gain_over_random_high": table["gain_over_random_high"][16],
        "logistic_regression_16": table["anchor_balanced_accuracy"][16],
        "kuncheva_index_16": table["kuncheva_index"][16],
        "batch_speedup_32": table["inference_ms"][468] / table["inference_ms"][32],
        "single_speedup_32": table["single_clip_ms"][468] / table["single_clip_ms"][32],
        **truth(clips, emotion, clf),
    }


def truth(clips: fx.ClipSet, emotion: str, clf: fx.EmotionClassifier) -> Row:
    """Share of truly moved landmarks among as many kept ones, and what chance would give."""
    assert clips.relevant is not None  # simulated clips know their truth
    moved = clips.relevant[emotion]
    count = int(moved.sum())
    fitted = clf.fit(clips)
    found = fx.search_landmarks(
        fitted.network_,
        clips,
        clips.labels == emotion,
        baselines=fitted.prototypes_,
        sizes=(count,),
    )
    return {
        "truly_moved": count,
        "share_truly_moved": float(moved[found.kept[count]].mean()),
        "share_by_chance": float(moved.mean()),
    }


def shuffled(clips: fx.ClipSet, architecture: str) -> Row:
    """Run the same procedure where labels mean nothing."""
    labels = np.random.default_rng(0).permutation(clips.labels)
    nothing = fx.ClipSet(clips.X, labels, clips.subjects, clips.ids)
    clf = fx.EmotionClassifier("happiness", architecture)
    path = fx.prune(clf, nothing, SIZES, random_subsets=1, anchor=False)
    return {"value": path.nested.value, "low": path.nested.low, "high": path.nested.high}


def main() -> None:
    """Print the table and write it to ``bench/results/fewer_landmarks.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[40, 41], help="of data sets")
    parser.add_argument("--architecture", default="randomized_bilstm")
    parser.add_argument("--random-subsets", type=int, default=10)
    parser.add_argument("--emotions", nargs="+", default=list(fx.datasets.EMOTIONS))
    options = parser.parse_args()
    rows: list[Row] = []
    chance = []
    for seed in options.seeds:
        clips = fx.datasets.simulate_expressions(
            options.clips, seed=seed, difficulty=options.difficulty
        )
        for emotion in options.emotions:
            rows.append({"seed": seed} | judge(clips, emotion, options))
            print(pd.Series(rows[-1]).to_string(), "\n", flush=True)
        chance.append({"seed": seed} | shuffled(clips, options.architecture))
    print(pd.DataFrame(rows).groupby("emotion").mean(numeric_only=True).T.round(3).to_string())
    print("shuffled labels:", chance)
    packages = ("fastexai", "torch", "numpy", "scikit-learn")
    figures = {"options": vars(options), "rows": rows, "shuffled": chance}
    write_json("fewer_landmarks", {"machine": machine(packages)} | figures)


if __name__ == "__main__":
    main()
