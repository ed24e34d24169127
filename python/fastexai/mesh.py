"""What each of the 468 landmarks of MediaPipe's face mesh is.

*Right* and *left* are the subject's: landmark 33, the outer corner of the right eye, lies on
the left of an image that is not mirrored.

Source of the canonical face and its triangles: ``geometry_pipeline_metadata_landmarks.binarypb``
in ``face_landmarker.task``; of the contours: ``FaceLandmarksConnections`` of the mediapipe
package. Both are by Google, Apache License 2.0; ``canonical_face.npz`` holds their numbers
unchanged. Source of the action units: Ekman & Friesen, *Facial Action Coding System*, 1978.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ACTION_UNITS",
    "CANONICAL_FACE",
    "CONTOURS",
    "LANDMARKS",
    "MIRROR",
    "REGIONS",
    "RIGID",
    "TRIANGLES",
    "action_unit_landmarks",
    "action_units",
    "mirror",
    "name",
    "region",
    "region_landmarks",
]

LANDMARKS = 468  #: number of landmarks; the ten iris points are not among them

ACTION_UNITS: Mapping[int, str] = MappingProxyType(
    {
        1: "inner brow raiser",
        2: "outer brow raiser",
        4: "brow lowerer",
        5: "upper lid raiser",
        6: "cheek raiser",
        7: "lid tightener",
        9: "nose wrinkler",
        10: "upper lip raiser",
        12: "lip corner puller",
        14: "dimpler",
        15: "lip corner depressor",
        17: "chin raiser",
        20: "lip stretcher",
        23: "lip tightener",
        25: "lips part",
        26: "jaw drop",
        45: "blink",
    }
)  #: the action units that `action_units` speaks of, by FACS number

# Every landmark of the midline and of the right half, by region and row; the left half mirrors
# the right one. A row runs away from the midline, or downwards where it is vertical.
_ROWS: dict[str, dict[str, tuple[int, ...]]] = {
    "forehead": {
        "upper forehead": (10, 109, 67, 103, 54),
        "middle forehead": (151, 108, 69, 104, 68),
        "glabella": (9, 8),
    },
    "right brow": {
        "upper brow": (107, 66, 105, 63, 70),
        "lower brow": (55, 65, 52, 53, 46),
    },
    "right eye": {
        "inner eye corner": (133,),
        "outer eye corner": (33,),
        "upper eyelid edge": (173, 157, 158, 159, 160, 161, 246),
        "lower eyelid edge": (155, 154, 153, 145, 144, 163, 7),
        "inner eyelid end": (243,),
        "outer eyelid end": (130,),
        "upper eyelid": (190, 56, 28, 27, 29, 30, 247),
        "lower eyelid": (112, 26, 22, 23, 24, 110, 25),
        "inner eye socket": (244,),
        "outer eye socket": (226,),
        "upper eye socket": (189, 221, 222, 223, 224, 225, 113),
        "lower eye socket": (233, 232, 231, 230, 229, 228, 31),
    },
    "right temple": {
        "front temple": (124, 35),
        "middle temple": (71, 156, 143),
        "rear temple": (139, 34),
        "temple edge": (21, 162, 127),
    },
    "nose": {
        "nose bridge": (168, 6, 197, 195, 5),
        "nose ridge side": (122, 196, 3, 51, 45),
        "nose side wall": (193, 245, 188, 174, 236, 134, 220),
        "outer nose side wall": (128, 114, 217, 198, 131, 115),
        "nose and cheek border": (126, 209),
        "nose tip": (4, 1),
        "nose tip side": (44, 125),
        "nose wing": (49, 102, 129, 48, 64, 219, 235),
        "nostril rim": (218, 237, 241, 242, 99, 240),
        "nostril": (166, 79, 239, 238, 20, 60, 75, 59),
        "columella": (19, 94, 141),
        "nose base": (2, 97, 98),
    },
    "right cheek": {
        "upper cheek": (121, 120, 119, 118, 117, 111, 116, 227),
        "middle cheek": (47, 100, 101, 50, 123, 137),
        "lower cheek": (142, 36, 205, 187, 147, 177),
        "nasolabial fold": (203, 206, 216, 212),
        "cheek hollow": (207, 213),
        "cheek edge": (234, 93, 132),
    },
    "perioral": {
        "skin above the upper lip": (164, 167, 165, 92),
        "skin beside the lip corner": (186, 57, 43),
        "skin below the lower lip": (18, 83, 182, 106),
    },
    "lips": {
        "outer lip corner": (61,),
        "outer middle lip corner": (76,),
        "inner middle lip corner": (62,),
        "inner lip corner": (78,),
        "outer upper lip": (0, 37, 39, 40, 185),
        "outer middle upper lip": (11, 72, 73, 74, 184),
        "inner middle upper lip": (12, 38, 41, 42, 183),
        "inner upper lip": (13, 82, 81, 80, 191),
        "inner lower lip": (14, 87, 178, 88, 95),
        "inner middle lower lip": (15, 86, 179, 89, 96),
        "outer middle lower lip": (16, 85, 180, 90, 77),
        "outer lower lip": (17, 84, 181, 91, 146),
    },
    "right jaw": {
        "upper jaw": (202, 214, 192, 215),
        "middle jaw": (210, 135, 138),
        "lower jaw": (170, 169),
        "jaw edge": (149, 150, 136, 172, 58),
    },
    "chin": {
        "upper chin": (200, 201, 194, 204),
        "middle chin": (199, 208, 32, 211),
        "lower chin": (175, 171, 140),
        "chin edge": (152, 148, 176),
    },
}

# The landmarks people know by heart; the left ones follow from the right ones.
_WELL_KNOWN = {
    1: "nose tip",
    2: "nose base",
    4: "upper nose tip",
    6: "nose bridge between the inner eye corners",
    8: "glabella",
    9: "upper glabella",
    10: "top of the forehead",
    13: "upper lip, middle of the inner edge",
    14: "lower lip, middle of the inner edge",
    0: "upper lip, middle of the outer edge",
    17: "lower lip, middle of the outer edge",
    19: "upper columella",
    94: "lower columella",
    151: "middle of the forehead",
    152: "tip of the chin",
    164: "philtrum",
    168: "nose root",
    199: "middle of the chin",
    55: "right brow, inner end",
    46: "right brow, outer end",
    105: "right brow, peak",
    145: "right lower eyelid edge, middle",
    159: "right upper eyelid edge, middle",
    50: "right cheek, middle",
    129: "right nose wing, outermost point",
    98: "right nose wing, base",
    234: "right face edge in front of the ear",
    172: "right jaw angle",
}

# Where each action unit moves the skin: rows of `_ROWS` and single landmarks of the right half.
_LIPS = tuple(_ROWS["lips"])
_UPPER_LIP = tuple(row for row in _LIPS if "upper lip" in row)
_LOWER_LIP = tuple(row for row in _LIPS if "lower lip" in row)
_CORNERS = tuple(row for row in _LIPS if "corner" in row)
_ACTION_UNIT_AREAS: dict[int, tuple[tuple[str, ...], tuple[int, ...]]] = {
    1: (("glabella",), (107, 66, 55, 65, 151, 108, 69, 221, 222, 193)),
    2: ((), (66, 105, 63, 70, 52, 53, 46, 69, 104, 68, 223, 224, 225, 113, 124)),
    4: (("glabella", "upper brow", "lower brow"), (168, 193, 221, 222, 223, 189)),
    5: (("upper eyelid edge", "upper eyelid"), ()),
    6: (
        ("lower eye socket", "lower eyelid", "upper cheek", "outer eye socket"),
        (35, 50, 100, 101),
    ),
    7: (("lower eyelid edge", "lower eyelid", "upper eyelid edge"), ()),
    9: (
        (*(row for row in _ROWS["nose"] if "wall" in row or "side" in row), "nose wing", "nostril"),
        (168, 6, 197, 195, 126, 209, 142, 203, 0, 37, 39, 40, 167, 165),
    ),
    10: ((*_UPPER_LIP, "skin above the upper lip", "nasolabial fold"), ()),
    12: (
        (*_CORNERS, "skin beside the lip corner", "nasolabial fold", "lower cheek"),
        (207, 165, 92, 106, 40, 42, 74, 80, 185, 184, 183, 191, 146, 77, 96, 95, 91, 90, 89, 88),
    ),
    14: (
        (*_CORNERS, "skin beside the lip corner"),
        (216, 212, 207, 185, 184, 183, 191, 146, 77, 96, 95),
    ),
    15: (
        (*_CORNERS, "skin beside the lip corner"),
        (212, 202, 106, 204, 185, 184, 183, 191, 146, 77, 96, 95, 91, 90, 89, 88),
    ),
    17: (("upper chin", "middle chin", "skin below the lower lip", *_LOWER_LIP), ()),
    20: (
        (*_CORNERS, "skin beside the lip corner"),
        (212, 202, 106, 216, 40, 185, 184, 146, 77, 91),
    ),
    23: (_LIPS, (164, 167, 18, 83)),
    25: ((*_UPPER_LIP, *_LOWER_LIP), ()),
    26: ((*_LOWER_LIP, "skin below the lower lip", *_ROWS["chin"], *_ROWS["right jaw"]), ()),
    45: (("upper eyelid edge", "upper eyelid", "lower eyelid edge"), ()),
}


def _load() -> tuple[NDArray[np.float32], NDArray[np.int32], dict[str, NDArray[np.int32]]]:
    """Read the shipped vertices, triangles and contours; all of them read-only."""
    with resources.files(__package__).joinpath("canonical_face.npz").open("rb") as file:
        data = dict(np.load(file))
    contours = {
        key.removeprefix("contour_").replace("_", " "): _frozen(value.astype(np.int32))
        for key, value in data.items()
        if key.startswith("contour_")
    }
    return _frozen(data["vertices"]), _frozen(data["triangles"].astype(np.int32)), contours


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return ``array``, made read-only."""
    array.flags.writeable = False
    return array


