"""What a detector cannot see of a face, and what it guesses instead.

Note [Guessed landmarks]: a detector that fits a mesh returns all landmarks always, hidden ones too.
MediaPipe 1.2 was shown a still portrait with opaque covers (the one of `skimage.data.astronaut`, 40
frames each, slightly turned and noisy). Under a mask, sunglasses and a hand, landmarks trembled 3 to
4 times as much as uncovered, were off by 2.7 to 4.8 % of the inter-ocular distance (medians in x and
y), and a smile that moves the lip corners by 9 % moved them by 0.5 % under the mask. Not one frame
was lost. Hence: what is hidden rests, is off by a smooth error of 3 mm that stays, and trembles 4
times as much. At large yaw it scatters more too (Frajtag, Švaco & Šuligoj, arXiv 2507.18248).
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fastexai.datasets.action_units import smoothstep
from fastexai.datasets.faces import smooth_modes
from fastexai.datasets.motion import Timeline
from fastexai.datasets.nuisances import Nuisances, draw_chosen
from fastexai.mesh import CANONICAL_FACE, LANDMARKS, TRIANGLES

Array = NDArray[np.float32]
Rng = np.random.Generator

OCCLUDERS = ("mask", "sunglasses", "hand")
_GUESS_CM = 0.3  # the error of guessed landmarks, standard deviation in x and y
_GUESS_JITTER = 4.0  # how much more they tremble

_X, _Y, _ = CANONICAL_FACE.astype(np.float64).T


@dataclass(frozen=True, slots=True, eq=False)
class Occlusion:
    """What is hidden in each clip, and where the detector's guesses are off."""

    occluders: tuple[str, ...]  #: (N,), one of `OCCLUDERS`, or ""
    cover: Array  #: (N, 468), 0 to 1: what the occluder hides while it is there
    present: Array  #: (F,), 0 to 1: whether it is
    yaw: NDArray[np.float64]  #: (N,), degrees by which the head is turned aside; 0: no profile
    error: Array  #: (N, 3, 468), cm: guess minus face at rest, before the head is turned
    lost: NDArray[np.bool_]  #: (F,), where the detector finds no face

    def touches(self, clips: range) -> bool:
        """Return whether anything is hidden in any of these clips."""
        return bool(self.cover[clips].any() or self.yaw[clips].any())

    def hidden(self, frames: slice, clip: NDArray[np.int64], facing: Array) -> Array:
        """Return the share to which each landmark is guessed, (F, 468).

        ``clip`` (F,) is the clip of each of these frames, and ``facing`` (F, 3) the direction to
        the camera as the face sees it.
        """
        covered = self.cover[clip] * self.present[frames, None]
        aside = self.yaw[clip] != 0
        averted = smoothstep((0.2 - facing[aside] @ _normals().T) / 0.4)
        covered[aside] = np.maximum(covered[aside], averted)
        return covered


def jitter_gain(hidden: Array, facing: Array, aside: NDArray[np.bool_]) -> Array:
    """Return how much more each coordinate trembles, (F, 3, 468).

    Guessed landmarks do, and, where the head is turned ``aside``, depth: by up to twice.
    """
    gain = np.repeat(1 + (_GUESS_JITTER - 1) * hidden[:, None], 3, axis=1)
    gain[aside, 2] *= 1 + np.abs(facing[aside, :1])
    return np.asarray(gain, np.float32)


def draw_occlusion(rng: Rng, nuisances: Nuisances, timeline: Timeline) -> Occlusion:
    """Draw what is hidden in each clip, as the shares of ``nuisances`` say.

    A mask and sunglasses stay, a hand comes and goes. One clip in four with a hand or in profile
    loses the face for a tenth to a third of its duration; the rates of both are assumptions.
    """
    n, clip, duration = len(timeline.fps), timeline.clip, timeline.duration
    covers, turns, whens, errors = rng.spawn(4)
    occluded = draw_chosen(covers, nuisances.occlusion, n)
    kind = np.where(occluded, covers.integers(1, 1 + len(OCCLUDERS), n), 0)
    begin, length = whens.uniform(0, 0.6, n) * duration, whens.uniform(0.4, 1.2, n)
    since = timeline.time - begin[clip]
    there = smoothstep(since / 0.15) * smoothstep((length[clip] - since) / 0.15)
    is_hand = kind == 1 + OCCLUDERS.index("hand")
    aside = draw_chosen(turns, nuisances.profile, n)
    yaw = aside * turns.choice([-1, 1], n) * turns.uniform(35, 65, n)
    lost = (is_hand | aside) & (whens.random(n) < 0.25)
    gone = since / (whens.uniform(0.1, 0.33, n) * duration)[clip]
    return Occlusion(
        occluders=tuple(("", *OCCLUDERS)[i] for i in kind),
        cover=_draw_covers(covers, kind),
        present=np.where(is_hand[clip], there, 1).astype(np.float32),
        yaw=yaw,
        error=_draw_errors(errors, occluded | aside),
        lost=np.asarray(lost[clip] & (gone >= 0) & (gone < 1), np.bool_),
    )


def _draw_covers(rng: Rng, kind: NDArray[np.int64]) -> Array:
    """Draw what each clip's occluder hides, (N, 468); ``kind`` counts from 1 in `OCCLUDERS`."""
    n = len(kind)
    x, y, radius = np.moveaxis(rng.uniform([-4, -7, 2.5], [4, -1, 4], (n, 1, 3)), -1, 0)
    # From the bridge of the nose downwards, and from there to the ears.
    mask = smoothstep((1.2 - 0.25 * np.abs(_X) - _Y) / 0.6)
    lens = np.hypot((np.abs(_X) - 3.2) / 2.8, (_Y - 2.8) / 2.0)
    hand = smoothstep((1.1 - np.hypot(_X - x, _Y - y) / radius) / 0.2)
    covers = np.zeros((n, LANDMARKS), np.float32)
    covers[kind == 1] = mask
    covers[kind == 2] = smoothstep((1.1 - lens) / 0.2)
    covers[kind == 3] = hand[kind == 3]
    return covers


def _draw_errors(rng: Rng, off: NDArray[np.bool_]) -> Array:
    """Draw how far guesses are off in these clips (N,), (N, 3, 468) in cm; in depth by twice."""
    modes = smooth_modes(5.0, 12)
    # Drawn for all clips, so that the error of one does not depend on which others are hidden.
    weights = rng.standard_normal((len(off), 3, len(modes)), dtype=np.float32)
    weights *= np.array([[1], [1], [2]], np.float32) * np.float32(_GUESS_CM)
    error = np.zeros((len(off), 3, LANDMARKS), np.float32)
    error[off] = weights[off] @ modes
    return error


@cache
def _normals() -> NDArray[np.float64]:
    """Outward normals of the canonical face at its landmarks, (468, 3)."""
    corners = CANONICAL_FACE.astype(np.float64)[TRIANGLES]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((LANDMARKS, 3))
    for i in range(3):
        np.add.at(normals, TRIANGLES[:, i], areas)
    normals *= np.sign(normals[:, 2].sum())  # whichever way round the triangles are listed
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))
