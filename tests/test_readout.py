"""Closed forms equal the many fits that they save, and nobody judges clips of people it has seen."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from fastexai import readout
from fastexai.descent import Descent
from fastexai.readout import balanced_weights, fit_logistic, fit_ridge, fit_sgd, leave_groups_out

DESCENT = Descent(
    max_epochs=30, patience=5, lr=0.01, batch_size=16, seed=0, device="cpu", verbose=0
)
FITS = {
    "ridge": fit_ridge,
    "logistic": lambda *data: fit_logistic(*data, seed=0),
    "sgd": lambda *data: fit_sgd(*data, DESCENT),
}
fits = pytest.mark.parametrize("fit", FITS.values(), ids=FITS.keys())


def problem(n=90, p=12, people=15, seed=0, signal=1.0):
    """Features of a rare class, of people who are recognisable too."""
    rng = np.random.default_rng(seed)
    positive = np.arange(n) % 4 == 0
    groups = rng.permutation(np.arange(n) % people)
    features = (
        rng.normal(5, 1, (n, p)) * np.logspace(-2, 2, p) + rng.normal(0, 1, (people, p))[groups]
    )
    features[:, p // 2] += signal * np.logspace(-2, 2, p)[p // 2] * 2 * positive
    return features, positive, groups


# --- Ridge regression ------------------------------------------------------------------------------


@given(
    n=st.integers(6, 30),
    p=st.integers(1, 40),
    people=st.integers(2, 30),
    seed=st.integers(0, 99),
    penalty=st.sampled_from([0.1, 3.0, 1e3]),
)
def test_leaving_groups_out_equals_fitting_without_them(n, p, people, seed, penalty):
    rng = np.random.default_rng(seed)
    features, target = rng.normal(size=(n, p)), rng.normal(size=n)
    weight = rng.uniform(0.2, 2, n)
    groups = rng.permutation(np.arange(n) % people)
    answers, coefficients = leave_groups_out(features, target, weight, groups, np.array([penalty]))
    expected = np.empty(n)
    for group in np.unique(groups):
        out = groups == group
        ridge = Ridge(penalty).fit(features[~out], target[~out], sample_weight=weight[~out])
        expected[out] = ridge.predict(features[out])
    np.testing.assert_allclose(answers[0], expected, rtol=1e-6, atol=1e-6)
    whole = Ridge(penalty).fit(features, target, sample_weight=weight)
    np.testing.assert_allclose(coefficients[0], whole.coef_, rtol=1e-6, atol=1e-8)


def test_the_penalty_with_the_least_error_for_strangers_is_chosen(monkeypatch):
    features, positive, groups = problem()
    chosen = fit_ridge(features, positive, groups)
    weight, target = balanced_weights(positive), np.where(positive, 1.0, -1.0)
    standardised = (features - features.mean(0)) / features.std(0)
    answers, _ = leave_groups_out(standardised, target, weight, groups, readout._PENALTIES)
    errors = (weight * (answers - target) ** 2).sum(1)
    assert errors.argmin() not in (0, len(errors) - 1)
    monkeypatch.setattr(readout, "_PENALTIES", readout._PENALTIES[[errors.argmin()]])
    np.testing.assert_allclose(fit_ridge(features, positive, groups).weight, chosen.weight)


def test_features_that_say_nothing_of_strangers_get_a_small_logit():
    features, positive, groups = problem(signal=0.0)
    assert np.abs(fit_ridge(features, positive, groups).held_out).mean() < 0.7


def test_one_person_alone_is_judged_clip_by_clip():
    features, positive, _ = problem()
    alone = fit_ridge(features, positive, np.zeros(len(positive)))
    np.testing.assert_array_equal(alone.held_out, fit_ridge(features, positive, None).held_out)


# --- All of them -----------------------------------------------------------------------------------


@fits
def test_the_readout_finds_the_rare_class_in_strangers(fit):
    fitted = fit(*problem(n=300, people=30))
    features, positive, _ = problem(n=300, people=30, seed=1)
    logits = features @ fitted.weight + fitted.bias
    assert roc_auc_score(positive, logits) > 0.8
    assert np.mean((logits > 0) == positive) > 0.6
    assert np.mean(logits[positive] > 0) > 0.6  # though three of four clips are not


@fits
def test_units_and_offsets_of_features_do_not_matter(fit):
    features, positive, groups = problem()
    one = fit(features, positive, groups)
    other = fit(features * 7 + 3, positive, groups)
    np.testing.assert_allclose(
        (features * 7 + 3) @ other.weight + other.bias,
        features @ one.weight + one.bias,
        rtol=1e-3,
        atol=1e-3,
    )


@fits
def test_a_constant_feature_is_harmless(fit):
    features, positive, groups = problem()
    features[:, 3] = 0.3
    fitted = fit(features, positive, groups)
    logits = features @ fitted.weight + fitted.bias
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() < 100


@fits
def test_copies_that_change_nothing_change_little(fit):
    """Copies of a clip are left out with it; otherwise each would give the other away."""
    features, positive, _ = problem()
    alone = fit(features, positive, None)
    doubled = fit(np.concatenate([features, features]), positive, None)
    one, other = (features @ r.weight + r.bias for r in (alone, doubled))
    assert np.corrcoef(one, other)[0, 1] > 0.98
    if alone.held_out is not None:
        assert doubled.held_out.shape == alone.held_out.shape
        assert np.corrcoef(doubled.held_out, alone.held_out)[0, 1] > 0.97


@pytest.mark.parametrize("fit", [FITS["ridge"], FITS["logistic"]], ids=["ridge", "logistic"])
def test_held_out_logits_know_nothing_of_their_person(fit):
    """Each person shows one class at random: who knows the people would be right."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 6)
    positive = (rng.permutation(40) < 20)[groups]
    features = rng.normal(size=(40, 30))[groups] + 0.01 * rng.normal(size=(240, 30))
    seen = fit(features, positive, None).held_out
    unseen = fit(features, positive, groups).held_out
    assert roc_auc_score(positive, seen) > 0.95
    assert roc_auc_score(positive, unseen) < 0.75


def test_held_out_logits_are_calibrated_where_classes_are_alike():
    features, positive, groups = problem(n=400, people=40)
    held_out = fit_ridge(features, positive, groups).held_out
    weight = balanced_weights(positive)
    assert np.average(expit(held_out), weights=weight) == pytest.approx(0.5, abs=0.02)


def test_balanced_weights_give_both_classes_the_same_sum():
    positive = np.array([True, False, False, False])
    weight = balanced_weights(positive)
    assert weight[positive].sum() == weight[~positive].sum() == 2


@pytest.mark.parametrize("fit", [FITS["logistic"], FITS["sgd"]], ids=["logistic", "sgd"])
def test_folds_need_five_people(fit):
    features, positive, groups = problem()
    with pytest.raises(ValueError, match="number of subjects, 3, got 5"):
        fit(features, positive, groups % 3)
