"""Raw landmark clips in, normalised clips of equal length out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans

from fastexai import _core, mesh

if TYPE_CHECKING:
    from fastexai.store import LandmarkStore
    from fastexai.video import LandmarkClip

Alignment = Literal["procrustes", "eyes"]

__all__ = [
    "Alignment",
    "ClipSet",
    "Normalization",
    "OneEuro",
    "fill_gaps",
    "normalize",
    "prototypes",
    "resample",
]

_BATCH_CLIPS = 64  # raw clips in memory at a time


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
        the canonical face by a 3-D similarity transform, and so removes yaw and pitch as well; what
        perspective does to a face near the camera remains (tests/test_head_motion.py measures it).
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
    _check_alignment(alignment)
    if alignment == "eyes":
        return _core.align_eyes(tensor).numpy()
    return _core.align_to_reference(tensor, reference=_REFERENCE, basis=_BASIS).numpy()


def _check_alignment(alignment: str) -> None:
    if alignment not in ("procrustes", "eyes"):
        raise ValueError(f"alignment: expected 'procrustes' or 'eyes', got {alignment!r}")


def resample(
    landmarks: ArrayLike, timestamps: ArrayLike, *, frames: int, max_gap: int | None = None
) -> NDArray[np.floating[Any]]:
    """Bring a clip to ``frames`` instants evenly spaced in time, bridging frames without a face.

    Parameters
    ----------
    landmarks : array_like, shape (T, L, 3), float32 or float64
        One clip. A frame with any NaN or infinity counts as "not detected".
    timestamps : array_like, shape (T,)
        Seconds, strictly increasing.
    frames : int
        Number of frames wanted.
    max_gap : int, optional
        Longest run of undetected frames to bridge; by default any.

    Returns
    -------
    ndarray, shape (frames, L, 3), same dtype
        Linear in time between detected frames; the nearest detected frame beyond them. Instants in
        a longer gap are NaN.

    Raises
    ------
    ValueError
        If shapes do not match, time does not increase, no frame has a face, or ``max_gap`` < 0.
    """
    clip = (_tensor(landmarks), _seconds(timestamps))
    return _core.resample(*clip, frames=frames, max_gap=max_gap).numpy()


def fill_gaps(
    landmarks: ArrayLike, timestamps: ArrayLike, *, max_gap: int
) -> NDArray[np.floating[Any]]:
    """Fill short gaps of a clip; `resample` at the clip's own instants.

    Parameters
    ----------
    landmarks, timestamps
        As `resample` takes them.
    max_gap : int
        Longest run of undetected frames to fill.

    Returns
    -------
    ndarray, shape (T, L, 3), same dtype
        In gaps of up to ``max_gap`` frames the line, in time, between the detected frames around;
        at either end of the clip, where there is no line, the nearest detected frame. Longer gaps
        are NaN, detected frames as they were.

    Raises
    ------
    ValueError
        If shapes do not match, time does not increase, or ``max_gap`` < 0.
    """
    return _core.fill_gaps(_tensor(landmarks), _seconds(timestamps), max_gap=max_gap).numpy()


@dataclass(frozen=True, slots=True)
class OneEuro:
    """The One-Euro filter: what rests does not tremble, what moves does not lag.

    A low-pass filter whose cutoff grows with each coordinate's own speed. On simulated clips the
    defaults take away a third of what the detector's jitter adds.

    Attributes
    ----------
    min_cutoff : float
        Hertz, of what rests. Less trembles less and lags more.
    beta : float
        Hertz by which the cutoff grows per unit of speed: for normalised landmarks, per
        inter-ocular distance per second. More lags less.
    derivative_cutoff : float
        Hertz, of the speed's own filter.

    References
    ----------
    Casiez, Roussel & Vogel, CHI 2012, algorithm 1.
    """

    min_cutoff: float = 1.0
    beta: float = 1.0
    derivative_cutoff: float = 1.0

    def smooth(self, landmarks: ArrayLike, timestamps: ArrayLike) -> NDArray[np.floating[Any]]:
        """Filter a clip in time, in one direction, as if it were live.

        Parameters
        ----------
        landmarks, timestamps
            As `resample` takes them; frames without a face are skipped, their time is not.

        Returns
        -------
        ndarray, shape (T, L, 3), same dtype
            The first detected frame as it was; undetected frames are NaN.

        Raises
        ------
        ValueError
            If shapes do not match, time does not increase, a cutoff is not positive, or ``beta``
            is negative.
        """
        return _core.smooth(
            _tensor(landmarks),
            _seconds(timestamps),
            min_cutoff=self.min_cutoff,
            beta=self.beta,
            derivative_cutoff=self.derivative_cutoff,
        ).numpy()


def _tensor(array: ArrayLike) -> torch.Tensor:
    """View an array as a tensor; copy only what torch cannot view (read-only, negative strides)."""
    data = np.asarray(array)
    if not data.flags.writeable or any(stride < 0 for stride in data.strides):
        data = data.copy()
    return torch.from_numpy(data)


def _seconds(timestamps: ArrayLike) -> torch.Tensor:
    return _tensor(np.asarray(timestamps, dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Normalization:
    """How raw clips become comparable. A model works on clips of its own normalisation only.

    Attributes
    ----------
    alignment : {"procrustes", "eyes"}
        See `normalize`.
    smoothing : OneEuro, optional
        Filters the aligned landmarks before they are resampled.
    neutral_frames : int
        With k > 0, clips are displacements from the mean of their first k frames.
    """

    alignment: Alignment = "procrustes"
    smoothing: OneEuro | None = None
    neutral_frames: int = 0

    @classmethod
    def from_dict(cls, description: dict[str, Any]) -> Normalization:
        """Read what ``dataclasses.asdict`` made of one."""
        smoothing = description["smoothing"]
        return cls(**description | {"smoothing": OneEuro(**smoothing) if smoothing else None})


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
    normalization : Normalization
        How the clips were made comparable.
    rejected : tuple of (id, reason)
        The clips that `from_clips` left out.
    """

    X: NDArray[np.float32]
    labels: NDArray[np.str_]
    subjects: NDArray[np.str_]
    ids: NDArray[np.str_]
    relevant: dict[str, NDArray[np.bool_]] | None = None
    normalization: Normalization = Normalization()
    rejected: tuple[tuple[str, str], ...] = ()

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
        normalization: Normalization = Normalization(),
        min_detection_share: float = 0.0,
        max_gap: int | None = None,
    ) -> ClipSet:
        """Normalise raw clips and resample them to ``frames`` frames.

        No frame of the result is NaN: `resample` bridges every gap of the clips that are kept.

        Parameters
        ----------
        clips : iterable of LandmarkClip
            Raw clips, in pixels; a missing label becomes an empty string. A missing
            subject is replaced by the clip's source, so that no two people are taken for one.
        frames : int
            Frames per clip.
        normalization : Normalization
            Steps and their options.
        min_detection_share : float
            Leave out clips with a face in a smaller share of their frames, 0 to 1.
        max_gap : int, optional
            Leave out clips with more frames in a row without a face.

        Returns
        -------
        ClipSet
            The clips left out are its ``rejected``; one warning counts and names them.

        Raises
        ------
        ValueError
            If no clip is left, a clip that is not left out has no face in any frame, or an argument
            is out of range.
        """
        if not 0 <= min_detection_share <= 1:
            raise ValueError(f"min_detection_share: expected 0 to 1, got {min_detection_share}")
        if max_gap is not None and max_gap < 0:
            raise ValueError(f"max_gap: expected a number of frames from 0, got {max_gap}")
        X, kept, rejected = [], [], []
        for batch in _batches(clips):
            landmarks, detected, longest_gap = _normalized(batch, frames, normalization)
            good = np.ones(len(batch), np.bool_)
            for i, clip in enumerate(batch):
                reason = _objection(
                    len(clip), detected[i], longest_gap[i], min_detection_share, max_gap
                )
                if reason is not None:
                    good[i] = False
                    rejected.append((clip.source, reason))
                elif detected[i] == 0:
                    raise ValueError(
                        f"clips: expected a face in at least one frame, got none in {clip.source!r}"
                    )
                else:
                    kept.append((clip.label or "", clip.subject or clip.source, clip.source))
            X.append(landmarks if good.all() else landmarks[good])
        if not kept:
            found = f"{len(rejected)} that were all left out" if rejected else "none"
            raise ValueError(f"clips: expected at least one clip, got {found}")
        if rejected:
            _warn_of(rejected, len(kept))
        labels, subjects, ids = (np.array(names) for names in zip(*kept, strict=True))
        return cls(
            X[0] if len(X) == 1 else np.concatenate(X),
            labels,
            subjects,
            ids,
            normalization=normalization,
            rejected=tuple(rejected),
        )

    @classmethod
    def from_store(
        cls,
        store: LandmarkStore,
        *,
        frames: int = 20,
        normalization: Normalization = Normalization(),
        min_detection_share: float = 0.0,
        max_gap: int | None = None,
    ) -> ClipSet:
        """Read a store's clips and treat them as `from_clips` does."""
        return cls.from_clips(
            store,
            frames=frames,
            normalization=normalization,
            min_detection_share=min_detection_share,
            max_gap=max_gap,
        )

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


