"""Pruning against the same written with Captum: how long it takes to find the landmarks that matter.

Both sides follow one algorithm, recursive elimination from 468 landmarks to 8: attribute every clip
from every baseline, rank the landmarks that are left by relevance, hold the last at the mean of the
baselines, score the masked model, repeat. One side is `fastexai.search.search_landmarks`, the other
Captum's Integrated Gradients and forward passes of PyTorch on masked clips. On a small case both
must give the same path. Run it on an otherwise idle machine::

    python bench/pruning.py
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import captum.attr
import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import fastexai as fx
from fastexai import mesh
from fastexai.search import search_landmarks
from machine import RESULTS, machine, write_json

SIZES = (468, 256, 128, 64, 32, 16, 8)
FRAMES, INPUTS, BASELINES = 20, 3 * mesh.LANDMARKS, 5
#: Captum's own default, and as many nodes as `search_landmarks` uses by default.
DEFAULT_NODES, FEW_NODES = 50, 8
BATCH_ROWS = (64, 256, 1024)

Row = dict[str, Any]


class BiLSTM(nn.Module):
    """A bidirectional LSTM of 64 units reads all 1404 numbers of a frame; mean; linear readout."""

    def __init__(self, clips: Tensor) -> None:
        super().__init__()
        self.register_buffer("center", clips.mean((0, 1)))
        self.register_buffer("scale", 1 / clips.std((0, 1)))
        self.rnn = nn.LSTM(INPUTS, 64, bidirectional=True, batch_first=True)
        self.readout = nn.Linear(128, 1)

    def forward(self, clips: Tensor) -> Tensor:
        """Return one logit per clip: (N, T, L, 3) to (N,)."""
        steps, _ = self.rnn(((clips - self.center) * self.scale).flatten(2))
        return self.readout(steps.mean(1)).squeeze(-1)


@dataclass(frozen=True)
class Problem:
    """A fitted model, the clips to search on, and the baselines."""

    name: str
    model: nn.Module
    clips: Tensor
    labels: np.ndarray
    baselines: Tensor

    def first(self, clips: int, baselines: int) -> Problem:
        """Return a smaller problem with the same model."""
        return Problem(
            self.name,
            self.model,
            self.clips[:clips],
            self.labels[:clips],
            self.baselines[:baselines],
        )


def trained(clips: fx.ClipSet, epochs: int = 6) -> nn.Module:
    """Fit a `BiLSTM` by gradient descent, happiness against the rest."""
    X, y = torch.from_numpy(clips.X), torch.from_numpy(clips.labels == "happiness").float()
    torch.manual_seed(0)
    model = BiLSTM(X)
    loss = nn.BCEWithLogitsLoss(pos_weight=(1 - y.mean()) / y.mean())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(X)).split(32):
            optimizer.zero_grad()
            loss(model(X[batch]), y[batch]).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


def problems(count: int) -> list[Problem]:
    """Return the plain network, and the package's own classifier."""
    clips = fx.datasets.simulate_expressions(count, seed=1, difficulty=0.5)
    clf = fx.EmotionClassifier("happiness", "randomized_bilstm").fit(clips)
    given = (
        torch.from_numpy(clips.X),
        clips.labels == "happiness",
        torch.from_numpy(clf.prototypes_),
    )
    return [
        Problem("BiLSTM, hidden 64", trained(clips), *given),
        Problem("EmotionClassifier, randomized_bilstm", clf.network_, *given),
    ]


def held(clips: Tensor, kept: np.ndarray, mean: Tensor) -> Tensor:
    """Hold all landmarks but ``kept`` at the mean baseline."""
    masked = mean.expand_as(clips).clone()
    masked[:, :, kept] = clips[:, :, kept]
    return masked


def captum_path(
    problem: Problem, nodes: int, rows: int | None, sizes: tuple[int, ...] = SIZES
) -> tuple[dict[int, np.ndarray], list[float]]:
    """Run the search with Captum and PyTorch: landmarks of each size, and the masked AUCs."""
    ig = captum.attr.IntegratedGradients(problem.model)
    mean, labels = problem.baselines.mean(0), torch.from_numpy(problem.labels)
    kept, path, scores = np.arange(problem.clips.shape[2]), {}, []
    clips, contrast, attributed = problem.clips, None, 0
    for size in sizes:
        if attributed != len(kept):
            starts = held(problem.baselines, kept, mean)
            values = sum(
                ig.attribute(clips, start[None], n_steps=nodes, internal_batch_size=rows)
                for start in starts
            ) / len(starts)
            summed = values.double().sum(1)
            contrast = (summed[labels].mean(0) - summed[~labels].mean(0)).abs().sum(1).numpy()
            attributed = len(kept)
        kept = np.array(sorted(kept, key=lambda k: (-contrast[k], k))[:size])
        clips = held(problem.clips, kept, mean)
        with torch.no_grad():
            scores.append(roc_auc_score(problem.labels, problem.model(clips).numpy()))
        path[size] = kept
    return path, scores