def _find_mirror(vertices: NDArray[np.float32]) -> NDArray[np.int32]:
    """Pair each vertex with its mirror image; the canonical face is exactly symmetric."""
    at = {(x, y, z): i for i, (x, y, z) in enumerate(vertices.tolist())}
    return _frozen(np.array([at[-x, y, z] for x, y, z in vertices.tolist()], np.int32))


CANONICAL_FACE, TRIANGLES, _contours = _load()
# CANONICAL_FACE: (468, 3) float32, centimetres; x to the subject's left, y up, z to the camera.
# TRIANGLES: (898, 3) int32.

#: Edges, (E, 2) int32, of lips, right and left eye, right and left brow, nose and face oval.
CONTOURS: Mapping[str, NDArray[np.int32]] = MappingProxyType(_contours)

#: (468,) int32; ``landmarks[..., MIRROR, :]`` exchanges the two halves of the face.
MIRROR = _find_mirror(CANONICAL_FACE)


def _other_side(text: str) -> str:
    """Turn a name of the right half into its counterpart of the left half."""
    return text.replace("right", "left")


def _row_names(row: str, members: tuple[int, ...]) -> Iterator[tuple[int, str]]:
    """Name the landmarks of one row: middle ones, then right ones, each numbered if several."""
    middle = [i for i in members if MIRROR[i] == i]
    right = [i for i in members if MIRROR[i] != i]
    for place, group in ((f"{row}, middle", middle), (f"right {row}", right)):
        for k, i in enumerate(group, start=1):
            yield i, f"{place} {k}" if len(group) > 1 else place


