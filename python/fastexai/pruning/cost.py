"""What a fitted classifier costs: to store, and to run."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch.utils.benchmark import Timer

from fastexai.training import EmotionClassifier

__all__ = ["cost"]

_BATCH = 256


def cost(clf: EmotionClassifier) -> dict[str, float]:
    """Measure a fitted classifier.

    Returns
    -------
    dict of str to float
        inference_ms (per clip, in batches of 256) and single_clip_ms, medians; parameters;
        multiply_adds (per clip); file_kb.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        clf.export(path)
        file_kb = path.stat().st_size / 1000
    shape = (clf.frames_, clf.network_.landmarks, 3)
    batch = torch.from_numpy(clf.prototypes_).mean(0).expand(_BATCH, *shape).contiguous()
    with torch.no_grad():
        return {
            "inference_ms": _milliseconds(clf.network_, batch) / _BATCH,
            "single_clip_ms": _milliseconds(clf.network_, batch[:1]),
            "parameters": float(sum(p.numel() for p in clf.network_.parameters())),
            "multiply_adds": _multiply_adds(clf),
            "file_kb": file_kb,
        }


def _milliseconds(network: torch.nn.Module, clips: torch.Tensor) -> float:
    timer = Timer("network(clips)", globals={"network": network, "clips": clips})
    timer.timeit(2)  # to warm up
    return 1e3 * timer.blocked_autorange(min_run_time=0.05).median


def _multiply_adds(clf: EmotionClassifier) -> float:
    """Count every weight matrix once per frame, and the readout's once per clip."""
    count = 0
    for name, weights in clf.network_.named_parameters():
        if weights.dim() >= 2:
            count += weights.numel() * (1 if name.startswith("readout.") else clf.frames_)
    return float(count)
