"""Action units as displacement fields on the canonical face, and the emotions made of them.

Sources: Ekman & Friesen, *Facial Action Coding System*, 1978, for what each unit does; Friesen
& Ekman, *EMFACS-7*, 1983, for the prototypes of the emotions. The sizes are those of adult
faces at full intensity (E on FACS's scale), in centimetres.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fastexai.mesh import ACTION_UNITS, CANONICAL_FACE, LANDMARKS, MIRROR

Array = NDArray[np.float32]

#: Action units of each emotion; contempt is one-sided. Neutral has none, and is no emotion here.
PROTOTYPES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "anger": (4, 5, 7, 23),
        "contempt": (12, 14),
        "disgust": (9, 15),
        "fear": (1, 2, 4, 5, 20, 26),
        "happiness": (6, 12),
        "sadness": (1, 4, 15),
        "surprise": (1, 2, 5, 26),
    }
)
EMOTIONS = tuple(PROTOTYPES)  #: the seven emotions; "neutral" is an eighth label
ONE_SIDED = ("contempt",)  #: emotions that show on one half of the face
UNITS = tuple(ACTION_UNITS)  #: order of the action units in every array of this package

#: A landmark is relevant for an emotion if the emotion at its apex moves it by more than this
#: share of the largest displacement it causes anywhere.
RELEVANT_SHARE = 0.1

_X, _Y, _Z = CANONICAL_FACE.astype(np.float64).T
INTER_OCULAR_CM = float(np.linalg.norm(CANONICAL_FACE[33] - CANONICAL_FACE[263]))


def smoothstep(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rise from 0 at 0 to 1 at 1, flat outside and at both ends."""
    s = np.clip(values, 0, 1)
    return np.asarray(s * s * (3 - 2 * s))


# Skin slides over the skull in sheets that end at the lids and lips: neighbours across an edge,
# such as landmarks 13 and 14, belong to different muscles. A mask is 1 on its muscle's side.
_EYE_LINE = 2.664 - 0.0304 * (4.446 - np.abs(_X))  # through both corners of the eye
_LOWER_LIP = smoothstep((-4.03 - _Y) / 0.5)  # 0.5 at the lip corners
_MASKS: Mapping[str, NDArray[np.float64]] = {
    "": np.ones(LANDMARKS),
    "brow": smoothstep((_Y - 2.9) / 0.9),
    "upper lid": (_Y > _EYE_LINE).astype(float),
    "lower lid": (_Y < _EYE_LINE).astype(float),
    "cheek": smoothstep((2.5 - _Y) / 1.2),
    "upper lip": 1 - _LOWER_LIP,
    "lower lip": _LOWER_LIP,
}


@dataclass(frozen=True, slots=True)
class Bump:
    """A smooth, bounded push of the skin of the right half."""

    center: tuple[float, float]  #: x, y on the canonical face, cm
    push: tuple[float, float, float]  #: displacement at the centre, cm: x, y, z
    radius: tuple[float, float]  #: half axes of the ellipse outside of which nothing moves, cm
    mask: str = ""  #: the muscle's side of a lid or lip

    def field(self) -> NDArray[np.float64]:
        """Displacement of every landmark, (468, 3) in cm, before the halves are separated."""
        far = ((_X - self.center[0]) / self.radius[0]) ** 2
        far = far + ((_Y - self.center[1]) / self.radius[1]) ** 2
        weight = np.clip(1 - far, 0, 1) ** 2 * _MASKS[self.mask]
        return np.asarray(weight[:, None] * np.array(self.push))


