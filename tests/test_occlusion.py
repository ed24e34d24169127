"""Hidden landmarks: guessed at rest, trembling more, and no other clip knows of it."""

from __future__ import annotations

import numpy as np
import pytest

from fastexai import mesh
from fastexai.datasets import Nuisances, simulate_landmarks
from fastexai.datasets.motion import draw_timeline
from fastexai.datasets.occlusion import OCCLUDERS, _normals, draw_occlusion, jitter_gain

LIP_CORNERS, FOREHEAD_TOP, CHIN, NOSE_TIP = [61, 291], 10, 152, 4
LIPS = mesh.region_landmarks("lips")
EYES = mesh.region_landmarks("right eye")
HAPPY = {"emotions": ("happiness",), "difficulty": 0.0, "seed": 6}


def occluded(share=1.0, **change):
    return simulate_landmarks(60, **(HAPPY | change), nuisances=Nuisances(occlusion=share))


def motion_of_label(nuisances):
    """Return what the label makes the detector see, (F, 468) in pixels for each clip."""
    shown, rest = (
        simulate_landmarks(60, **HAPPY, intensity=i, nuisances=nuisances) for i in (1.0, 0.0)
    )
    pairs = zip(shown.clips, rest.clips, strict=True)
    return shown, [np.linalg.norm(a.landmarks - b.landmarks, axis=2) for a, b in pairs]


def test_the_share_of_occluded_clips_is_exact_and_others_are_untouched():
    plain, some = occluded(0.0), occluded(0.4)
    touched = np.array([occluder != "" for occluder in some.occluders])
    assert touched.sum() == 24
    for i, (a, b) in enumerate(zip(plain.clips, some.clips, strict=True)):
        assert np.array_equal(a.landmarks, b.landmarks, equal_nan=True) == (not touched[i])


def test_every_occluder_occurs():
    assert {*OCCLUDERS} == set(occluded().occluders)


@pytest.mark.parametrize(
    ("occluder", "under", "free"), [("mask", LIPS, EYES), ("sunglasses", EYES, LIPS)]
)
def test_only_what_lies_under_it_is_guessed(occluder, under, free):
    plain, hidden = occluded(0.0), occluded()
    clips = [i for i, name in enumerate(hidden.occluders) if name == occluder]
    for i in clips:
        off = np.linalg.norm(hidden.clips[i].landmarks - plain.clips[i].landmarks, axis=2)
        assert np.nanmax(off[:, free]) < 1e-3  # pixels
        assert np.nanmedian(off[:, under]) > 1


def test_a_smile_shows_under_sunglasses_and_not_under_a_mask():
    shown, sizes = motion_of_label(Nuisances(occlusion=1.0))
    apex = {name: [] for name in OCCLUDERS}
    for label, occluder, size in zip(shown.true_labels, shown.occluders, sizes, strict=True):
        if label == "happiness":
            apex[occluder].append(np.nanmax(size[:, LIP_CORNERS]))
    assert max(apex["mask"]) < 1e-2
    assert min(apex["sunglasses"]) > 5


def test_the_truth_is_the_face_not_what_is_seen_of_it():
    plain, hidden = occluded(0.0), occluded()
    for i in range(60):
        np.testing.assert_array_equal(plain.displacement(i), hidden.displacement(i))


def test_guesses_tremble_more():
    def tremor(simulated, i):
        return np.nanstd(np.diff(simulated.clips[i].landmarks[:, CHIN, :2], 3, axis=0))

    plain, hidden = occluded(0.0), occluded()
    masked = [i for i, name in enumerate(hidden.occluders) if name == "mask"]
    assert np.median([tremor(hidden, i) / tremor(plain, i) for i in masked]) > 2


def test_jitter_gain_is_four_under_cover_and_two_for_depth_in_full_profile():
    facing = np.array([[0, 0, 1], [1, 0, 0]], np.float32)
    hidden = np.array([[0, 1], [0, 1]], np.float32)
    gain = jitter_gain(hidden, facing, np.array([False, True]))
    np.testing.assert_allclose(gain[0], [[1, 4]] * 3)
    np.testing.assert_allclose(gain[1], [[1, 4], [1, 4], [2, 8]])