def _label() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Work out the region and the name of every landmark."""
    regions, names = [""] * LANDMARKS, [""] * LANDMARKS
    for region_, rows in _ROWS.items():
        for row, members in rows.items():
            for i, systematic in _row_names(row, members):
                text = _WELL_KNOWN.get(i, systematic)
                # The left half first: a landmark of the midline keeps what is written last.
                regions[MIRROR[i]], names[MIRROR[i]] = _other_side(region_), _other_side(text)
                regions[i], names[i] = region_, text
    return tuple(regions), tuple(names)


_REGION_OF, _NAME_OF = _label()

#: Names of the regions, from the forehead down; every landmark belongs to exactly one.
REGIONS: tuple[str, ...] = tuple(
    name_
    for region_ in _ROWS
    for name_ in ([region_, _other_side(region_)] if "right" in region_ else [region_])
)


def _both_halves(rows: tuple[str, ...], landmarks: tuple[int, ...]) -> NDArray[np.int32]:
    """Expand rows and landmarks of the right half to the sorted landmarks of both halves."""
    members = {row: m for rows_ in _ROWS.values() for row, m in rows_.items()}
    right = [*landmarks, *(i for row in rows for i in members[row])]
    return _frozen(np.union1d(right, MIRROR[right]).astype(np.int32))


_LANDMARKS_OF_UNIT = {unit: _both_halves(*area) for unit, area in _ACTION_UNIT_AREAS.items()}

#: What expressions hardly move: hair line, temples, nose bridge and eye corners.
RIGID: NDArray[np.int32] = _both_halves(
    ("upper forehead", *_ROWS["right temple"]), (168, 6, 197, 195, 122, 196, 33, 133)
)


def _index(landmark: SupportsIndex) -> int:
    """Check a landmark's index."""
    i = operator.index(landmark)
    if not 0 <= i < LANDMARKS:
        raise IndexError(f"landmark: expected an index from 0 to {LANDMARKS - 1}, got {i}")
    return i