_LIP_CORNER = (-2.4, -4.3)
_UPPER_LID = (-3.18, 2.97)
_LOWER_LID = (-3.18, 2.30)
_BUMPS: Mapping[int, tuple[Bump, ...]] = {
    1: (Bump((-1.3, 4.6), (0.1, 0.8, 0.0), (3.0, 3.0), "brow"),),
    2: (Bump((-4.7, 4.5), (-0.1, 0.8, 0.0), (3.0, 3.0), "brow"),),
    4: (
        Bump((-1.4, 4.6), (0.3, -0.45, 0.05), (2.6, 2.2), "brow"),
        Bump((-3.8, 4.7), (0.15, -0.3, 0.0), (2.2, 2.0), "brow"),
    ),
    5: (Bump(_UPPER_LID, (0.0, 0.25, -0.05), (1.35, 0.75), "upper lid"),),
    6: (
        Bump((-4.4, 0.4), (0.05, 0.5, 0.15), (2.8, 2.4), "cheek"),
        Bump(_LOWER_LID, (0.0, 0.12, 0.0), (1.6, 1.0), "lower lid"),
        Bump((-5.5, 2.5), (0.12, -0.08, 0.0), (1.4, 1.4)),  # crow's feet
    ),
    7: (
        Bump(_LOWER_LID, (0.0, 0.2, 0.0), (1.35, 0.8), "lower lid"),
        Bump(_UPPER_LID, (0.0, -0.08, 0.0), (1.35, 0.6), "upper lid"),
    ),
    9: (
        Bump((-1.1, 0.0), (0.05, 0.5, 0.1), (1.6, 2.3)),
        Bump((-1.0, -3.2), (0.0, 0.3, 0.05), (2.0, 1.7), "upper lip"),
        Bump((-0.9, 4.3), (0.1, -0.2, 0.0), (1.7, 1.4), "brow"),
    ),
    10: (Bump((-1.2, -3.4), (-0.05, 0.5, 0.05), (2.0, 1.8), "upper lip"),),
    12: (
        Bump(_LIP_CORNER, (-0.75, 0.7, -0.3), (3.6, 2.5)),
        Bump((-4.4, -1.6), (-0.1, 0.35, 0.25), (2.4, 2.2)),
    ),
    14: (Bump(_LIP_CORNER, (-0.35, 0.05, -0.35), (1.8, 1.6)),),
    15: (Bump(_LIP_CORNER, (-0.1, -0.6, 0.0), (2.2, 2.2)),),
    17: (
        Bump((0.0, -6.8), (0.0, 0.5, 0.2), (2.8, 1.8)),
        Bump((0.0, -5.0), (0.0, 0.3, 0.2), (2.0, 1.4), "lower lip"),
    ),
    20: (Bump(_LIP_CORNER, (-0.8, -0.15, -0.35), (2.8, 2.0)),),
    23: (
        Bump(_LIP_CORNER, (0.25, 0.0, 0.0), (1.6, 1.2)),
        Bump((-0.9, -3.5), (0.0, -0.15, -0.12), (2.0, 1.0), "upper lip"),
        Bump((-0.9, -5.2), (0.0, 0.2, -0.12), (2.0, 1.1), "lower lip"),
    ),
    25: (
        Bump((0.0, -4.9), (0.0, -0.4, 0.0), (2.3, 1.6), "lower lip"),
        Bump((0.0, -3.7), (0.0, 0.12, 0.0), (2.3, 1.2), "upper lip"),
    ),
    45: (
        Bump(_UPPER_LID, (0.0, -0.55, 0.05), (1.5, 0.75), "upper lid"),
        Bump(_LOWER_LID, (0.0, 0.08, 0.0), (1.35, 0.6), "lower lid"),
    ),
}


def _jaw_drop() -> NDArray[np.float64]:
    """Turn the mandible about its condyles, which glide forward as it opens, (468, 3) in cm."""
    angle, condyle = np.deg2rad(11), (0.5, -2.0)
    turn = angle * np.stack([0 * _X, condyle[1] - _Z, _Y - condyle[0]], axis=1)
    glide = np.array([0.0, -0.1, 0.6])
    # The lower lip follows at once, the cheeks stretch over several centimetres.
    beside = smoothstep((np.abs(_X) - 2.0) / 1.5)
    top, bottom = -4.03 + 2 * beside, -4.53 - 2 * beside
    follows = smoothstep((top - _Y) / (top - bottom))
    return np.asarray(follows[:, None] * (turn + glide))


_WHOLE_FACE: Mapping[int, Callable[[], NDArray[np.float64]]] = {26: _jaw_drop}


def _half_field(unit: int) -> Array:
    """Displacement that the right half of an action unit causes, (468, 3) in cm."""
    if unit in _WHOLE_FACE:
        field = _WHOLE_FACE[unit]()
    else:
        field = np.sum([bump.field() for bump in _BUMPS[unit]], axis=0)
    right = smoothstep(0.5 - _X / 1.6)  # the halves overlap by 1.6 cm and add up to 1
    return (field * right[:, None]).astype(np.float32)


_RIGHT = np.stack([_half_field(unit) for unit in UNITS])

#: (2 U, 468, 3) cm: what each action unit moves, the right halves first, then the left ones.
FIELDS: Array = np.concatenate([_RIGHT, _RIGHT[:, MIRROR] * np.array([-1, 1, 1], np.float32)])
FIELDS.flags.writeable = False

#: (7, U): 1 where an action unit (`UNITS`) belongs to an emotion (`EMOTIONS`).
MEMBERSHIP = np.array([[u in PROTOTYPES[e] for u in UNITS] for e in EMOTIONS], np.float32)


def check_emotion(emotion: str) -> None:
    """Raise a ValueError unless ``emotion`` is one of `EMOTIONS`."""
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion: expected one of {', '.join(EMOTIONS)}; got {emotion!r}")


def emotion_displacement(emotion: str) -> Array:
    """Return how far an emotion at full intensity moves each landmark of the canonical face.

    Contempt, which shows on one side, is given on both.

    Parameters
    ----------
    emotion : str
        One of `EMOTIONS`.

    Returns
    -------
    ndarray, shape (468, 3), float32
        In inter-ocular distances; x to the subject's left, y up, z to the camera.

    Raises
    ------
    ValueError
        If there is no such emotion.
    """
    check_emotion(emotion)
    active = MEMBERSHIP[EMOTIONS.index(emotion)]
    moved = np.tensordot(np.tile(active, 2), FIELDS, axes=1) / INTER_OCULAR_CM
    return np.asarray(moved, np.float32)


def relevant_landmarks(emotion: str) -> NDArray[np.bool_]:
    """Return which landmarks an emotion truly moves, (468,).

    Those are the landmarks that `emotion_displacement` moves by more than `RELEVANT_SHARE`
    of its largest displacement. See there for the argument and the error.
    """
    size = np.linalg.norm(emotion_displacement(emotion), axis=1)
    return np.asarray(size > RELEVANT_SHARE * size.max(), np.bool_)