def our_path(problem: Problem, nodes: int = FEW_NODES) -> fx.search.LandmarkSearch:
    """Run the same search in C++."""
    return search_landmarks(
        problem.model,
        problem.clips.numpy(),
        problem.labels,
        baselines=problem.baselines.numpy(),
        sizes=SIZES,
        strategy="recursive",
        n_steps=nodes,
    )


def overlap(ours: dict[int, np.ndarray], theirs: dict[int, np.ndarray]) -> float:
    """Return the share of landmarks that both paths keep, at the size where it is least."""
    return min(len(np.intersect1d(ours[n], theirs[n])) / n for n in ours)


def check(problem: Problem, clips: int = 24) -> Row:
    """Compare both sides on a small case: the same subsets, and the same scores of them."""
    small = problem.first(clips, 2)
    theirs, scores = captum_path(small, FEW_NODES, None)
    ours = our_path(small)
    same = all(set(ours.kept[size]) == set(theirs[size]) for size in SIZES)
    assert same, (problem.name, overlap(ours.kept, theirs))
    np.testing.assert_allclose(ours.scores["roc_auc"], scores, atol=1e-3)
    return {"checked_clips": clips, "same_path": same}


def seconds(run: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def best_rows(problem: Problem) -> int:
    """Return Captum's fastest batch size, on a few clips."""
    few = problem.first(16, 1)
    captum_path(few, DEFAULT_NODES, BATCH_ROWS[0], SIZES[:1])  # warm-up
    return min(
        BATCH_ROWS,
        key=lambda rows: seconds(partial(captum_path, few, DEFAULT_NODES, rows, SIZES[:1])),
    )


def section_search(problem: Problem, repeats: int) -> Row:
    """Time whole paths in turns, with both sides at few nodes and both at Captum's default."""
    row = {"model": problem.name, "clips": len(problem.clips)} | check(problem)
    rows = best_rows(problem)
    runs = {
        "fastexai": partial(our_path, problem),
        "fastexai_default_nodes": partial(our_path, problem, DEFAULT_NODES),
        "captum_same_nodes": partial(captum_path, problem, FEW_NODES, rows),
        "captum_default_nodes_one_stage": partial(
            captum_path, problem, DEFAULT_NODES, rows, SIZES[:1]
        ),
    }
    runs["fastexai"]()  # warm-up
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(seconds(run))
            print(f"{problem.name}: {name} {times[name][-1]:.2f} s", flush=True)
    ours, ours_default, same, one_stage = (float(np.median(times[name])) for name in runs)
    # Every stage attributes all clips: at Captum's default one is timed for all.
    default = one_stage * (len(SIZES) - 1)
    return row | {
        "captum_batch_rows": rows,
        "seconds": {
            "fastexai": ours,
            "fastexai_default_nodes": ours_default,
            "captum_same_nodes": same,
            "captum_default_nodes": default,
        },
        "runs": times,
        "ratio_few_nodes": same / ours,
        "ratio_default_nodes": default / ours_default,
        "least_overlap_with_200_nodes": overlap(
            our_path(problem).kept, our_path(problem, 200).kept
        ),
    }


def main() -> None:
    """Measure, print, and write the section into ``bench/results/pruning.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each side")
    parser.add_argument("--only", type=int, help="one problem; prints, writes no file")
    options = parser.parse_args()
    chosen = problems(options.clips)
    if options.only is not None:
        chosen = [chosen[options.only]]
    rows = [section_search(problem, options.repeats) for problem in chosen]
    print(json.dumps(rows, indent=2))
    if options.only is None:
        path = RESULTS / "pruning.json"
        result = json.loads(path.read_text()) if path.exists() else {"sections": {}}
        packages = ("fastexai", "torch", "captum", "numpy")
        result["machine"] = machine(packages) | {"threads": torch.get_num_threads()}
        result["sections"]["search speed"] = rows
        write_json("pruning", result)


if __name__ == "__main__":
    main()
