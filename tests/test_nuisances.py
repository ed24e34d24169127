"""Nuisances: each does what it says, and leaves all else of a seed as it was."""

from __future__ import annotations

import doctest
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastexai.datasets import (
    EMOTIONS,
    IN_THE_WILD,
    UNITS,
    Nuisances,
    simulate_landmarks,
    simulation,
)
from fastexai.datasets import nuisances as nuisances_module
from fastexai.datasets.nuisances import draw_chosen, draw_labels, draw_second_emotions

ANY = st.builds(Nuisances, *[st.floats(0, 1)] * len(fields(Nuisances)))


def same(a, b):
    """Return for each clip whether its landmarks are the same to the bit."""
    return np.array(
        [
            np.array_equal(x.landmarks, y.landmarks, equal_nan=True)
            for x, y in zip(a.clips, b.clips, strict=True)
        ]
    )


def labels(simulated):
    return [clip.label for clip in simulated.clips]


@given(seed=st.integers(0, 99), nuisances=ANY)
def test_seeds_reproduce_whatever_is_on(seed, nuisances):
    first, again = (simulate_landmarks(5, seed=seed, nuisances=nuisances) for _ in range(2))
    assert same(first, again).all()
    assert labels(first) == labels(again)
    assert first.true_labels == again.true_labels
    assert first.second_emotions == again.second_emotions
    assert first.occluders == again.occluders


def test_by_default_nothing_is_on():
    plain, none = (simulate_landmarks(12, nuisances=x) for x in (None, Nuisances()))
    assert same(plain, none).all()
    assert labels(plain) == list(plain.true_labels)
    assert set(plain.second_emotions) == set(plain.occluders) == {""}
    assert not plain.in_profile.any()


@given(seed=st.integers(0, 99), nuisances=ANY)
def test_nuisances_never_change_what_is_true(seed, nuisances):
    plain, noisy = (simulate_landmarks(6, seed=seed, nuisances=x) for x in (None, nuisances))
    assert plain.true_labels == noisy.true_labels
    for emotion in EMOTIONS:
        np.testing.assert_array_equal(plain.relevant[emotion], noisy.relevant[emotion])
    for a, b in zip(plain.clips, noisy.clips, strict=True):
        assert (a.subject, a.source, a.fps, a.image_size) == (
            b.subject,
            b.source,
            b.fps,
            b.image_size,
        )
        np.testing.assert_array_equal(a.timestamps, b.timestamps)
        assert np.isfinite(b.landmarks[:, 0, 0]).sum() >= 3  # the face is never lost for good
    # Units may stay away or be weaker on one side; nothing else happens to what the label causes.
    for a, b in zip(plain.activations, noisy.activations, strict=True):
        assert np.all((np.abs(b) <= np.abs(a)) & (b * a >= 0))


@given(share=st.floats(0, 1), n=st.integers(1, 16), seed=st.integers(0, 9))
def test_label_noise_changes_that_share_of_labels_and_no_coordinate(share, n, seed):
    plain = simulate_landmarks(n, seed=seed)
    noisy = simulate_landmarks(n, seed=seed, nuisances=Nuisances(label_noise=share))
    assert same(plain, noisy).all()
    assert noisy.true_labels == plain.true_labels == tuple(labels(plain))
    wrong = sum(a != b for a, b in zip(labels(noisy), noisy.true_labels, strict=True))
    assert wrong == round(share * n)
    assert set(labels(noisy)) <= {*EMOTIONS, "neutral"}


def test_wrong_labels_are_spread_over_all_others():
    choice = (*EMOTIONS, "neutral")
    truth = list(choice) * 500
    wrong = np.array(draw_labels(np.random.default_rng(0), 1.0, truth, choice)).reshape(-1, 8)
    for i, own in enumerate(choice):
        for label in choice:
            share = np.mean(wrong[:, i] == label)
            assert share == (0 if label == own else pytest.approx(1 / 7, abs=0.06))


@given(share=st.floats(0, 1), more=st.floats(0, 1), n=st.integers(1, 99), seed=st.integers(0, 99))
def test_a_greater_share_holds_the_same_clips_and_more(share, more, n, seed):
    few, many = (draw_chosen(np.random.default_rng(seed), s, n) for s in sorted((share, more)))
    assert few.sum() == round(min(share, more) * n)
    assert np.all(many | ~few)


