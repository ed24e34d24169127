"""Explain each clip by itself: what decided it, and when."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from fastexai import mesh
from fastexai.attribution import IntegratedGradients, integrated_gradients
from fastexai.export import read_model
from fastexai.landmarks import ClipSet
from fastexai.store import LandmarkStore
from fastexai.video import LandmarkClip

__all__ = ["ClipExplainer", "ClipExplanation", "clip_table", "explain_clips"]

_BATCH_CLIPS = 64  # 64 clips x 20 frames x 1404 doubles: 14 MB of attributions at a time
_DECISIVE = 0.5  # the share of a clip's attribution that its decisive time holds

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)  # eq: arrays have no single truth value
class ClipExplanation:
    """What a model says of one clip, and why.

    Attributes
    ----------
    source : str
        Where the clip comes from.
    emotion : str
        What the model recognises.
    logit : float
        The model's output; above 0 it sees the emotion.
    relevance : ndarray, shape (468,), float64
        Of every landmark, as `DatasetExplanation.relevance` of this clip alone, in logits.
    seconds : ndarray, shape (T,), float64
        The instants of the video that the model saw.
    activity : ndarray, shape (T,), float64
        Absolute attributions at each of them, summed over landmarks and coordinates, in logits.
    completeness_error : float
        |sum of attributions - (F(x) - mean of F(baseline))|, in logits.
    change : float
        F(x) - mean of F(baseline), which the attributions sum to.
    """

    source: str
    emotion: str
    logit: float
    relevance: NDArray[np.float64]
    seconds: NDArray[np.float64]
    activity: NDArray[np.float64]
    completeness_error: float
    change: float

    @property
    def probability(self) -> float:
        """Of the emotion, 0 to 1."""
        return 1 / (1 + math.exp(-min(max(self.logit, -60), 60)))

    @property
    def decided(self) -> tuple[float, float]:
        """From when to when, in seconds: the shortest time with half of `activity`.

        An instant stands for the time around it, to halfway to its neighbours.
        """
        first, last = _shortest_run(self.activity, _DECISIVE)
        begin, end = self.seconds[0], self.seconds[-1]
        half = (end - begin) / max(len(self.seconds) - 1, 1) / 2
        return (
            float(max(self.seconds[first] - half, begin)),
            float(min(self.seconds[last] + half, end)),
        )

    @property
    def regions(self) -> dict[str, float]:
        """Each region's share of the relevance, 0 to 1; the largest first."""
        share = self._share()
        sums = {name: float(share[mesh.region_landmarks(name)].sum()) for name in mesh.REGIONS}
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    def landmarks(self, top: int) -> list[tuple[int, float]]:
        """Return the most relevant landmarks, each with its share of the relevance."""
        share = self._share()
        return [(int(i), float(share[i])) for i in np.argsort(-share, kind="stable")[:top]]

    def describe(self, top: int = 10) -> dict[str, Any]:
        """Return plain numbers and names, for JSON; ``top`` landmarks are named."""
        begin, end = self.decided
        return {
            "source": self.source,
            "emotion": self.emotion,
            "probability": self.probability,
            "decided": {"from_seconds": begin, "to_seconds": end},
            "completeness_error": self.completeness_error,
            "change": self.change,
            "regions": [{"region": name, "share": share} for name, share in self.regions.items()],
            "landmarks": [
                {"landmark": i, "name": mesh.name(i), "region": mesh.region(i), "share": share}
                for i, share in self.landmarks(top)
            ],
        }

    def _share(self) -> NDArray[np.float64]:
        return np.asarray(self.relevance / max(self.relevance.sum(), np.finfo(float).tiny))


class ClipExplainer:
    """A model file, ready to explain clips: what its first run costs is paid here.

    Parameters
    ----------
    model : path-like
        A file written by ``EmotionClassifier.export``.
    tol : float
        As many nodes as each clip needs for this relative error (`integrated_gradients`).
    n_steps : int, optional
        Instead of ``tol``: so many nodes a path.

    Raises
    ------
    FileNotFoundError
        If there is no such model file.
    ValueError
        If it is no such model or one of other landmarks, or ``tol`` or ``n_steps`` is out of range.
    """

    def __init__(
        self, model: str | os.PathLike[str], *, tol: float = 1e-2, n_steps: int | None = None
    ) -> None:
        self.metadata, baselines, _ = read_model(model)
        if self.metadata.landmarks != mesh.LANDMARKS:
            raise ValueError(f"model: expected one of 468 landmarks, got {self.metadata.landmarks}")
        self._baselines = torch.from_numpy(baselines)
        self._ig = IntegratedGradients(model)
        self._start = float(self._ig.model.value(self._baselines).double().mean())
        self._attribute = functools.partial(
            integrated_gradients,
            self._ig,
            baselines=self._baselines,
            baseline_mode="mean",
            tol=tol,
            n_steps=n_steps,
        )
        self._attribute(self._baselines[:1])

    def explain(self, clips: Sequence[LandmarkClip]) -> list[ClipExplanation]:
        """Explain some clips, of which each has a face in some frame, at once."""
        frames, normalization = self.metadata.frames, self.metadata.normalization
        inputs = torch.from_numpy(
            ClipSet.from_clips(clips, frames=frames, normalization=normalization).X
        )
        attribution = self._attribute(inputs)
        values = attribution.values.numpy().astype(np.float64)
        logits = self._ig.model.value(inputs).double().tolist()
        return [
            ClipExplanation(
                source=clip.source,
                emotion=self.metadata.emotion,
                logit=logit,
                relevance=np.abs(value.sum(0)).sum(-1),
                seconds=np.linspace(clip.timestamps[0], clip.timestamps[-1], frames),
                activity=np.abs(value).sum((1, 2)),
                completeness_error=error,
                change=logit - self._start,
            )
            for clip, logit, value, error in zip(
                clips, logits, values, attribution.completeness_error.tolist(), strict=True
            )
        ]


