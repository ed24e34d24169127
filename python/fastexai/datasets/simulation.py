"""Simulated expressions: landmarks as a detector would return them, and the truth behind them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastexai.datasets.action_units import (
    EMOTIONS,
    FIELDS,
    INTER_OCULAR_CM,
    UNITS,
    check_emotion,
    relevant_landmarks,
)
from fastexai.datasets.faces import draw_faces, draw_jitter
from fastexai.datasets.motion import (
    Timeline,
    draw_distraction,
    draw_label_activation,
    draw_missing,
    draw_pose,
    draw_timeline,
    draw_weak_activation,
    rotations,
)
from fastexai.datasets.nuisances import (
    Nuisances,
    draw_halves,
    draw_labels,
    draw_second_emotions,
)
from fastexai.datasets.occlusion import Occlusion, draw_occlusion, jitter_gain
from fastexai.landmarks import ClipSet
from fastexai.mesh import LANDMARKS
from fastexai.video import LandmarkClip

Array = NDArray[np.float32]

_IMAGE_SIZES = ((640, 480), (1280, 720), (1920, 1080), (720, 1280))
_BLOCK = 32  # clips at a time: their frames stay in the processor's cache
_TO_IMAGE = np.array([1, -1, -1])  # y up and z to the camera become y down and z away from it


@dataclass(frozen=True, slots=True, eq=False)  # eq: arrays have no single truth value
class SimulatedClips:
    """Raw clips and the truth behind them.

    Attributes
    ----------
    clips : tuple of LandmarkClip
        What a detector would return, with ``label``, wrong for a few if so asked, and ``subject``.
    true_labels : tuple of str
        What each clip shows.
    second_emotions : tuple of str
        The weaker emotion that is mixed in; empty where there is none.
    occluders : tuple of str
        "mask", "sunglasses" or "hand"; empty where nothing hides the face.
    in_profile : ndarray of bool, shape (N,)
        Whether the head is turned aside.
    activations : tuple of ndarray, each (T, 2 U), float32
        What the true label made the action units do: right halves in the order of ``UNITS``, then
        left halves; 1 is full intensity. Distractions and second emotions are not in it.
    relevant : dict of str to ndarray of bool, shape (468,)
        The landmarks that each emotion truly moves; see `relevant_landmarks`.
    """

    clips: tuple[LandmarkClip, ...]
    true_labels: tuple[str, ...]
    second_emotions: tuple[str, ...]
    occluders: tuple[str, ...]
    in_profile: NDArray[np.bool_]
    activations: tuple[Array, ...]
    relevant: dict[str, NDArray[np.bool_]]

    def displacement(self, clip: int) -> Array:
        """Return what the true label of a clip caused, per frame and landmark.

        Exactly what the face would not do without it, seen by the detector or hidden from it.

        Parameters
        ----------
        clip : int
            Index into ``clips``.

        Returns
        -------
        ndarray, shape (T, 468, 3), float32
            In inter-ocular distances of the canonical face, before the head is turned; x to the
            subject's left, y up, z to the camera.
        """
        moved = np.tensordot(self.activations[clip], FIELDS, axes=1) / np.float32(INTER_OCULAR_CM)
        return np.asarray(moved, np.float32)


def simulate_landmarks(
    n: int = 600,
    *,
    emotions: Sequence[str] = EMOTIONS,
    subjects: int | None = None,
    seed: int = 0,
    difficulty: float = 0.5,
    intensity: float | tuple[float, float] = 1.0,
    nuisances: Nuisances | None = None,
) -> SimulatedClips:
    """Simulate raw clips of people who show emotions, or stay neutral, and are filmed.

    Every subject is a face of its own with its own way of expressing. A clip goes from neutral
    to its apex, sometimes back, as FACS describes the emotion (Ekman & Friesen, 1978; prototypes
    after EMFACS), more or less completely and evenly. Blinks, brow flicks, speech, nods and idle
    play, which carry no label, happen at the same time. Then the head turns and the camera sees
    it in weak perspective; the detector adds its jitter and loses some frames.

    Parameters
    ----------
    n : int
        Number of clips; labels and subjects are as evenly spread over them as possible.
    emotions : sequence of str
        Emotions to show, from `EMOTIONS`. "neutral" always joins them as one more label.
    subjects : int, optional
        Number of people, 2 to ``n``; by default about a tenth of ``n``.
    seed : int
        The same seed gives the same clips.
    difficulty : float
        0 to 1: how faint and partial expressions are, how strong jitter and distractions.
        Measured on 600 clips: a logistic regression on flattened clips, one emotion against
        all other labels in subject-independent folds, has a balanced accuracy of 98 to 99 %
        at 0, 88 % at 0.5 and 62 to 63 % at 1 for the median emotion.
    intensity : float or (float, float)
        Factor on what the labels cause; of two, every clip draws its own between them. With 0,
        labels exist but show nothing: a placebo.
    nuisances : Nuisances, optional
        Mixed, partial and lopsided expressions, hidden faces, profiles, wrong labels; none by
        default.

    Returns
    -------
    SimulatedClips
        Clips in pixels, 15 to 30 frames per second, and the truth.

    Raises
    ------
    ValueError
        If ``n`` < 1, ``subjects`` is not in 2 to ``n``, ``difficulty`` is not in [0, 1],
        ``intensity`` is negative or falls, or an emotion is unknown, repeated or missing
        altogether.

    Examples
    --------
    >>> from fastexai.datasets import IN_THE_WILD, simulate_landmarks
    >>> simulated = simulate_landmarks(100, seed=0, intensity=(0.3, 1.0), nuisances=IN_THE_WILD)
    >>> sum(occluder != "" for occluder in simulated.occluders), simulated.in_profile.sum().item()
    (29, 13)
    >>> simulated.displacement(0).shape == simulated.clips[0].landmarks.shape
    True
    """
    nuisances = nuisances or Nuisances()
    low, high = _check(n, emotions, subjects, difficulty, intensity)
    people = min(n, max(2, round(n / 10))) if subjects is None else subjects
    rng = np.random.default_rng(seed)
    choice = (*emotions, "neutral")
    true_labels, subject = _assign(rng, n, choice, people)
    timeline = draw_timeline(rng, n)
    # A stream for each: everything else is the same for all labels, intensities and nuisances.
    seen, label_rng, second_rng, half_rng, size_rng, hidden_rng, wrong_rng = rng.spawn(7)
    styles = label_rng.lognormal(0, 0.2, (people, 2 * len(UNITS))).astype(np.float32)[subject]
    activation = draw_label_activation(
        label_rng, timeline, true_labels, styles, difficulty=difficulty, partial=nuisances.partial
    )
    sizes = size_rng.uniform(low, high, (n, 1)) * draw_halves(half_rng, nuisances.asymmetry, n)
    activation *= sizes.astype(np.float32)[timeline.clip]
    seconds = draw_second_emotions(second_rng, nuisances.mixture, true_labels)
    shown = activation
    if any(seconds):
        shown = activation + draw_weak_activation(
            second_rng, timeline, seconds, styles, difficulty=difficulty
        )
    occlusion = draw_occlusion(hidden_rng, nuisances, timeline)
    clips = _film(seen, timeline, shown, subject, people, 0.25 + 1.3 * difficulty, occlusion)
    labels = draw_labels(wrong_rng, nuisances.label_noise, true_labels, choice)
    return SimulatedClips(
        clips=tuple(
            replace(
                clip, label=label, subject=f"subject {k:03d}", source=f"simulated/{seed}/{i:05d}"
            )
            for i, (clip, label, k) in enumerate(zip(clips, labels, subject.tolist(), strict=True))
        ),
        true_labels=tuple(true_labels),
        second_emotions=seconds,
        occluders=occlusion.occluders,
        in_profile=occlusion.yaw != 0,
        activations=tuple(np.split(activation, timeline.starts[1:-1])),
        relevant={emotion: relevant_landmarks(emotion) for emotion in emotions},
    )


def simulate_expressions(
    n: int = 600,
    *,
    frames: int = 20,
    emotions: Sequence[str] = EMOTIONS,
    subjects: int | None = None,
    seed: int = 0,
    difficulty: float = 0.5,
    intensity: float | tuple[float, float] = 1.0,
    nuisances: Nuisances | None = None,
) -> ClipSet:
    """Simulate a labelled data set whose relevant landmarks are known.

    `simulate_landmarks`, whose arguments and errors are the same, followed by the normalisation
    and resampling that real clips get.

    Parameters
    ----------
    n, emotions, subjects, seed, difficulty, intensity, nuisances
        See `simulate_landmarks`.
    frames : int
        Frames of every clip, at least 2.

    Returns
    -------
    ClipSet
        With ``relevant`` for each emotion. Its clips are those of `simulate_landmarks` with the
        same arguments, in the same order: true labels are to be had there.

    Raises
    ------
    ValueError
        If ``frames`` < 2, or as `simulate_landmarks` does.
    """
    if frames < 2:
        raise ValueError(f"frames: expected at least 2, got {frames}")
    simulated = simulate_landmarks(
        n,
        emotions=emotions,
        subjects=subjects,
        seed=seed,
        difficulty=difficulty,
        intensity=intensity,
        nuisances=nuisances,
    )
    clips = ClipSet.from_clips(simulated.clips, frames=frames)
    return replace(clips, relevant=simulated.relevant)


def _check(
    n: int,
    emotions: Sequence[str],
    subjects: int | None,
    difficulty: float,
    intensity: float | tuple[float, float],
) -> tuple[float, float]:
    """Check the arguments of `simulate_landmarks`; return the least and greatest intensity."""
    if n < 1:
        raise ValueError(f"n: expected at least 1 clip, got {n}")
    if isinstance(emotions, str) or not emotions or len(set(emotions)) < len(emotions):
        raise ValueError(f"emotions: expected different names, got {emotions!r}")
    for emotion in emotions:
        check_emotion(emotion)
    if subjects is not None and not 2 <= subjects <= n:
        raise ValueError(f"subjects: expected 2 to n = {n}, got {subjects}")
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty: expected a number from 0 to 1, got {difficulty}")
    bounds = np.ravel(intensity).tolist()
    if not (len(bounds) in (1, 2) and 0 <= bounds[0] <= bounds[-1] < np.inf):
        raise ValueError(f"intensity: expected a number from 0, or two that rise, got {intensity}")
    return bounds[0], bounds[-1]


def _assign(
    rng: np.random.Generator, n: int, labels: tuple[str, ...], people: int
) -> tuple[list[str], NDArray[np.int64]]:
    """Spread labels and subjects evenly, and each label's clips over different subjects."""
    order = rng.permutation(n)
    label = np.sort(np.arange(n) % len(labels))[order]
    return [labels[i] for i in label], rng.permutation(people)[np.arange(n) % people][order]


