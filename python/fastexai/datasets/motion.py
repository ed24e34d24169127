"""When and how much each action unit acts, and how the head moves.

Nothing here but the draws of activations sees a label: what distracts carries no information.
Arrays over frames are flat: the frames of all clips, one clip after the other.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastexai.datasets.action_units import EMOTIONS, MEMBERSHIP, ONE_SIDED, UNITS, smoothstep

Array = NDArray[np.float32]
Rng = np.random.Generator
_FRAME_RATES = (15.0, 24.0, 25.0, 30.0)


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """The frames of all clips."""

    fps: NDArray[np.float64]  #: (N,), frames per second
    counts: NDArray[np.int64]  #: (N,), frames of each clip
    clip: NDArray[np.int64]  #: (F,), the clip of each frame
    time: NDArray[np.float64]  #: (F,), seconds since the clip began

    @property
    def duration(self) -> NDArray[np.float64]:
        """Duration of each clip, (N,), in seconds."""
        return self.counts / self.fps

    @property
    def starts(self) -> NDArray[np.int64]:
        """First frame of each clip, and one past the last, (N + 1,)."""
        return np.concatenate([[0], np.cumsum(self.counts)])


def draw_timeline(rng: Rng, n: int) -> Timeline:
    """Draw ``n`` clips of 1 to 2.5 seconds."""
    fps = rng.choice(_FRAME_RATES, n)
    counts = np.round(fps * rng.uniform(1.0, 2.5, n)).astype(np.int64)
    clip = np.repeat(np.arange(n), counts)
    frame = np.arange(len(clip)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Timeline(fps, counts, clip, frame / fps[clip])


def _envelope(rng: Rng, timeline: Timeline) -> Array:
    """Draw neutral, onset, apex and, in two clips of five, offset, per unit: (F, U) in [0, 1]."""
    n, clip = len(timeline.fps), timeline.clip
    onset = rng.uniform(0.05, 0.35, n) * timeline.duration
    rise = rng.uniform(0.2, 0.7, n)
    delay = rng.uniform(0.0, 0.12, (n, len(UNITS)))  # units do not start together
    offset = np.where(rng.random(n) < 0.4, rng.uniform(0.65, 0.9, n) * timeline.duration, np.inf)
    fall = rng.uniform(0.3, 0.8, n)
    up = smoothstep((timeline.time[:, None] - (onset[:, None] + delay)[clip]) / rise[clip, None])
    down = smoothstep((timeline.time - offset[clip]) / fall[clip])
    return np.asarray(up * (1 - down[:, None]), np.float32)


def draw_label_activation(
    rng: Rng,
    timeline: Timeline,
    labels: Sequence[str],
    styles: Array,
    *,
    difficulty: float,
    partial: float = 0.0,
) -> Array:
    """Draw what the labels cause, (F, 2 U): right halves, then left ones; 1 is full intensity.

    ``styles`` (N, 2 U) scales each unit the way each clip's subject expresses it. With the
    ``difficulty``, 0 to 1, units of the prototype stay away more often (one always shows), and
    expressions are fainter and less even. ``partial`` is the least chance that a unit stays away.
    """
    n, u = len(labels), len(UNITS)
    prototypes = np.vstack([MEMBERSHIP, np.zeros(u)])
    amplitude = prototypes[[EMOTIONS.index(x) if x in EMOTIONS else -1 for x in labels]]
    chance = rng.random((n, u))
    strongest = chance == np.max(chance, axis=1, keepdims=True, initial=0, where=amplitude > 0)
    amplitude = amplitude * ((chance >= max(0.25 * difficulty, partial)) | strongest)
    overall = (1 - 0.74 * difficulty) * (1 - rng.uniform(0, 0.2 + 0.3 * difficulty, (n, 1)))
    uneven = rng.lognormal(0, 0.1 + 0.2 * difficulty, (n, u))
    amplitude = np.tile(amplitude * overall * uneven, 2)
    amplitude *= styles * rng.lognormal(0, 0.1, (n, 2 * u))
    side = np.repeat(rng.permuted(np.tile([1.0, 0.0], (n, 1)), axis=1), u, axis=1)
    one_sided = np.isin(labels, ONE_SIDED)
    amplitude[one_sided] *= side[one_sided]
    moving = np.tile(_envelope(rng, timeline), 2)
    moving *= amplitude.astype(np.float32)[timeline.clip]
    return moving


def draw_weak_activation(
    rng: Rng, timeline: Timeline, emotions: Sequence[str], styles: Array, *, difficulty: float
) -> Array:
    """Draw what second emotions cause, (F, 2 U): 20 to 50 % of `draw_label_activation`."""
    strength = rng.uniform(0.2, 0.5, (len(emotions), 1)).astype(np.float32)
    moving = draw_label_activation(rng, timeline, emotions, styles, difficulty=difficulty)
    moving *= strength[timeline.clip]
    return moving


def _pulse(rng: Rng, timeline: Timeline, chance: float, width: tuple[float, float]) -> Array:
    """Draw one bell-shaped pulse, (F,), in a share ``chance`` of the clips; ``width`` in seconds."""
    n, clip = len(timeline.fps), timeline.clip
    center, present = rng.random(n) * timeline.duration, rng.random(n) < chance
    far = (timeline.time - center[clip]) / rng.uniform(*width, n)[clip]
    return np.asarray(present[clip] * np.exp(-2 * far**2), np.float32)


def _wave(rng: Rng, timeline: Timeline, columns: int, hertz: tuple[float, float]) -> Array:
    """Draw smooth motion, (F, columns), as two sinusoids per clip and column; variance 1."""
    shape = (2, len(timeline.fps), columns)
    frequency, phase = rng.uniform(*hertz, shape), rng.uniform(0, 2 * np.pi, shape)
    angle = 2 * np.pi * timeline.time[:, None] * frequency[:, timeline.clip]
    return np.asarray(np.sin(angle + phase[:, timeline.clip]).sum(axis=0), np.float32)


def _per_clip(rng: Rng, timeline: Timeline, low: float, high: float) -> NDArray[np.float64]:
    """Draw one uniform number per clip and repeat it for its frames, (F,)."""
    return rng.uniform(low, high, len(timeline.fps))[timeline.clip]


def draw_distraction(rng: Rng, timeline: Timeline) -> Array:
    """Draw blinks, brow flicks, speech and idle play of the face, (F, U); both sides alike."""
    play = 0.04 * _wave(rng, timeline, len(UNITS), (0.1, 1.0))

    def add(units: tuple[int, ...], amount: NDArray[np.floating]) -> None:
        for unit in units:
            play[:, UNITS.index(unit)] += amount

    for _ in range(2):
        add((45,), _pulse(rng, timeline, 0.35, (0.08, 0.16)))
    flick = _pulse(rng, timeline, 0.25, (0.12, 0.3)) * _per_clip(rng, timeline, 0.2, 0.7)
    add((1, 2), flick)
    speaks = rng.random(len(timeline.fps)) < 0.3
    loud = speaks[timeline.clip] * _per_clip(rng, timeline, 0.3, 1.0)
    syllables = np.abs(_wave(rng, timeline, 4, (1.0, 2.5)))
    for unit, size, wave in zip((26, 25, 20, 23), (0.2, 0.3, 0.12, 0.2), syllables.T, strict=True):
        add((unit,), size * loud * wave)
    return play


def draw_pose(rng: Rng, timeline: Timeline) -> tuple[Array, Array, Array]:
    """Draw the head's motion: rotation (F, 3, 3), shift (F, 2) and relative size (F,).

    A clip looks aside by 8, 6 and 4 degrees in yaw, pitch and roll and sways by 2.5, 2 and 1.5
    (standard deviations); one in four nods. Shifts are in inter-ocular distances.
    """
    n, clip = len(timeline.fps), timeline.clip
    mean = rng.normal(0, [8, 6, 4], (n, 3))[clip]
    degrees = mean + _wave(rng, timeline, 3, (0.1, 0.6)) * [2.5, 2.0, 1.5]
    nods = (rng.random(n) < 0.25)[clip] * _per_clip(rng, timeline, 2, 6)
    degrees[:, 1] += nods * _wave(rng, timeline, 1, (1.0, 2.0))[:, 0]
    shift = 0.06 * _wave(rng, timeline, 2, (0.1, 0.6))
    size = 1 + 0.02 * _wave(rng, timeline, 1, (0.1, 0.6))[:, 0]
    return rotations(np.deg2rad(degrees)), shift, size


def rotations(angles: NDArray[np.floating]) -> Array:
    """Turn yaw, pitch and roll, (F, 3) in radians, into matrices that apply them in this order."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(angles).T, np.sin(angles).T
    zero, one = np.zeros_like(cy), np.ones_like(cy)
    yaw = np.array([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]])
    pitch = np.array([[one, zero, zero], [zero, cp, -sp], [zero, sp, cp]])
    roll = np.array([[cr, -sr, zero], [sr, cr, zero], [zero, zero, one]])
    turns = [np.moveaxis(turn, 2, 0) for turn in (roll, pitch, yaw)]
    return np.asarray(turns[0] @ turns[1] @ turns[2], np.float32)


def draw_missing(rng: Rng, timeline: Timeline) -> NDArray[np.bool_]:
    """Draw where the detector found no face, (F,): runs of 1 to 4 frames in a third of the clips."""
    n, clip = len(timeline.fps), timeline.clip
    present, length = rng.random(n) < 0.33, rng.integers(1, 5, n)
    first = timeline.starts[:-1] + (rng.random(n) * timeline.counts).astype(np.int64)
    since = np.arange(len(clip)) - first[clip]
    return np.asarray(present[clip] & (since >= 0) & (since < length[clip]), np.bool_)