def _batches(clips: Iterable[LandmarkClip]) -> Iterator[list[LandmarkClip]]:
    """Take the clips by the batch, so that few raw ones are in memory; all, where all are."""
    if isinstance(clips, list | tuple):
        yield list(clips)
        return
    rest = iter(clips)
    while batch := list(islice(rest, _BATCH_CLIPS)):
        yield batch


def _normalized(
    clips: list[LandmarkClip], frames: int, normalization: Normalization
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return landmarks (N, frames, L, 3), frames with a face (N,) and longest gaps (N,)."""
    _check_alignment(normalization.alignment)
    smoothing = normalization.smoothing
    landmarks, detected, longest_gap = _core.normalize_clips(
        [_tensor(clip.landmarks) for clip in clips],
        [_tensor(clip.timestamps) for clip in clips],
        frames=frames,
        procrustes=(_REFERENCE, _BASIS) if normalization.alignment == "procrustes" else None,
        smoothing=astuple(smoothing) if smoothing is not None else None,
        neutral_frames=normalization.neutral_frames,
    )
    return landmarks.numpy(), detected.numpy(), longest_gap.numpy()


def _objection(
    frames: int, detected: int, longest_gap: int, min_share: float, max_gap: int | None
) -> str | None:
    """Say why a clip is left out, or None."""
    if detected < min_share * frames:
        return f"a face in {detected} of {frames} frames"
    if max_gap is not None and longest_gap > max_gap:
        return f"no face for {longest_gap} frames in a row"
    return None


def _warn_of(rejected: list[tuple[str, str]], kept: int, named: int = 5) -> None:
    """Say how many clips are left out, and which."""
    names = "; ".join(f"{source}: {reason}" for source, reason in rejected[:named])
    more = f"; and {len(rejected) - named} more (see `rejected`)" if len(rejected) > named else ""
    warnings.warn(
        f"{len(rejected)} of {len(rejected) + kept} clips are left out ({names}{more})",
        stacklevel=3,
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
    distances, points = _embedded(flat)
    clusters = KMeans(k, n_init=1, random_state=seed).fit_predict(points)
    chosen = []
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        chosen.append(members[distances[np.ix_(members, members)].sum(axis=0).argmin()])
    # Where fewer than k clips differ, clusters stay empty: the first of the others make up for them.
    others = np.setdiff1d(np.arange(len(flat)), chosen)[: k - len(chosen)]
    typical: NDArray[np.float32] = X[np.sort(candidates[[*chosen, *others]])]
    return typical


def _embedded(
    flat: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return all distances of N rows, (N, N), and N points as far apart in at most N dimensions.

    Classical scaling (Torgerson, 1952): k-means then reads N numbers a clip, not all of them.
    """
    centred = torch.from_numpy(flat - flat.mean(0))
    gram = (centred @ centred.T).double()
    squares = gram.diagonal()
    distances = (squares[:, None] + squares[None] - 2 * gram).clamp_min(0).sqrt()
    values, vectors = torch.linalg.eigh(gram)
    return distances.numpy(), (vectors * values.clamp_min(0).sqrt()).numpy()


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
