"""Raw landmark clips in, normalised clips of equal length out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances

from fastexai import _core, mesh

if TYPE_CHECKING:
    from fastexai.store import LandmarkStore
    from fastexai.video import LandmarkClip

Alignment = Literal["procrustes", "eyes"]

__all__ = ["Alignment", "ClipSet", "normalize", "prototypes", "resample"]


def _canonical_reference() -> torch.Tensor:
    """Return the canonical face as an image shows it (y down, z away), in inter-ocular distances."""
    face = mesh.CANONICAL_FACE.astype(np.float64) * (1, -1, -1)
    right, left = face[[33, 133]].mean(0), face[[362, 263]].mean(0)
    return torch.from_numpy((face - (right + left) / 2) / np.linalg.norm(face[263] - face[33]))


_REFERENCE = _canonical_reference()
_BASIS = torch.from_numpy(mesh.RIGID.astype(np.int64))


def normalize(
    landmarks: ArrayLike, *, alignment: Alignment = "procrustes"
) -> NDArray[np.floating[Any]]:
    """Remove the head's position, size and pose from every face, frame by frame.

    Afterwards the midpoint between the eyes is near the origin, x runs along the eye line, y down,
    and the inter-ocular distance (between the outer eye corners) is the unit.

    Parameters
    ----------
    landmarks : array_like, shape (..., 468, 3), float32 or float64
        Landmarks in one isotropic unit, such as pixels; y down. NaN where no face was found.
    alignment : {"procrustes", "eyes"}
        ``procrustes`` fits the rigid part of the face (`mesh.RIGID`: expressions hardly move it) to
        the canonical face by a 3-D similarity transform, and so removes yaw and pitch as well.
        ``eyes`` only shifts, scales and turns within the image plane, by the corners of the eyes.

    Returns
    -------
    ndarray, shape (..., 468, 3), same dtype
        Landmarks in inter-ocular distances; undetected frames are NaN.

    Raises
    ------
    ValueError
        If the shape is not (..., 468, 3), or the alignment is unknown.
    TypeError
        If the dtype is not float32 or float64.
    """
    tensor = _tensor(landmarks)
    if tensor.ndim < 2 or tensor.shape[-2:] != (mesh.LANDMARKS, 3):
        raise ValueError(f"landmarks: expected (..., 468, 3), got {(*tensor.shape,)}")
    if alignment == "eyes":
        return _core.align_eyes(tensor).numpy()
    if alignment == "procrustes":
        return _core.align_to_reference(tensor, reference=_REFERENCE, basis=_BASIS).numpy()
    raise ValueError(f"alignment: expected 'procrustes' or 'eyes', got {alignment!r}")


def resample(
    landmarks: ArrayLike, timestamps: ArrayLike, *, frames: int
) -> NDArray[np.floating[Any]]:
    """Bring a clip to ``frames`` instants evenly spaced in time, bridging frames without a face.

    Parameters
    ----------
    landmarks : array_like, shape (T, L, 3), float32 or float64
        One clip. A frame with any NaN counts as "not detected".
    timestamps : array_like, shape (T,)
        Seconds, strictly increasing.
    frames : int
        Number of frames wanted.

    Returns
    -------
    ndarray, shape (frames, L, 3), same dtype
        Linear in time between detected frames; the nearest detected frame beyond them.

    Raises
    ------
    ValueError
        If shapes do not match, time does not increase, or no frame has a face.
    """
    times = _tensor(np.asarray(timestamps, dtype=np.float64))
    return _core.resample(_tensor(landmarks), times, frames=frames).numpy()


def _tensor(array: ArrayLike) -> torch.Tensor:
    """View an array as a tensor; copy only what torch cannot view (read-only, negative strides)."""
    data = np.asarray(array)
    if not data.flags.writeable or any(stride < 0 for stride in data.strides):
        data = data.copy()
    return torch.from_numpy(data)


@dataclass(frozen=True, slots=True, eq=False)  # eq: arrays have no single truth value
class ClipSet:
    """Many normalised clips of equal length in memory.

    Attributes
    ----------
    X : ndarray, shape (N, T, L, 3), float32
        Normalised landmarks, in inter-ocular distances.
    labels, subjects, ids : ndarray of str, shape (N,)
        Emotion, person and identity of each clip.
    relevant : dict of str to ndarray of bool, shape (L,), optional
        The landmarks that each emotion truly moves; known for simulated clips only.
    alignment : {"procrustes", "eyes"}
        How the clips were normalised (`normalize`).
    """

    X: NDArray[np.float32]
    labels: NDArray[np.str_]
    subjects: NDArray[np.str_]
    ids: NDArray[np.str_]
    relevant: dict[str, NDArray[np.bool_]] | None = None
    alignment: Alignment = "procrustes"

    def __post_init__(self) -> None:
        if self.X.ndim != 4 or self.X.shape[-1] != 3:
            raise ValueError(f"X: expected (N, T, L, 3), got {self.X.shape}")
        if self.X.dtype != np.float32:
            raise TypeError(f"X: expected float32, got {self.X.dtype}")
        for name in ("labels", "subjects", "ids"):
            shape = getattr(self, name).shape
            if shape != self.X.shape[:1]:
                raise ValueError(f"{name}: expected {self.X.shape[:1]}, got {shape}")

    @classmethod
    def from_clips(
        cls,
        clips: Iterable[LandmarkClip],
        *,
        frames: int = 20,
        alignment: Alignment = "procrustes",
    ) -> ClipSet:
        """Normalise raw clips and resample them to ``frames`` frames.

        Parameters
        ----------
        clips : iterable of LandmarkClip
            Raw clips, in pixels; a missing label or subject becomes an empty string. A missing
            subject is replaced by the clip's source, so that no two people are taken for one.
        frames : int
            Frames per clip.
        alignment : {"procrustes", "eyes"}
            See `normalize`.

        Raises
        ------
        ValueError
            If there is no clip, or one has no face in any frame.
        """
        X, labels, subjects, ids = [], [], [], []
        for clip in clips:
            normalized = normalize(clip.landmarks, alignment=alignment)
            X.append(resample(normalized, clip.timestamps, frames=frames))
            labels.append(clip.label or "")
            subjects.append(clip.subject or clip.source)
            ids.append(clip.source)
        if not X:
            raise ValueError("clips: expected at least one clip, got none")
        return cls(
            np.stack(X),
            np.array(labels),
            np.array(subjects),
            np.array(ids),
            alignment=alignment,
        )

    @classmethod
    def from_store(
        cls, store: LandmarkStore, *, frames: int = 20, alignment: Alignment = "procrustes"
    ) -> ClipSet:
        """Read a store's clips and treat them as `from_clips` does."""
        return cls.from_clips(store, frames=frames, alignment=alignment)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, index: Any) -> ClipSet:
        """Return the clips that a slice, a mask or an array of indices selects."""
        if isinstance(index, int | np.integer):
            index = [index]
        return replace(
            self,
            X=self.X[index],
            labels=self.labels[index],
            subjects=self.subjects[index],
            ids=self.ids[index],
        )

    def __repr__(self) -> str:
        n, t, landmarks, _ = self.X.shape
        emotions = ", ".join(sorted(set(self.labels.tolist())))
        people = len(set(self.subjects.tolist()))
        return (
            f"ClipSet({n} clips of {t} frames x {landmarks} landmarks, "
            f"{people} subjects; labels: {emotions})"
        )