def region(landmark: SupportsIndex) -> str:
    """Return the region, one of `REGIONS`, that a landmark belongs to.

    Parameters
    ----------
    landmark : int
        Index from 0 to 467.

    Raises
    ------
    IndexError
        If there is no such landmark.
    """
    return _REGION_OF[_index(landmark)]


def region_landmarks(name: str) -> NDArray[np.int32]:
    """Return the landmarks of a region, in ascending order.

    Parameters
    ----------
    name : str
        One of `REGIONS`.

    Raises
    ------
    ValueError
        If there is no such region.
    """
    if name not in REGIONS:
        raise ValueError(f"region: expected one of {', '.join(REGIONS)}; got {name!r}")
    return np.flatnonzero(np.array(_REGION_OF) == name).astype(np.int32)


def name(landmark: SupportsIndex) -> str:
    """Return the readable name of a landmark; no two landmarks share one.

    Numbers in a name count away from the midline of the face, or downwards. See `region` for
    the argument and the error.
    """
    return _NAME_OF[_index(landmark)]


def mirror(landmark: SupportsIndex) -> int:
    """Return the landmark's counterpart on the other half of the face.

    A landmark of the midline is its own counterpart. See `region` for the argument and the error.
    """
    return int(MIRROR[_index(landmark)])


def action_units(landmark: SupportsIndex) -> tuple[int, ...]:
    """Return the FACS action units, keys of `ACTION_UNITS`, that move a landmark noticeably.

    See `region` for the argument and the error.
    """
    i = _index(landmark)
    return tuple(unit for unit, members in _LANDMARKS_OF_UNIT.items() if i in members)


def action_unit_landmarks(unit: int) -> NDArray[np.int32]:
    """Return the landmarks that an action unit moves noticeably, in ascending order.

    Parameters
    ----------
    unit : int
        A FACS number; one of `ACTION_UNITS`.

    Raises
    ------
    ValueError
        If the action unit is not among `ACTION_UNITS`.
    """
    if unit not in _LANDMARKS_OF_UNIT:
        raise ValueError(f"unit: expected one of {', '.join(map(str, ACTION_UNITS))}; got {unit!r}")
    return _LANDMARKS_OF_UNIT[unit]