def explain_clips(
    model: str | os.PathLike[str] | ClipExplainer,
    clips: Sequence[LandmarkClip] | LandmarkStore,
    *,
    tol: float = 1e-2,
    progress: Callable[[int, int], object] | None = None,
) -> list[ClipExplanation]:
    """Attribute every clip from the model file's baselines; each is explained alone.

    Parameters
    ----------
    model : path-like or ClipExplainer
        A file written by ``EmotionClassifier.export``, or one that is loaded already.
    clips : sequence of LandmarkClip, or LandmarkStore
        Raw clips. They are brought to the model's number of frames, as training clips were, and
        read a few at a time. A clip without a face is left out, and a warning logged.
    tol : float
        See `ClipExplainer`.
    progress : callable, optional
        Called with (clips done, clips in all).

    Raises
    ------
    FileNotFoundError, ValueError
        As `ClipExplainer` says; or if no clip has a face.

    Examples
    --------
    >>> import fastexai as fx
    >>> raw = fx.datasets.simulate_landmarks(40, emotions=("happiness",), seed=0).clips
    >>> clips = fx.ClipSet.from_clips(raw)
    >>> _ = fx.EmotionClassifier("happiness", "randomized_bilstm").fit(clips).export("happy.pt")
    >>> first = fx.explain_clips("happy.pt", raw[:1])[0]
    >>> begin, end = first.decided
    >>> 0 <= first.probability <= 1 and begin < end
    True
    """
    explainer = model if isinstance(model, ClipExplainer) else ClipExplainer(model, tol=tol)
    explained: list[ClipExplanation] = []
    for first in range(0, len(clips), _BATCH_CLIPS):
        stop = min(first + _BATCH_CLIPS, len(clips))
        batch = [clip for i in range(first, stop) if _has_face(clip := clips[i])]
        if batch:
            explained += explainer.explain(batch)
        if progress is not None:
            progress(stop, len(clips))
    if not explained:
        raise ValueError(f"clips: expected one with a face, got {len(clips)} without")
    return explained


def clip_table(explained: Iterable[ClipExplanation], top: int = 10) -> pd.DataFrame:
    """Put explanations in rows, for CSV.

    Columns: source, emotion, probability, from_seconds, to_seconds, completeness_error, change, the
    relevance share of every region by its name, and the names of the ``top`` landmarks, with
    semicolons between.
    """
    rows = []
    for one in explained:
        begin, end = one.decided
        row = {"source": one.source, "emotion": one.emotion, "probability": one.probability}
        row |= {"from_seconds": begin, "to_seconds": end}
        row |= {"completeness_error": one.completeness_error, "change": one.change}
        row |= {region: one.regions[region] for region in mesh.REGIONS}
        names = "; ".join(mesh.name(i) for i, _ in one.landmarks(top))
        rows.append(row | {"landmarks": names})
    return pd.DataFrame(rows)


def _has_face(clip: LandmarkClip) -> bool:
    if clip.detection_share == 0:
        _logger.warning("%s: left out, as no frame has a face", clip.source)
        return False
    return True


def _shortest_run(weights: NDArray[np.float64], share: float) -> tuple[int, int]:
    """Return the first and last index of the shortest run with that share; the heaviest of them."""
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    enough = share * sums[-1] * (1 - 1e-12)  # what rounding takes away is no reason for one more
    best = (0, len(weights) - 1)
    for first in range(len(weights)):
        last = int(np.searchsorted(sums, sums[first] + enough))  # sums[last] is the first enough
        last = max(last, first + 1)
        if last > len(weights):
            break
        run = (first, last - 1)
        best = min(best, run, key=lambda r: (r[1] - r[0], sums[r[0]] - sums[r[1] + 1]))
    return best