def prototypes(
    clips: ClipSet | NDArray[np.float32],
    k: int = 5,
    *,
    of: Literal["all", "neutral", "class", "rest"] = "all",
    emotion: str | None = None,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Choose ``k`` typical clips: the medoid of each cluster that k-means finds.

    A medoid is the member with the smallest sum of Euclidean distances to its cluster. The clusters
    are those of k-means; the k-medoids problem, which also seeks better clusters, is not solved.

    Parameters
    ----------
    clips : ClipSet, or ndarray of shape (N, T, L, 3)
        Normalised clips. Give training clips only.
    k : int
        How many.
    of : {"all", "neutral", "class", "rest"}
        Choose among all clips, those labelled "neutral", those labelled ``emotion``, or those not
        labelled ``emotion``. An array has no labels: "all" is its only choice.
    emotion : str, optional
        A label of ``clips``. "class" and "rest" need it, the others refuse it.
    seed : int
        Of k-means' starting points.

    Returns
    -------
    ndarray, shape (k, T, L, 3), float32
        Real clips, not averages: an average face moves as nobody does. In the order of ``clips``.

    Raises
    ------
    ValueError
        If there are fewer than ``k`` clips to choose from or one of them holds NaN, the shape is not
        (N, T, L, 3), ``of`` is unknown, or ``emotion`` is not what ``of`` needs.
    """
    X = clips.X if isinstance(clips, ClipSet) else clips
    if X.ndim != 4 or X.shape[-1] != 3:
        raise ValueError(f"clips: expected (N, T, L, 3), got {X.shape}")
    candidates = _candidates(clips, of, emotion)
    if not 1 <= k <= len(candidates):
        raise ValueError(f"k: expected 1 to {len(candidates)} (the clips to choose from), got {k}")
    flat = X[candidates].reshape(len(candidates), -1)
    broken = candidates[~np.isfinite(flat).all(axis=1)]
    if broken.size:
        raise ValueError(f"clips: expected finite values, got NaN or Inf in clip {broken[0]}")
    clusters = KMeans(k, n_init=1, random_state=seed).fit_predict(flat)
    chosen = []
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        chosen.append(members[pairwise_distances(flat[members]).sum(axis=0).argmin()])
    # Where fewer than k clips differ, clusters stay empty: the first of the others make up for them.
    others = np.setdiff1d(np.arange(len(flat)), chosen)[: k - len(chosen)]
    typical: NDArray[np.float32] = X[np.sort(candidates[[*chosen, *others]])]
    return typical


def _candidates(
    clips: ClipSet | NDArray[np.float32], of: str, emotion: str | None
) -> NDArray[np.intp]:
    """Return the indices of the clips that `prototypes` may choose."""
    if of not in ("all", "neutral", "class", "rest"):
        raise ValueError(f"of: expected 'all', 'neutral', 'class' or 'rest', got {of!r}")
    if not isinstance(clips, ClipSet) and of != "all":
        raise ValueError(f"of: expected 'all' for an array, which has no labels, got {of!r}")
    if of in ("all", "neutral") and emotion is not None:
        raise ValueError(f"emotion: expected None beside of={of!r}, got {emotion!r}")
    if not isinstance(clips, ClipSet) or of == "all":
        return np.arange(len(clips))
    if of == "neutral":
        return np.flatnonzero(clips.labels == "neutral")
    if emotion not in clips.labels:
        labels = ", ".join(map(repr, np.unique(clips.labels).tolist()))
        raise ValueError(f"emotion: expected a label of the clips ({labels}), got {emotion!r}")
    return np.flatnonzero((clips.labels == emotion) == (of == "class"))
