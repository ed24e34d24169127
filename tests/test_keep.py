"""A pruned classifier is a smaller one, and answers as the full one with the others at rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fastexai as fx
from fastexai.models import ARCHITECTURES, FEATURES
from fastexai.training import EmotionClassifier

KEPT = [1, 4, 7, 20]


def fitted(clips, architecture="randomized_bilstm", **parameters):
    """A classifier that fits in a moment."""
    quick = {"hidden": 8, "max_epochs": 2} | parameters
    return EmotionClassifier("happiness", architecture, **quick).fit(clips)


def masked(clf, clips, kept):
    """The full classifier's answers where all other landmarks rest at the mean prototype."""
    X = np.repeat(clf.prototypes_.mean(0, keepdims=True), len(clips), axis=0)
    X[:, :, kept] = clips.X[:, :, kept]
    return clf.decision_function(X)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_smaller_one_answers_as_the_masked_one(architecture, features, few_clips):
    clf = fitted(few_clips, architecture, features=features)
    smaller = clf.keep(KEPT)
    expected = masked(clf, few_clips, KEPT)
    atol = 2e-5 * np.abs(expected).max()
    np.testing.assert_allclose(smaller.decision_function(few_clips), expected, rtol=0, atol=atol)
    streams = 2 if features == "both" else 1
    assert smaller.network_.projection.in_features == streams * 3 * len(KEPT)
    assert smaller.network_.random_parameters == clf.network_.random_parameters


def test_keeping_twice_is_keeping_once(few_clips):
    clf = fitted(few_clips)
    twice = clf.keep([*KEPT, 9, 11]).keep(KEPT).decision_function(few_clips)
    once = clf.keep(KEPT).decision_function(few_clips)
    np.testing.assert_allclose(twice, once, rtol=0, atol=2e-5 * np.abs(once).max())


def test_keeping_all_changes_nothing_and_keeping_leaves_the_full_one_alone(few_clips):
    clf = fitted(few_clips)
    before = clf.decision_function(few_clips)
    np.testing.assert_allclose(
        clf.keep(range(24)).decision_function(few_clips), before, rtol=1e-5, atol=1e-6
    )
    clf.keep(KEPT).fit(few_clips)
    np.testing.assert_array_equal(clf.decision_function(few_clips), before)
    assert clf.kept is None


@pytest.mark.parametrize("architecture", ["bilstm", "randomized_bilstm"])
def test_a_smaller_one_is_exported_and_loaded(architecture, few_clips, tmp_path):
    smaller = fitted(few_clips, architecture).keep(KEPT)
    smaller.export(tmp_path / "smaller.pt")
    loaded = EmotionClassifier.load(tmp_path / "smaller.pt")
    answers = smaller.decision_function(few_clips)
    np.testing.assert_allclose(loaded.decision_function(few_clips), answers, atol=1e-6)
    attribution = fx.integrated_gradients(
        str(tmp_path / "smaller.pt"),
        torch.from_numpy(few_clips.X[:4]),
        torch.from_numpy(smaller.prototypes_[:1]),
        tol=1e-3,
    )
    values = attribution.values.numpy()
    moved = np.abs(values).sum((0, 1, 3))
    assert set(np.flatnonzero(moved)) == set(KEPT)
    difference = answers[:4] - smaller.decision_function(smaller.prototypes_[:1])
    np.testing.assert_allclose(values.sum((1, 2, 3)), difference, rtol=5e-3, atol=1e-4)


def test_keeping_does_not_make_the_body_smaller(few_clips, tmp_path):
    clf = fitted(few_clips, hidden=None)
    smaller = clf.keep(KEPT)
    assert smaller.network_.hidden == clf.network_.hidden == 64
    smaller.export(tmp_path / "smaller.pt")
    loaded = EmotionClassifier.load(tmp_path / "smaller.pt")
    assert loaded.network_.hidden == 64
    assert fitted(few_clips, hidden=None, kept=KEPT).network_.hidden < 64


def test_fitting_goes_on_from_the_smaller_one(few_clips):
    smaller = fitted(few_clips, "bilstm").keep(KEPT)
    before = smaller.decision_function(few_clips)
    smaller.set_params(lr=0.0).fit(few_clips)  # no step of length 0 changes a weight
    np.testing.assert_allclose(smaller.decision_function(few_clips), before, atol=1e-6)
    smaller.set_params(lr=1e-2).fit(few_clips)
    assert np.abs(smaller.decision_function(few_clips) - before).max() > 1e-3


def test_a_randomised_one_keeps_its_body_and_learns_a_new_readout(few_clips):
    clf = fitted(few_clips)
    smaller = clf.keep(KEPT).fit(few_clips)
    for name, weights in clf.network_.body.state_dict().items():
        assert (smaller.network_.body.state_dict()[name] == weights).all()
    assert (smaller.network_.readout.weight != clf.network_.readout.weight).any()


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [([], "none"), ([24], r"\[24\]"), ([-1, 3], r"\[-1\]")],
)
def test_only_landmarks_that_are_read_can_be_kept(landmarks, message, few_clips):
    clf = fitted(few_clips)
    with pytest.raises(ValueError, match=rf"^landmarks: expected some of the 24 .* got {message}"):
        clf.keep(landmarks)
    with pytest.raises(ValueError, match=r"^landmarks: expected some of the 4 .* got \[2\]"):
        clf.keep(KEPT).keep([2])
