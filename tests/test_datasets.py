"""Simulated expressions: reproducible, balanced, honest about what the labels cause."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastexai import mesh
from fastexai.datasets import (
    EMOTIONS,
    PROTOTYPES,
    UNITS,
    emotion_displacement,
    relevant_landmarks,
    simulate_expressions,
    simulate_landmarks,
)
from fastexai.datasets.action_units import FIELDS, RELEVANT_SHARE

FOREHEAD_TOP, LIP_CORNERS, BROWS, CHIN = 10, [61, 291], [55, 105, 285, 334], 152
UPPER_LIP, LOWER_LIP = 13, 14


def both_sides(unit: int) -> np.ndarray:
    right = UNITS.index(unit)
    return FIELDS[right] + FIELDS[right + len(UNITS)]


def test_a_seed_is_reproducible_and_leaves_the_global_state_alone() -> None:
    before = np.random.get_state()[1].copy()
    first, again = simulate_landmarks(6, seed=3), simulate_landmarks(6, seed=3)
    other = simulate_landmarks(6, seed=4)
    np.testing.assert_array_equal(before, np.random.get_state()[1])
    for a, b in zip(first.clips, again.clips, strict=True):
        np.testing.assert_array_equal(a.landmarks, b.landmarks)
        assert (a.label, a.subject, a.source) == (b.label, b.subject, b.source)
    shapes = [[clip.landmarks.shape for clip in s.clips] for s in (first, other)]
    assert shapes[0] != shapes[1]


@settings(max_examples=8, deadline=None)
@given(n=st.integers(1, 20), seed=st.integers(0, 9), difficulty=st.floats(0, 1))
def test_clips_look_like_a_detectors(n: int, seed: int, difficulty: float) -> None:
    simulated = simulate_landmarks(n, seed=seed, difficulty=difficulty)
    assert len(simulated.clips) == len(simulated.activations) == n
    for i, clip in enumerate(simulated.clips):
        lost = np.isnan(clip.landmarks)
        assert np.array_equal(lost.any(axis=(1, 2)), lost.all(axis=(1, 2)))
        assert lost.mean() < 0.5
        face = np.nanmean(clip.landmarks, axis=(0, 1))[:2]
        assert np.all((face > 0) & (face < clip.image_size))
        # y grows downwards, the subject's right side is at image left, the nose is nearest.
        mean = np.nanmean(clip.landmarks, axis=0)
        assert mean[FOREHEAD_TOP, 1] < mean[CHIN, 1]
        assert mean[33, 0] < mean[263, 0]
        assert mean[1, 2] < mean[234, 2]
        assert simulated.displacement(i).shape == clip.landmarks.shape


def test_labels_and_subjects_are_balanced() -> None:
    clips = simulate_landmarks(200, subjects=10).clips
    labels, counts = np.unique([clip.label for clip in clips], return_counts=True)
    assert labels.tolist() == sorted([*EMOTIONS, "neutral"])
    assert np.ptp(counts) <= 1
    subjects, counts = np.unique([clip.subject for clip in clips], return_counts=True)
    assert len(subjects) == 10
    assert np.ptp(counts) <= 1
    for emotion in EMOTIONS:
        assert len({clip.subject for clip in clips if clip.label == emotion}) == 10


def test_default_has_ten_clips_a_subject() -> None:
    assert len({clip.subject for clip in simulate_landmarks(80).clips}) == 8


def test_a_clip_set_is_complete_normalised_and_knows_the_truth() -> None:
    clips = simulate_expressions(16, frames=7, seed=1)
    assert clips.X.shape == (16, 7, 468, 3)
    assert clips.X.dtype == np.float32
    assert np.isfinite(clips.X).all()
    assert len(set(clips.ids.tolist())) == 16
    # The unit comes from the whole rigid part of the face: eyes further apart than the canonical
    # face's stay further apart.
    apart = np.linalg.norm(clips.X[:, :, 33] - clips.X[:, :, 263], axis=-1)
    np.testing.assert_allclose(apart, 1, atol=0.06)
    assert clips.relevant is not None
    assert set(clips.relevant) == set(EMOTIONS)


def test_frames_get_lost_in_short_runs() -> None:
    lost = [np.isnan(c.landmarks[:, 0, 0]) for c in simulate_landmarks(100, seed=2).clips]
    share = np.mean([gap.any() for gap in lost])
    assert 0.15 < share < 0.55
    assert max(gap.sum() for gap in lost) <= 4


def test_only_the_label_moves_what_the_truth_says() -> None:
    # Everything else is drawn without knowing the label: with no intensity, clips of two
    # emotions are the same to the bit.
    anger, fear = (
        simulate_landmarks(8, emotions=(emotion,), intensity=0.0, seed=5)
        for emotion in ("anger", "fear")
    )
    for a, b in zip(anger.clips, fear.clips, strict=True):
        np.testing.assert_array_equal(a.landmarks, b.landmarks)
    assert not any(anger.displacement(i).any() for i in range(8))


def test_neutral_clips_are_moved_by_distractions_alone() -> None:
    simulated = simulate_landmarks(16, seed=1)
    for i, clip in enumerate(simulated.clips):
        moved = np.abs(simulated.displacement(i)).max()
        assert (moved == 0) if clip.label == "neutral" else (moved > 0.002)


def test_an_expression_starts_neutral_and_moves_relevant_landmarks_most() -> None:
    simulated = simulate_landmarks(40, emotions=("happiness",), seed=2)
    relevant = simulated.relevant["happiness"]
    for i, clip in enumerate(simulated.clips):
        if clip.label == "happiness":
            size = np.linalg.norm(simulated.displacement(i), axis=-1)
            assert size[0].max() == 0
            assert size[:, relevant].max() > 3 * size[:, ~relevant].max()


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_relevance_is_symmetric_sparse_and_above_its_threshold(emotion: str) -> None:
    relevant = relevant_landmarks(emotion)
    np.testing.assert_array_equal(relevant, relevant[mesh.MIRROR])
    assert 20 < relevant.sum() < 300
    size = np.linalg.norm(emotion_displacement(emotion), axis=1)
    assert size[relevant].min() > RELEVANT_SHARE * size.max() >= size[~relevant].max()
    assert not relevant[FOREHEAD_TOP]


def test_relevance_is_where_anatomy_puts_it() -> None:
    assert relevant_landmarks("happiness")[LIP_CORNERS].all()
    assert not relevant_landmarks("happiness")[BROWS].any()
    assert relevant_landmarks("surprise")[[*BROWS, CHIN, LOWER_LIP]].all()
    assert not relevant_landmarks("surprise")[UPPER_LIP]
    assert relevant_landmarks("anger")[BROWS].all()
    assert relevant_landmarks("sadness")[[55, 285, *LIP_CORNERS]].all()
    assert not relevant_landmarks("contempt")[BROWS].any()


def test_contempt_shows_on_one_random_side() -> None:
    simulated = simulate_landmarks(60, emotions=("contempt",), seed=0)
    sides = []
    for i, clip in enumerate(simulated.clips):
        if clip.label == "contempt":
            right, left = np.abs(simulated.displacement(i)[:, LIP_CORNERS]).max(axis=(0, 2))
            assert max(right, left) > 3 * min(right, left)
            sides.append(right > left)
    assert 0.2 < np.mean(sides) < 0.8


@pytest.mark.parametrize("unit", UNITS)
def test_an_action_unit_is_symmetric_and_strongest_where_the_mesh_says(unit: int) -> None:
    field = both_sides(unit)
    np.testing.assert_allclose(field[mesh.MIRROR], field * [-1, 1, 1], atol=1e-6)
    size = np.linalg.norm(field, axis=1)
    assert unit in mesh.action_units(int(size.argmax()))
    assert 0.1 < size.max() < 2.5  # centimetres


def test_action_units_move_skin_in_their_direction() -> None:
    right_corner, left_corner = LIP_CORNERS
    assert both_sides(12)[right_corner, 1] > 0.3
    assert both_sides(12)[right_corner, 0] < -0.3
    assert both_sides(12)[left_corner, 0] > 0.3
    assert both_sides(15)[right_corner, 1] < -0.3
    assert both_sides(1)[55, 1] > 0.3
    assert both_sides(4)[55, 1] < -0.2
    assert both_sides(26)[CHIN, 1] < -1
    assert both_sides(26)[UPPER_LIP, 1] == 0
    gap = np.diff(mesh.CANONICAL_FACE[[145, 159], 1] + both_sides(45)[[145, 159], 1])
    assert abs(gap) < 0.1  # a blink closes the eye


def test_every_emotion_is_made_of_known_units() -> None:
    assert {unit for units in PROTOTYPES.values() for unit in units} <= set(UNITS)


def test_difficulty_makes_expressions_fainter() -> None:
    sizes = [
        np.mean([np.abs(a).max() for a in simulate_landmarks(40, difficulty=d).activations])
        for d in (0.0, 0.5, 1.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n: expected at least 1 clip, got 0"),
        ({"emotions": ("joy",)}, "emotion: expected one of anger, .*, surprise; got 'joy'"),
        ({"emotions": ()}, r"emotions: expected different names, got \(\)"),
        ({"emotions": ("fear", "fear")}, "emotions: expected different names"),
        ({"emotions": "fear"}, "emotions: expected different names, got 'fear'"),
        ({"n": 5, "subjects": 1}, "subjects: expected 2 to n = 5, got 1"),
        ({"n": 5, "subjects": 6}, "subjects: expected 2 to n = 5, got 6"),
        ({"difficulty": 1.5}, "difficulty: expected a number from 0 to 1, got 1.5"),
        ({"difficulty": float("nan")}, "difficulty: expected a number from 0 to 1, got nan"),
        ({"intensity": -1.0}, "intensity: expected a number from 0, or two that rise, got -1.0"),
        ({"intensity": (1.0, 0.5)}, r"intensity: expected .* two that rise, got \(1.0, 0.5\)"),
        ({"intensity": (1.0, 2.0, 3.0)}, "intensity: expected a number from 0, or two that rise"),
        ({"frames": 1}, "frames: expected at least 2, got 1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_expressions(**arguments)


def test_unknown_emotion_has_no_displacement() -> None:
    with pytest.raises(ValueError, match="emotion: expected one of anger"):
        emotion_displacement("neutral")