def test_a_hand_comes_and_goes():
    timeline = draw_timeline(np.random.default_rng(0), 200)
    drawn = draw_occlusion(np.random.default_rng(1), Nuisances(occlusion=1.0), timeline)
    for i, name in enumerate(drawn.occluders):
        there = drawn.present[timeline.clip == i]
        if name == "hand":
            assert there.min() == 0 < there.max()
            assert 0 < drawn.cover[i].mean() < 0.7
        else:
            assert there.min() == 1


def test_the_face_is_lost_sometimes_and_never_for_good():
    lost = [
        np.isnan(clip.landmarks[:, 0, 0])
        for share in (0.0, 1.0)
        for clip in simulate_landmarks(
            200, seed=3, nuisances=Nuisances(occlusion=share, profile=share)
        ).clips
    ]
    assert sum(map(np.sum, lost[200:])) > 1.5 * sum(map(np.sum, lost[:200]))
    assert all((~gap).sum() >= 3 for gap in lost)


def yaw(clip):
    """Degrees by which the line through the eyes leaves the image plane, (T,)."""
    x, y, z = np.moveaxis(clip.landmarks[:, 263] - clip.landmarks[:, 33], -1, 0)
    return np.degrees(np.arctan2(z, np.hypot(x, y)))


def test_profiles_are_turned_far_to_either_side_and_no_other_clip_is():
    plain, some = (
        simulate_landmarks(80, seed=2, nuisances=Nuisances(profile=share)) for share in (0.0, 0.5)
    )
    assert some.in_profile.sum() == 40
    turned = []
    for aside, a, b in zip(some.in_profile, plain.clips, some.clips, strict=True):
        assert np.array_equal(a.landmarks, b.landmarks, equal_nan=True) == (not aside)
        if aside:
            turned.append(np.nanmedian(yaw(b)) - np.nanmedian(yaw(a)))
    assert 40 < np.median(np.abs(turned)) < 60
    assert np.min(np.abs(turned)) > 25
    assert np.max(np.abs(turned)) < 75
    assert 0.25 < np.mean(np.array(turned) > 0) < 0.75


def test_in_profile_the_far_side_is_guessed():
    timeline = draw_timeline(np.random.default_rng(0), 4)
    drawn = draw_occlusion(np.random.default_rng(1), Nuisances(profile=1.0), timeline)
    angle = np.deg2rad([0, 60])  # to the camera: ahead, and at the subject's left
    facing = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=1).astype(np.float32)
    ahead, aside = drawn.hidden(slice(0, 2), timeline.clip[:2], facing)
    right, left = (mesh.region_landmarks(f"{side} cheek") for side in ("right", "left"))
    assert aside[right].mean() > 0.6
    assert aside[left].max() == 0
    assert ahead.mean() < 0.1


def test_in_profile_a_smile_shows_on_the_near_side():
    shown, sizes = motion_of_label(Nuisances(profile=1.0))
    ratios = []
    for label, clip, size in zip(shown.true_labels, shown.clips, sizes, strict=True):
        angle = np.nanmedian(yaw(clip))  # positive: the left eye is the farther one
        if label == "happiness" and abs(angle) > 50:
            right, left = (
                np.nanmax(size[:, mesh.region_landmarks(f"{side} cheek")])
                for side in ("right", "left")
            )
            ratios.append(left / right if angle > 0 else right / left)
    assert len(ratios) > 5
    assert np.median(ratios) < 0.7


def test_normals_point_outward_and_mirror():
    normals = _normals()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    assert normals[NOSE_TIP, 2] > 0.8
    assert normals[234, 0] < -0.7  # the edge of the right cheek
    assert normals[FOREHEAD_TOP, 1] > 0
    np.testing.assert_allclose(normals[mesh.MIRROR], normals * [-1, 1, 1], atol=0.1)
