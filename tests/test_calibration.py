"""Probabilities are frequencies, never fall with the logit, and survive being written down."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import balanced_accuracy_score

from fastexai.calibration import CALIBRATIONS, Calibration, best_threshold, fit_calibration

methods = pytest.mark.parametrize("method", CALIBRATIONS)


def sample(n=20_000, seed=0):
    """Logits that are three times too large and one too high."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-2, 1.5, n)
    return 3 * truth + 1, rng.random(n) < expit(truth), expit(truth)


@methods
def test_probabilities_are_those_of_the_population(method):
    logits, positive, truth = sample()
    calibration = fit_calibration(method, logits, positive)
    assert np.abs(calibration(logits) - truth).mean() < 0.02
    assert np.abs(calibration(sample(seed=1)[0]) - sample(seed=1)[2]).mean() < 0.02


@methods
def test_probabilities_never_fall(method):
    logits, positive, _ = sample(200)
    chances = fit_calibration(method, logits, positive)(np.linspace(-30, 30, 500))
    assert (np.diff(chances) >= 0).all()
    assert (chances >= 0).all()
    assert (chances <= 1).all()


@methods
def test_a_calibration_comes_back_from_json(method):
    logits, positive, _ = sample(200)
    calibration = fit_calibration(method, logits, positive)
    assert Calibration.from_dict(json.loads(json.dumps(asdict(calibration)))) == calibration


def test_without_calibration_the_logit_is_a_logit():
    logits = np.array([-800, -1, 0, 2, 800], np.float32)
    np.testing.assert_array_equal(Calibration()(logits), expit(logits.astype(float)))


def test_the_threshold_has_the_highest_balanced_accuracy():
    logits, positive, _ = sample(300)
    threshold = best_threshold(logits, positive)
    cuts = np.sort(logits)
    scores = [balanced_accuracy_score(positive, logits > cut) for cut in (cuts[1:] + cuts[:-1]) / 2]
    assert balanced_accuracy_score(positive, logits > threshold) == pytest.approx(max(scores))
    assert threshold not in logits


def test_the_threshold_lies_between_the_classes():
    logits, positive = np.array([0.0, 1.0, 3.0, 4.0]), np.array([False, False, True, True])
    assert best_threshold(logits, positive) == 2


def test_where_no_threshold_beats_guessing_it_is_zero():
    logits, positive = np.array([5.0, 6.0, 2.0, 3.0]), np.array([False, False, True, True])
    assert best_threshold(logits, positive) == 0
