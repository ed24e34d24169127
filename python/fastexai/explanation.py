"""Explain a whole data set: attributions from typical clips, streamed into one explanation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from fastexai import mesh
from fastexai.attribution import IntegratedGradients, integrated_gradients
from fastexai.dataset_explanation import DatasetExplanation
from fastexai.export import ModelMetadata, read_model
from fastexai.landmarks import ClipSet, Normalization
from fastexai.model_loading import Model
from fastexai.store import LandmarkStore

__all__ = ["DatasetExplanation", "explain_dataset"]


_BATCH_CLIPS = 64  # 64 clips x 20 frames x 1404 doubles: 14 MB of attributions at a time


def explain_dataset(
    model: Model,
    clips: ClipSet | LandmarkStore,
    baselines: NDArray[np.float32] | None = None,
    *,
    emotion: str | None = None,
    tol: float = 1e-2,
    n_steps: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> DatasetExplanation:
    """Attribute every clip from every baseline, in bounded memory, and aggregate.

    Parameters
    ----------
    model : path, bytes, ScriptModule or nn.Module
        Takes (N, T, L, 3).
    clips : ClipSet or LandmarkStore
        The data set. Where all clips have labels and some are ``emotion``, labels tell which clips
        show it; elsewhere the model's output does. A store is read a few clips at a time and normalised as the model file says
        (for a model of another origin: to the baselines' frames, by Procrustes).
    baselines : ndarray, shape (K, T, L, 3), float32, optional
        Typical clips (`prototypes`). A file written by ``EmotionClassifier.export`` brings its own:
        those of its training set.
    emotion : str, optional
        What the model recognises; an exported file says it itself.
    tol : float
        As many nodes as each clip needs for this relative error (`integrated_gradients`).
    n_steps : int, optional
        Instead of ``tol``: so many Gauss-Legendre nodes for every clip, whatever the error.
    progress : callable, optional
        Called with (clips done, clips in all).

    Raises
    ------
    ValueError
        If there is no clip, shapes do not match, a value is not finite, a stored clip has no face,
        or a model of another origin comes without ``baselines``.
    """
    metadata, own = _read_description(model, needed=baselines is None)
    starts = np.asarray(own if baselines is None else baselines, dtype=np.float32)
    _check_baselines(starts)
    frames = starts.shape[1] if metadata is None else metadata.frames
    normalization = Normalization() if metadata is None else metadata.normalization
    _check_clips(clips, starts, frames)
    if isinstance(clips, ClipSet) and metadata is not None:
        _check_normalization(clips, normalization)
    if emotion is None:
        emotion = "" if metadata is None else metadata.emotion
    ig = IntegratedGradients(model)
    shown = _shown(clips, emotion)

    def parts() -> Iterator[DatasetExplanation]:
        done = 0
        for batch in _batches(clips, frames, normalization):
            _check_finite("clips", "clip", batch, done)
            own = None if shown is None else shown[done : done + len(batch)]
            part = _explain(ig, batch, starts, tol, n_steps, own, emotion)
            done += len(batch)
            yield part
            if progress is not None:
                progress(done, len(clips))

    return DatasetExplanation.combine(parts())


def _read_description(
    model: Model, *, needed: bool
) -> tuple[ModelMetadata | None, NDArray[np.float32] | None]:
    """Metadata and baselines of a file written by ``EmotionClassifier.export``."""
    if isinstance(model, str | os.PathLike):
        try:
            metadata, baselines, _ = read_model(model)
            return metadata, baselines
        except ValueError:  # TorchScript of another origin
            if needed:
                raise
    elif needed:
        raise ValueError("baselines: expected (K, T, L, 3) for a model that has none of its own")
    return None, None


def _shown(clips: ClipSet | LandmarkStore, emotion: str) -> NDArray[np.bool_] | None:
    """Which clips are labelled with the emotion; None, where labels do not tell."""
    labels = clips.labels if isinstance(clips, ClipSet) else clips.table["label"].fillna("")
    known = emotion in set(labels) and all(labels)
    return np.asarray(labels == emotion) if known else None


def _check_normalization(clips: ClipSet, normalization: Normalization) -> None:
    if clips.normalization != normalization:
        raise ValueError(f"clips: expected the model's {normalization}, got {clips.normalization}")


def _batches(
    clips: ClipSet | LandmarkStore, frames: int, normalization: Normalization
) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(clips), _BATCH_CLIPS):
        stop = min(start + _BATCH_CLIPS, len(clips))
        if isinstance(clips, ClipSet):
            yield clips.X[start:stop]
        else:
            raw = (clips[i] for i in range(start, stop))
            yield ClipSet.from_clips(raw, frames=frames, normalization=normalization).X


def _explain(
    ig: IntegratedGradients,
    clips: NDArray[np.float32],
    baselines: NDArray[np.float32],
    tol: float,
    n_steps: int | None,
    shown: NDArray[np.bool_] | None,
    emotion: str,
) -> DatasetExplanation:
    """Explain one batch, by the mean over baselines."""
    inputs, starts = torch.from_numpy(clips), torch.from_numpy(baselines)
    attribution = integrated_gradients(
        ig, inputs, starts, baseline_mode="mean", tol=tol, n_steps=n_steps
    )
    return DatasetExplanation.from_attributions(
        clips,
        attribution.values.numpy(),
        baselines,
        output=ig.model.value(inputs).numpy(),
        baseline_output=ig.model.value(starts).numpy(),
        completeness_error=attribution.completeness_error.numpy(),
        nodes=attribution.nodes.numpy(),
        tol=tol if n_steps is None else None,
        n_steps=n_steps,
        shown=shown,
        emotion=emotion,
    )


def _check_finite(name: str, row: str, array: NDArray[np.float32], first: int = 0) -> None:
    """Name the first row with a value that is not finite, counting from ``first``."""
    finite = np.isfinite(array)
    if not finite.all():
        index = int(np.argmin(finite.all(axis=(1, 2, 3))))
        value = array[index][~finite[index]][0]
        raise ValueError(f"{name}: expected finite values, got {value} in {row} {first + index}")


def _check_baselines(baselines: NDArray[np.float32]) -> None:
    if baselines.ndim != 4 or len(baselines) == 0 or baselines.shape[3] != 3:
        raise ValueError(f"baselines: expected (K, T, L, 3) with K >= 1, got {baselines.shape}")
    _check_finite("baselines", "baseline", baselines)


def _check_clips(
    clips: ClipSet | LandmarkStore, baselines: NDArray[np.float32], frames: int
) -> None:
    """Find what is wrong before the long work begins."""
    if not isinstance(clips, ClipSet | LandmarkStore):
        raise TypeError(f"clips: expected a ClipSet or LandmarkStore, got {type(clips).__name__}")
    if len(clips) == 0:
        raise ValueError("clips: expected at least one clip, got none")
    shape = clips.X.shape[1:] if isinstance(clips, ClipSet) else (frames, mesh.LANDMARKS, 3)
    if baselines.shape[1:] != shape:
        raise ValueError(
            f"baselines: expected {(len(baselines), *shape)}, as clips are, got {baselines.shape}"
        )
    if isinstance(clips, LandmarkStore):
        faceless = clips.table.query("detection_share == 0")["id"]
        if len(faceless):
            raise ValueError(
                f"clips: expected a face in each, got none in {faceless.iloc[0]!r}; leave such "
                "clips out by LandmarkStore.select(min_detection_share=...)"
            )
