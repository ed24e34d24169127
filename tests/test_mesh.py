"""What each landmark is: the partition, the mirror, the names and the shipped numbers."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastexai import mesh

LANDMARK = st.integers(0, mesh.LANDMARKS - 1)


def swap_sides(text: str) -> str:
    return text.replace("right", "?").replace("left", "right").replace("?", "left")


def test_regions_are_a_partition() -> None:
    members = np.concatenate([mesh.region_landmarks(name) for name in mesh.REGIONS])
    assert sorted(members) == list(range(mesh.LANDMARKS))


@given(LANDMARK)
def test_region_and_its_landmarks_agree(i: int) -> None:
    assert i in mesh.region_landmarks(mesh.region(i))


@given(LANDMARK)
def test_mirror_is_an_involution_that_swaps_sides(i: int) -> None:
    other = mesh.mirror(i)
    assert mesh.mirror(other) == i
    assert mesh.region(other) == swap_sides(mesh.region(i))
    assert mesh.name(other) == swap_sides(mesh.name(i))
    assert mesh.action_units(other) == mesh.action_units(i)


def test_mirror_maps_the_canonical_face_onto_itself() -> None:
    # Exactly: Google's face is symmetric to the last bit.
    np.testing.assert_array_equal(
        mesh.CANONICAL_FACE[mesh.MIRROR], mesh.CANONICAL_FACE * [-1, 1, 1]
    )
    np.testing.assert_array_equal(np.arange(468) == mesh.MIRROR, mesh.CANONICAL_FACE[:, 0] == 0)


@given(LANDMARK)
def test_right_means_the_subjects_right(i: int) -> None:
    x = mesh.CANONICAL_FACE[i, 0]
    assert mesh.name(i).startswith("right") == (x < 0)
    assert mesh.name(i).startswith("left") == (x > 0)


def test_names_are_unique() -> None:
    names = [mesh.name(i) for i in range(mesh.LANDMARKS)]
    assert len(set(names)) == mesh.LANDMARKS
    assert all(names)


@pytest.mark.parametrize(
    ("landmark", "expected"),
    [
        (61, "right outer lip corner"),
        (291, "left outer lip corner"),
        (33, "right outer eye corner"),
        (133, "right inner eye corner"),
        (263, "left outer eye corner"),
        (362, "left inner eye corner"),
        (1, "nose tip"),
        (152, "tip of the chin"),
        (40, "right outer upper lip 3"),
    ],
)
def test_well_known_landmarks_have_their_names(landmark: int, expected: str) -> None:
    assert mesh.name(landmark) == expected


def test_action_units_act_where_their_names_say() -> None:
    assert {12, 14, 15} <= set(mesh.action_units(61))
    assert 1 in mesh.action_units(55)
    assert 2 in mesh.action_units(46)
    assert mesh.action_units(10) == ()
    for unit in mesh.ACTION_UNITS:
        assert all(unit in mesh.action_units(i) for i in mesh.action_unit_landmarks(unit))


def test_rigid_landmarks_lie_on_both_halves_and_never_on_the_mouth() -> None:
    assert set(mesh.MIRROR[mesh.RIGID]) == set(mesh.RIGID)
    assert not {mesh.region(i) for i in mesh.RIGID} & {"lips", "perioral", "chin", "right jaw"}


def test_edges_and_triangles_are_landmarks() -> None:
    assert mesh.TRIANGLES.shape == (898, 3)
    for indices in (mesh.TRIANGLES, mesh.RIGID, *mesh.CONTOURS.values()):
        assert indices.min() >= 0
        assert indices.max() < mesh.LANDMARKS


def test_tables_are_read_only() -> None:
    for table in (mesh.CANONICAL_FACE, mesh.TRIANGLES, mesh.MIRROR, *mesh.CONTOURS.values()):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0


@pytest.mark.parametrize(
    "ask", [mesh.name, mesh.region, mesh.mirror, mesh.action_units], ids=lambda ask: ask.__name__
)
@pytest.mark.parametrize("landmark", [-1, 468])
def test_a_landmark_out_of_range_is_an_index_error(ask, landmark: int) -> None:
    with pytest.raises(IndexError, match=f"from 0 to 467, got {landmark}"):
        ask(landmark)


def test_unknown_region_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"region: expected one of forehead, right brow.*'ear'"):
        mesh.region_landmarks("ear")


def test_unknown_action_unit_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"unit: expected one of 1, 2, 4.*got 3"):
        mesh.action_unit_landmarks(3)


def test_contours_are_those_of_mediapipe() -> None:
    vision = pytest.importorskip("mediapipe.tasks.python.vision")
    for name, edges in mesh.CONTOURS.items():
        attribute = name.replace("brow", "eyebrow").replace(" ", "_").upper()
        theirs = getattr(vision.FaceLandmarksConnections, f"FACE_LANDMARKS_{attribute}")
        assert edges.tolist() == [[edge.start, edge.end] for edge in theirs]


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a protobuf message: varints, floats and submessages."""
    at = 0
    while at < len(message):
        key, at = read_varint(message, at)
        if key & 7 == 0:
            value, at = read_varint(message, at)
            yield key >> 3, value
        else:
            size, at = (4, at) if key & 7 == 5 else read_varint(message, at)
            yield key >> 3, message[at : at + size]
            at += size


def test_shipped_numbers_are_those_of_the_task_file() -> None:
    face_model = pytest.importorskip("fastexai.face_model")
    try:
        path = Path(face_model.face_model_path())
    except (OSError, RuntimeError) as error:
        pytest.skip(f"no face_landmarker.task: {error}")
    with zipfile.ZipFile(path) as task:
        metadata = task.read("geometry_pipeline_metadata_landmarks.binarypb")
    face = list(read_fields(dict(read_fields(metadata))[1]))
    floats = [struct.unpack("<f", value)[0] for field, value in face if field == 3]
    indices = [value for field, value in face if field == 4]
    np.testing.assert_array_equal(np.reshape(floats, (468, 5))[:, :3], mesh.CANONICAL_FACE)
    np.testing.assert_array_equal(np.reshape(indices, (898, 3)), mesh.TRIANGLES)
