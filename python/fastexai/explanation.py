"""Explain a whole data set: attributions from typical clips, streamed into one relevance."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fastexai.attribution import IntegratedGradients, Model, integrated_gradients
from fastexai.export import read_model
from fastexai.landmarks import ClipSet

__all__ = ["DatasetExplanation", "explain_dataset"]

_BATCH_CLIPS = 64  # 64 clips x 20 frames x 1404 floats: 7 MB of attributions at a time


@dataclass(frozen=True, slots=True, eq=False)  # eq: arrays have no single truth value
class DatasetExplanation:
    """Attributions of a data set, averaged over clips and baselines.

    Attributes
    ----------
    emotion : str
        What the model recognises.
    mean : ndarray, shape (T, L, 3), float64
        Mean attribution, with its sign, over the clips in which the model sees the emotion (over all
        clips, where it sees none).
    mean_abs : ndarray, shape (T, L, 3), float64
        Mean absolute attribution over all clips.
    output : ndarray, shape (N,), float64
        The model's output for every clip.
    completeness_error : ndarray, shape (N,), float64
        The largest over baselines of |sum of attributions - (F(x) - F(baseline))|.
    baselines : ndarray, shape (K, T, L, 3), float32
        Where the paths began.
    expression : ndarray, shape (T, L, 3), float32
        Mean of the clips in which the model sees the emotion (of all clips, where it sees none).
    n_steps : int
        Nodes per path.
    """

    emotion: str
    mean: NDArray[np.float64]
    mean_abs: NDArray[np.float64]
    output: NDArray[np.float64]
    completeness_error: NDArray[np.float64]
    baselines: NDArray[np.float32]
    expression: NDArray[np.float32]
    n_steps: int

    @property
    def relevance(self) -> NDArray[np.float64]:
        """One non-negative number per landmark, shape (L,), in units of the model's output.

        What makes the model say "yes": the mean attribution over the clips in which it does, summed
        over time with its sign, then the coordinates' absolute values added. Individual faces and
        the moment of the apex average out; what all such clips share is left.
        """
        total: NDArray[np.float64] = np.abs(self.mean.sum(axis=0)).sum(axis=1)
        return total

    @property
    def ranking(self) -> NDArray[np.intp]:
        """Landmarks from the most to the least relevant, shape (L,)."""
        return np.argsort(-self.relevance, kind="stable")

    def __repr__(self) -> str:
        frames, landmarks, _ = self.mean.shape
        return (
            f"DatasetExplanation({self.emotion!r}: {len(self.output)} clips of {frames} frames x "
            f"{landmarks} landmarks, {len(self.baselines)} baselines, {self.n_steps} nodes, "
            f"completeness error <= {self.completeness_error.max():.1e})"
        )


def explain_dataset(
    model: Model,
    clips: ClipSet,
    baselines: NDArray[np.float32] | None = None,
    *,
    emotion: str | None = None,
    n_steps: int = 50,
    progress: Callable[[int, int], object] | None = None,
) -> DatasetExplanation:
    """Attribute every clip from every baseline, in bounded memory, and aggregate.

    Parameters
    ----------
    model : path, bytes, ScriptModule or nn.Module
        Takes (N, T, L, 3).
    clips : ClipSet
        The data set.
    baselines : ndarray, shape (K, T, L, 3), float32, optional
        Typical clips (`prototypes`). A file written by ``EmotionClassifier.export`` brings its own:
        those of its training set.
    emotion : str, optional
        What the model recognises; an exported file says it itself.
    n_steps : int
        Gauss-Legendre nodes per path.
    progress : callable, optional
        Called with (clips done, clips in all).

    Raises
    ------
    ValueError
        If shapes do not match, a value is not finite, or a model of another origin comes without
        ``baselines``.
    """
    if baselines is None or emotion is None:
        emotion, baselines = _from_file(model, emotion, baselines)
    ig = IntegratedGradients(model)
    sums = {name: np.zeros(clips.X.shape[1:]) for name in ("all", "present", "absolute")}
    face = {name: np.zeros(clips.X.shape[1:]) for name in ("all", "present")}
    errors, outputs = [], []
    for start in range(0, len(clips), _BATCH_CLIPS):
        batch = torch.from_numpy(clips.X[start : start + _BATCH_CLIPS])
        values, error = _mean_over_baselines(ig, batch, baselines, n_steps)
        output = ig.model.value(batch)
        sums["all"] += values.sum(0).numpy()
        sums["present"] += values[output > 0].sum(0).numpy()
        sums["absolute"] += values.abs().sum(0).numpy()
        face["all"] += batch.sum(0).numpy()
        face["present"] += batch[output > 0].sum(0).numpy()
        errors.append(error.numpy())
        outputs.append(output.numpy())
        if progress is not None:
            progress(min(start + _BATCH_CLIPS, len(clips)), len(clips))
    every_output = np.concatenate(outputs).astype(np.float64)
    present = int((every_output > 0).sum())
    group, count = ("present", present) if present else ("all", len(clips))
    return DatasetExplanation(
        emotion=emotion,
        mean=sums[group] / count,
        mean_abs=sums["absolute"] / len(clips),
        output=every_output,
        completeness_error=np.concatenate(errors).astype(np.float64),
        baselines=baselines,
        expression=(face[group] / count).astype(np.float32),
        n_steps=n_steps,
    )


def _mean_over_baselines(
    ig: IntegratedGradients, batch: torch.Tensor, baselines: NDArray[np.float32], n_steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attributions averaged over baselines, and the worst completeness error of each clip."""
    mean = torch.zeros_like(batch)
    error = torch.zeros(len(batch))
    for baseline in torch.from_numpy(baselines):
        attribution = integrated_gradients(ig, batch, baseline[None], n_steps=n_steps)
        mean += attribution.values / len(baselines)
        error = torch.maximum(error, attribution.completeness_error)
    return mean, error


def _from_file(
    model: Model, emotion: str | None, baselines: NDArray[np.float32] | None
) -> tuple[str, NDArray[np.float32]]:
    if isinstance(model, str | os.PathLike):
        metadata, own, _ = read_model(model)
        return emotion or metadata.emotion, own if baselines is None else baselines
    if baselines is None:
        raise ValueError("baselines: expected (K, T, L, 3) for a model that has none of its own")
    return emotion or "", baselines