def test_a_second_emotion_moves_mixed_clips_and_no_other():
    plain, mixed = (
        simulate_landmarks(60, seed=4, nuisances=Nuisances(mixture=m)) for m in (0.0, 0.5)
    )
    has_one = np.array([second != "" for second in mixed.second_emotions])
    np.testing.assert_array_equal(same(plain, mixed), ~has_one)
    assert 20 < has_one.sum() <= 30
    assert all(a != b for a, b in zip(mixed.true_labels, mixed.second_emotions, strict=True))
    for a, b in zip(plain.activations, mixed.activations, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_second_emotion_is_weaker():
    def moved(**change):
        base = {"n": 80, "seed": 1, "emotions": ("surprise",)}
        pairs = zip(
            simulate_landmarks(**base, intensity=0).clips,
            simulate_landmarks(**(base | change)).clips,
            strict=True,
        )
        sizes = [np.nanmax(np.abs(a.landmarks - b.landmarks)) / a.image_size[1] for a, b in pairs]
        return np.array([size for size in sizes if size > 0])

    second = moved(intensity=0, nuisances=Nuisances(mixture=1))
    assert 0.05 < np.median(second) / np.median(moved(intensity=1)) < 0.5


def test_a_second_emotion_does_not_know_the_label():
    truth = [*EMOTIONS, "neutral"] * 2000
    drawn = np.array(draw_second_emotions(np.random.default_rng(0), 1.0, truth)).reshape(-1, 8)
    for i, own in enumerate([*EMOTIONS, "neutral"]):
        for emotion in EMOTIONS:
            share = np.mean(drawn[:, i] == emotion)
            assert share == (0 if emotion == own else pytest.approx(1 / 7, abs=0.03))


def test_partial_emotions_keep_at_least_one_unit():
    only = simulate_landmarks(40, nuisances=Nuisances(partial=1.0))
    for label, activation in zip(only.true_labels, only.activations, strict=True):
        right, left = np.split(activation.any(axis=0), 2)
        assert (right | left).sum() == (label != "neutral")


def test_units_stay_away_with_the_greater_of_both_chances():
    # 0.125 is what a difficulty of 0.5 has anyway.
    plain, same_, more = (
        simulate_landmarks(40, nuisances=Nuisances(partial=p)) for p in (0.0, 0.125, 0.6)
    )
    units = [sum((a != 0).any(axis=0).sum() for a in s.activations) for s in (plain, same_, more)]
    assert same(plain, same_).all()
    assert units[2] < 0.75 * units[0] == 0.75 * units[1]


@given(asymmetry=st.floats(0, 1), seed=st.integers(0, 9))
def test_asymmetry_weakens_one_half_by_as_much_at_most(asymmetry, seed):
    plain, uneven = (
        simulate_landmarks(8, seed=seed, nuisances=Nuisances(asymmetry=a)) for a in (0, asymmetry)
    )
    for a, b in zip(plain.activations, uneven.activations, strict=True):
        halves = [(x[:, : len(UNITS)], x[:, len(UNITS) :]) for x in (a, b)]
        left_as_it_was = [np.array_equal(x, y) for x, y in zip(*halves, strict=True)]
        assert any(left_as_it_was)
        assert np.all(np.abs(b) >= (1 - asymmetry - 1e-6) * np.abs(a))


def test_both_halves_are_weak_in_turn():
    sums = [
        np.split(a.sum(axis=0), 2)
        for a in simulate_landmarks(60, nuisances=Nuisances(asymmetry=1.0)).activations
    ]
    right, left = (np.array([pair[i].sum() for pair in sums]) for i in (0, 1))
    assert 0.25 < np.mean((right > left)[right != left]) < 0.75


def test_rates_of_life_are_all_on_at_once():
    wild = simulate_landmarks(100, seed=1, nuisances=IN_THE_WILD)
    assert sum(occluder != "" for occluder in wild.occluders) == 29
    assert wild.in_profile.sum() == 13
    assert sum(a != b for a, b in zip(labels(wild), wild.true_labels, strict=True)) == 22
    assert 12 <= sum(second != "" for second in wild.second_emotions) <= 20


@pytest.mark.parametrize("name", [field.name for field in fields(Nuisances)])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_shares_are_checked(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a number from 0 to 1, got {value}"):
        Nuisances(**{name: value})


@pytest.mark.parametrize("module", [nuisances_module, simulation])
def test_examples_run_as_written(module):
    done = doctest.testmod(module)
    assert done.attempted > 0 == done.failed
