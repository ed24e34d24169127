"""Search for the landmarks that a fitted model can do with: nested subsets, from all to few."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from fastexai import _core, mesh
from fastexai.clip_input import neutral_clips
from fastexai.landmarks import ClipSet
from fastexai.model_loading import Model, load_model

__all__ = ["LandmarkSearch", "Objective", "Strategy", "search_landmarks"]

Strategy = Literal["relevance", "recursive", "redundancy", "greedy", "beam"]
Objective = Literal["balanced_accuracy", "roc_auc", "log_loss"]

_OUTER_EYE_CORNERS = (33, 263)  # between them lies the inter-ocular distance


@dataclass(frozen=True, slots=True, eq=False)  # eq: arrays have no single truth value
class LandmarkSearch:
    """Nested landmark subsets, and how the model does on each without being fitted again.

    Attributes
    ----------
    kept : dict of int to ndarray
        The landmarks of each size, the last to go first. With ``symmetric`` it may be one fewer than
        the size, where no single landmark was left to make up for a pair.
    scores : DataFrame
        One row per size: landmarks, score (of the objective: the larger, the better),
        balanced_accuracy, roc_auc, log_loss of the masked model.
    relevance : ndarray, shape (S, L), float64
        By which each size's subset was chosen; zero for landmarks that were gone by then.
    plan : str
        How the model was evaluated, in words.
    """

    kept: dict[int, NDArray[np.intp]]
    scores: pd.DataFrame
    relevance: NDArray[np.float64]
    plan: str

    def __repr__(self) -> str:
        sizes = ", ".join(map(str, self.kept))
        return f"LandmarkSearch(sizes {sizes}; {self.plan})"


def search_landmarks(
    model: Model,
    clips: ClipSet | NDArray[np.floating[Any]],
    labels: ArrayLike,
    *,
    baselines: NDArray[np.floating[Any]],
    sizes: Sequence[int] = (468, 256, 128, 64, 32, 16, 8),
    strategy: Strategy = "redundancy",
    objective: Objective = "roc_auc",
    validation: ArrayLike | None = None,
    neutral: ArrayLike | None = None,
    symmetric: bool = False,
    keep_regions: Sequence[str] = (),
    exclude_regions: Sequence[str] = (),
    min_spacing: float = 0.0,
    candidates: int = 8,
    beam_width: int = 4,
    redundancy: float = 0.7,
    n_steps: int = 8,
    progress: Callable[[int, int], object] | None = None,
) -> LandmarkSearch:
    """Remove landmarks from a fitted model's input until few are left.

    A removed landmark is held at the mean of the baselines, in clips and baselines alike: it can tell
    nothing, and its attribution is exactly zero. Where the model's first step is affine, which it
    nearly always is, removing a landmark changes what follows by a known vector: the input layer
    never runs again. Other models run as a whole, slower and with the same results; a warning says
    so. Nothing is drawn at random, and threads change no bit of the result.

    Parameters
    ----------
    model : path, bytes, ScriptModule or nn.Module
        Takes (N, T, L, 3), answers with one number per clip; above 0 means "yes".
    clips : ClipSet, or ndarray of shape (N, T, L, 3), float32 or float64
        Training clips: the search looks at their labels.
    labels : array_like of bool, shape (N,)
        Which clips show the emotion.
    baselines : ndarray, shape (K, T, L, 3)
        Typical clips (`prototypes`), from which clips are attributed.
    sizes : sequence of int
        Landmarks to keep, decreasing.
    strategy : {"redundancy", "recursive", "relevance", "greedy", "beam"}
        Which landmarks go first. "relevance" ranks all once (`DatasetExplanation.relevance`) and
        drops the last. The others attribute again at every size, to the landmarks that are left.
        "recursive" drops the least relevant of those. "redundancy" down to 64 landmarks drops those
        with the least effect: the difference in mean attribution from neutral clips, in standard
        deviations within both. Fewer landmarks are chosen by relevance, lowered by what better
        landmarks tell already: neighbours on a face move together. "greedy" and "beam" remove one
        landmark at a time, the one of the least relevant ``candidates`` without which the masked
        model scores best.
    objective : {"roc_auc", "balanced_accuracy", "log_loss"}
        What scores best. Holding landmarks still shifts all logits alike, which fitting again undoes:
        "roc_auc" alone does not see that shift. In "log_loss" each class counts one half.
    validation : array_like of bool, shape (N,), optional
        Clips on which masked models are scored; the others are attributed. By default both are all.
    neutral : array_like of bool, shape (N,), optional
        Clips of faces at rest, for "redundancy": what other emotions move has no effect beside them.
        By default those of a `ClipSet` that are labelled neutral, if there are five; else all clips
        without the emotion.
    symmetric : bool
        Keep or remove mirror pairs together.
    keep_regions, exclude_regions : sequence of str
        Regions (`mesh.REGIONS`) whose landmarks are always or never kept.
    min_spacing : float
        In inter-ocular distances of the canonical face: a landmark closer than that to a better one
        goes before all that are not, whatever its relevance.
    candidates, beam_width : int
        Removals that "greedy" and "beam" try for every subset, and subsets that "beam" follows.
    redundancy : float
        0 to 1: of a landmark that tells nothing new "redundancy" takes this share of its value.
    n_steps : int
        Gauss-Legendre nodes for each clip and baseline. 8 are as good as 200 for the randomised
        networks here; on a steep one, such as a BiLSTM trained to the end, even 50 give other last
        landmarks than 200 do: a quarter of the 8 that were left of 468.
    progress : callable, optional
        Called with (landmarks removed, landmarks to remove).

    Returns
    -------
    LandmarkSearch
        Subsets, scores and relevance.

    Raises
    ------
    ValueError
        If sizes do not decrease or cannot be reached, only one class is there to score or to
        attribute, shapes do not match, a region does not exist or is both kept and excluded, an option
        is out of range, or the landmarks are not the 468 of the face mesh where regions,
        ``symmetric`` or ``min_spacing`` need them.

    References
    ----------
    Guyon et al., Machine Learning 46, 2002 (recursive elimination); Ding & Peng, J. Bioinform.
    Comput. Biol. 3(2), 2005 (minimum redundancy, maximum relevance).
    """
    X = np.ascontiguousarray(clips.X if isinstance(clips, ClipSet) else clips)
    if X.ndim != 4 or X.shape[-1] != 3 or len(X) == 0:
        raise ValueError(f"clips: expected (N, T, L, 3) with N >= 1, got {X.shape}")
    inputs = torch.from_numpy(X)
    plan = _core.plan_paths(load_model(model), inputs[:1])
    if plan.description.startswith("whole model"):
        warnings.warn(f"model: masked forwards run the {plan.description}", stacklevel=2)
    positive = np.array(labels, dtype=np.bool_)
    if positive.shape != X.shape[:1]:
        raise ValueError(f"labels: expected {X.shape[:1]}, got {positive.shape}")
    kept, scores, relevance, description = _core.search_landmarks(
        plan,
        inputs,
        torch.from_numpy(positive),
        validation=_mask(np.zeros(len(X)) if validation is None else validation),
        neutral=_mask(neutral_clips(clips, positive) if neutral is None else neutral),
        baselines=torch.from_numpy(np.ascontiguousarray(baselines, dtype=X.dtype)),
        sizes=list(sizes),
        strategy=strategy,
        objective=objective,
        min_spacing=min_spacing,
        candidates=candidates,
        beam_width=beam_width,
        redundancy=redundancy,
        nodes=n_steps,
        progress=progress,
        **_constraints(X.shape[2], symmetric, keep_regions, exclude_regions, min_spacing),
    )
    subsets = {size: landmarks.numpy() for size, landmarks in zip(sizes, kept, strict=True)}
    table = _table(list(subsets.values()), scores, objective)
    return LandmarkSearch(subsets, table, relevance.numpy(), description)


def _mask(values: ArrayLike) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.bool_))


def _constraints(
    landmarks: int,
    symmetric: bool,
    keep_regions: Sequence[str],
    exclude_regions: Sequence[str],
    min_spacing: float,
) -> dict[str, torch.Tensor]:
    """Say in the core's words what the face mesh says of its landmarks."""
    on_mesh = landmarks == mesh.LANDMARKS
    if not on_mesh and (symmetric or keep_regions or exclude_regions or min_spacing):
        raise ValueError(
            f"clips: expected {mesh.LANDMARKS} landmarks for symmetric, keep_regions, "
            f"exclude_regions or min_spacing, got {landmarks}"
        )
    both = set(keep_regions) & set(exclude_regions)
    if both:
        raise ValueError(f"keep_regions: expected none that is excluded, got {min(both)!r} in both")
    groups = np.arange(landmarks)
    positions = np.zeros((landmarks, 3))
    if on_mesh:
        groups = np.minimum(groups, mesh.MIRROR) if symmetric else groups
        face = mesh.CANONICAL_FACE.astype(np.float64)
        right, left = _OUTER_EYE_CORNERS
        positions = face / np.linalg.norm(face[right] - face[left])
    return {
        "groups": torch.from_numpy(groups.astype(np.int64)),
        "fixed": _in_regions(landmarks, keep_regions),
        "excluded": _in_regions(landmarks, exclude_regions),
        "positions": torch.from_numpy(positions),
    }


def _in_regions(landmarks: int, regions: Sequence[str]) -> torch.Tensor:
    inside = torch.zeros(landmarks, dtype=torch.bool)
    for name in regions:
        inside[torch.from_numpy(mesh.region_landmarks(name)).long()] = True
    return inside


def _table(
    subsets: list[NDArray[np.intp]], scores: Sequence[_core.Score], objective: Objective
) -> pd.DataFrame:
    names = ("balanced_accuracy", "roc_auc", "log_loss")
    table = pd.DataFrame([{name: getattr(score, name) for name in names} for score in scores])
    table.insert(0, "landmarks", [len(landmarks) for landmarks in subsets])
    sign = -1 if objective == "log_loss" else 1
    table.insert(1, "score", sign * table[objective])
    return table
