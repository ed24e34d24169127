"""How fast classifiers are fitted and asked, and how well they do: the figures behind "fast".

Balanced accuracy is that of people whom training has not seen, on simulated clips; logistic
regression on the flattened clips is the baseline. All timings are medians::

    python bench/training.py
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch.utils.benchmark import Timer

import fastexai as fx
from fastexai.folds import subject_folds
from machine import machine, write_json

ARCHITECTURES = ("randomized_bilstm", "randomized_conv", "bilstm")
BASELINE = "logistic regression"
BATCH = 256


def judge(clips: fx.ClipSet, emotion: str, seed: int) -> list[dict[str, Any]]:
    """One row per classifier: fitted to four fifths of the people, judged on the others.

    They are fitted one after the other, to the same clips.
    """
    positive = clips.labels == emotion
    training, test = subject_folds(positive, clips.subjects, folds=5, seed=seed)[0]
    rows = []
    for name in (*ARCHITECTURES, BASELINE):
        model = baseline() if name == BASELINE else fx.EmotionClassifier(emotion, name, seed=seed)
        own = clips[training]
        data = (own.X, own.labels == emotion) if name == BASELINE else (own,)
        time.sleep(0.5)  # BLAS threads of the one before spin for a while
        started, worked = time.perf_counter(), time.process_time()
        model.fit(*data)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
        logits = model.decision_function(clips.X[test])
        rows.append(
            {
                "seed": seed,
                "emotion": emotion,
                "classifier": name,
                "fit_seconds": seconds,
                "fit_cpu_seconds": cpu_seconds,
                "balanced_accuracy": balanced_accuracy_score(positive[test], logits > 0),
                "roc_auc": roc_auc_score(positive[test], logits),
            }
        )
    return rows


def baseline() -> Any:
    """Return a logistic regression on flattened clips."""
    flatten = FunctionTransformer(lambda clips: clips.reshape(len(clips), -1))
    return make_pipeline(
        flatten,
        StandardScaler(),
        LogisticRegression(C=1e-3, class_weight="balanced", max_iter=1000),
    )


def compare(seeds: list[int], emotions: list[str], n: int) -> dict[str, Any]:
    """Fit everything on every seed's clips, and summarise."""
    rows: list[dict[str, Any]] = []
    judge(fx.datasets.simulate_expressions(120, seed=0), emotions[0], 0)  # a warm-up
    for seed in seeds:
        clips = fx.datasets.simulate_expressions(n, seed=seed, difficulty=0.5)
        for emotion in emotions:
            rows += judge(clips, emotion, seed)
            print(pd.DataFrame(rows[-4:]).to_string(index=False, header=False), flush=True)
    table = pd.DataFrame(rows)
    by_classifier = table.groupby("classifier", sort=False)
    summary = by_classifier[["balanced_accuracy", "roc_auc"]].mean()
    times = ["fit_seconds", "fit_cpu_seconds"]
    summary[times] = by_classifier[times].median()
    pairs = table.pivot(index=["seed", "emotion"], columns="classifier", values=times)
    ratios = {
        name: float((pairs[name]["bilstm"] / pairs[name]["randomized_bilstm"]).median())
        for name in times
    }
    print(summary.to_string())
    print(f"bilstm over randomized_bilstm: {ratios}")
    return {"rows": rows, "summary": summary.reset_index().to_dict("records"), "ratios": ratios}


def fit_all_emotions(repeats: int) -> dict[str, Any]:
    """Fit an ensemble of all emotions to 327 clips of 20 frames, as many as CK+ has labelled."""
    clips = fx.datasets.simulate_expressions(327, frames=20, seed=30)
    emotions = fx.datasets.EMOTIONS
    ensemble = fx.EmotionEnsemble(emotions, fx.EmotionClassifier(architecture="randomized_bilstm"))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        ensemble.fit(clips)
        seconds.append(time.perf_counter() - started)
    scores = [clf.score(clips) for clf in ensemble.classifiers_]
    assert min(scores) > 0.8, scores
    print(f"{len(emotions)} emotions on {len(clips)} clips: {np.median(seconds):.2f} s")
    return {"clips": len(clips), "emotions": len(emotions), "seconds": seconds}


def ask(architecture: str, folder: Path) -> dict[str, Any]:
    """Time the exported model, in batches and one by one."""
    clips = fx.datasets.simulate_expressions(2 * BATCH, seed=31)
    clf = fx.EmotionClassifier("happiness", architecture, max_epochs=1).fit(clips)
    clf.export(folder / f"{architecture}.pt")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        model = torch.jit.load(folder / f"{architecture}.pt")
    inputs = torch.from_numpy(clips.X)
    with torch.no_grad():
        np.testing.assert_allclose(model(inputs), clf.decision_function(clips), atol=1e-4)
        row = {
            "architecture": architecture,
            "clips_per_second": BATCH / _median_seconds(lambda: model(inputs[:BATCH])),
            "single_clip_ms": 1e3 * _median_seconds(lambda: model(inputs[:1])),
        }
    print(row)
    return row


def _median_seconds(function: Callable[[], object]) -> float:
    function()
    function()  # the second call is the one that TorchScript optimises
    timer = Timer("function()", globals={"function": function}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=2).median)


def main() -> None:
    """Print the figures and write them to ``bench/results/training.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43], help="of data sets")
    parser.add_argument("--emotions", nargs="+", default=list(fx.datasets.EMOTIONS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        inference = [ask(name, Path(folder)) for name in ARCHITECTURES]
    result = {
        "machine": machine(("fastexai", "torch", "numpy", "scikit-learn")),
        "options": vars(options),
        "inference": inference,
        "seven_emotions": fit_all_emotions(options.repeats),
        "comparison": compare(options.seeds, options.emotions, options.clips),
    }
    write_json("training", result)


if __name__ == "__main__":
    main()