def _film(
    rng: np.random.Generator,
    timeline: Timeline,
    activation: Array,
    subject: NDArray[np.int64],
    people: int,
    disturbance: float,
    occlusion: Occlusion,
) -> list[LandmarkClip]:
    """Let faces move, turn heads, look through the camera and detect landmarks."""
    n, units = len(subject), len(UNITS)
    # Nobody's neutral face is the canonical one: corners hang, brows are low, today more or less.
    resting = np.tile(rng.normal(0, 0.1, (people, units)), 2)
    resting += rng.normal(0, 0.04, resting.shape)  # the two halves differ
    resting = resting[subject] + rng.normal(0, 0.03, (n, 2 * units))
    play = np.tile(draw_distraction(rng, timeline) * np.float32(disturbance), 2)
    play += activation + resting.astype(np.float32)[timeline.clip]
    faces = np.swapaxes(draw_faces(rng, people), 1, 2)[subject]
    view = _draw_view(rng, timeline, occlusion.yaw)
    jitter = view.unit_px * (disturbance * rng.uniform(0.003, 0.009, n))[timeline.clip, None, None]
    missing = draw_missing(rng, timeline) | occlusion.lost
    fields = np.ascontiguousarray(FIELDS.swapaxes(1, 2)).reshape(len(FIELDS), -1)

    clips, starts = [], timeline.starts
    for first in range(0, n, _BLOCK):
        own = range(first, min(first + _BLOCK, n))
        rows = slice(starts[first], starts[own.stop])
        clip, facing = timeline.clip[rows], view.facing[rows]
        moved = (play[rows] @ fields).reshape(-1, 3, LANDMARKS)
        tremble = draw_jitter(rng, len(moved)) * jitter[rows].astype(np.float32)
        if occlusion.touches(own):
            hidden = occlusion.hidden(rows, clip, facing)
            moved += hidden[:, None] * (occlusion.error[clip] - moved)
            tremble *= jitter_gain(hidden, facing, occlusion.yaw[clip] != 0)
        moved += faces[clip]
        seen = view.turn[rows] @ moved
        seen += view.origin_px[rows]
        seen += tremble
        seen[missing[rows]] = np.nan
        pixels = np.split(np.ascontiguousarray(seen.swapaxes(1, 2)), starts[own] - starts[first])
        times = np.split(timeline.time[rows], starts[own] - starts[first])
        for i, landmarks, time in zip(own, pixels[1:], times[1:], strict=True):
            fps, size = float(timeline.fps[i]), view.image_sizes[i]
            clips.append(LandmarkClip(landmarks, time, fps, size, source=""))
    return clips


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """Where the camera sees each face: pixels = turn @ centimetres + origin."""

    image_sizes: list[tuple[int, int]]  #: (N,), width and height
    unit_px: NDArray[np.float64]  #: (F, 1, 1), one inter-ocular distance
    turn: Array  #: (F, 3, 3), pixels per centimetre
    origin_px: Array  #: (F, 3, 1)
    facing: Array  #: (F, 3), the direction to the camera as the face sees it


def _draw_view(rng: np.random.Generator, timeline: Timeline, yaw: NDArray[np.float64]) -> _View:
    """Draw image sizes, where in the image faces are and how large, and how heads move."""
    rotation, shift, size = draw_pose(rng, timeline)
    n, clip = len(timeline.fps), timeline.clip
    aside = yaw[clip] != 0
    rotation[aside] = rotation[aside] @ rotations(np.deg2rad(np.outer(yaw[clip][aside], [1, 0, 0])))
    image_sizes = [_IMAGE_SIZES[i] for i in rng.integers(0, len(_IMAGE_SIZES), n)]
    image = np.array(image_sizes, np.float64)
    unit = (image.min(axis=1) * rng.uniform(0.12, 0.25, n))[clip] * size
    center = (image * rng.normal(0.5, 0.04, (n, 2)))[clip] + shift * unit[:, None]
    turn = rotation * _TO_IMAGE[:, None] * (unit / INTER_OCULAR_CM)[:, None, None]
    origin = np.pad(center, ((0, 0), (0, 1)))[:, :, None]
    return _View(
        image_sizes,
        unit[:, None, None],
        turn.astype(np.float32),
        origin.astype(np.float32),
        rotation[:, 2],
    )
