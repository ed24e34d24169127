"""Simulated clips, judged: how hard they are for a line, and how exact their truth is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold

from fastexai.datasets import Nuisances, simulate_expressions, simulate_landmarks

EYE_CORNERS = [33, 263]


def linear_balanced_accuracy(clips, emotion):
    """Logistic regression on flattened clips, one emotion against the rest, unseen subjects.

    A rotation of the features changes nothing for a ridge penalty: n numbers say all of n clips.
    """
    X = clips.X.reshape(len(clips), -1).astype(np.float64)
    X -= X.mean(0)
    vectors, squares, _ = np.linalg.svd(X @ X.T)
    Z, y = vectors * np.sqrt(squares), clips.labels == emotion
    predicted = np.zeros_like(y)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for train, test in folds.split(Z, y, clips.subjects):
        model = LogisticRegression(class_weight="balanced", max_iter=2000).fit(Z[train], y[train])
        predicted[test] = model.predict(Z[test])
    return balanced_accuracy_score(y, predicted)


@pytest.mark.parametrize(
    ("difficulty", "low", "high"), [(0.0, 0.94, 1.0), (0.5, 0.76, 0.95), (1.0, 0.52, 0.72)]
)
def test_difficulty_takes_a_linear_baseline_from_99_to_60_percent(difficulty, low, high):
    # Median of 600 clips and seven emotions, seeds 30 and 31: 0.985 and 0.981, 0.881 and 0.880,
    # 0.625 and 0.631. Fewer clips and emotions here, hence wide margins.
    clips = simulate_expressions(320, frames=8, seed=30, difficulty=difficulty)
    scores = [linear_balanced_accuracy(clips, e) for e in ("anger", "happiness", "surprise")]
    assert low <= np.median(scores) <= high


def test_without_effect_labels_cannot_be_told():
    clips = simulate_expressions(320, frames=8, seed=30, difficulty=0.0, intensity=0.0)
    assert 0.4 < linear_balanced_accuracy(clips, "happiness") < 0.6


@given(seed=st.integers(0, 99), emotion=st.sampled_from(["fear", "contempt", "disgust"]))
def test_displacement_is_the_difference_that_the_label_makes(seed, emotion):
    """The same clips with and without their label's effect differ by it, turned to the camera."""
    arguments = {"emotions": (emotion,), "seed": seed, "nuisances": Nuisances(mixture=0.5)}
    with_it, without = (simulate_landmarks(4, intensity=i, **arguments) for i in (1.0, 0.0))
    for i, (a, b) in enumerate(zip(with_it.clips, without.clips, strict=True)):
        seen = (a.landmarks - b.landmarks).astype(np.float64)
        truth = with_it.displacement(i).astype(np.float64)
        assert not without.displacement(i).any()
        for frame in np.flatnonzero(np.isfinite(seen[:, 0, 0])):
            turn, *_ = np.linalg.lstsq(truth[frame], seen[frame])
            np.testing.assert_allclose(truth[frame] @ turn, seen[frame], atol=2e-3)
        if a.label == "neutral":
            np.testing.assert_array_equal(a.landmarks, b.landmarks)


def test_displacement_is_turned_and_scaled_alone():
    """The map from displacement to pixels is a similarity: as far apart as the eyes are."""
    arguments = {"emotions": ("fear",), "seed": 3, "difficulty": 0.0}
    with_it, without = (simulate_landmarks(6, intensity=i, **arguments) for i in (1.0, 0.0))
    for i, (a, b) in enumerate(zip(with_it.clips, without.clips, strict=True)):
        seen = (a.landmarks - b.landmarks).astype(np.float64)
        if a.label == "neutral" or np.isnan(seen[-1]).any():
            continue
        turn, *_ = np.linalg.lstsq(with_it.displacement(i)[-1].astype(np.float64), seen[-1])
        scale = np.cbrt(abs(np.linalg.det(turn)))
        np.testing.assert_allclose(turn @ turn.T, scale**2 * np.eye(3), atol=1e-2 * scale**2)
        eyes = np.linalg.norm(np.diff(b.landmarks[-1, EYE_CORNERS], axis=0))
        assert eyes == pytest.approx(scale, rel=0.25)  # faces differ from the canonical one


@given(low=st.floats(0, 1), width=st.floats(0, 1), seed=st.integers(0, 9))
def test_two_intensities_are_bounds(low, width, seed):
    one = simulate_landmarks(8, seed=seed)
    some = simulate_landmarks(8, seed=seed, intensity=(low, low + width))
    for full, own in zip(one.activations, some.activations, strict=True):
        factor = own[full > 1e-3] / full[full > 1e-3]
        assert np.all((factor >= low - 1e-5) & (factor <= low + width + 1e-5))
        assert factor.size == 0 or np.ptp(factor) < 1e-4  # one for the whole clip


def test_one_intensity_is_two_equal_ones():
    one, two = (simulate_landmarks(8, intensity=i) for i in (0.7, (0.7, 0.7)))
    for a, b in zip(one.clips, two.clips, strict=True):
        np.testing.assert_array_equal(a.landmarks, b.landmarks)


def test_a_clip_set_has_the_clips_and_labels_of_the_simulation():
    nuisances = Nuisances(label_noise=0.3, occlusion=0.5, profile=0.3)
    clips = simulate_expressions(40, frames=4, seed=2, nuisances=nuisances)
    raw = simulate_landmarks(40, seed=2, nuisances=nuisances)
    assert clips.ids.tolist() == [clip.source for clip in raw.clips]
    assert clips.labels.tolist() == [clip.label for clip in raw.clips]
    assert np.isfinite(clips.X).all()
