"""Figures as scikit-learn's, and intervals that know whose clips they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from fastexai import metrics
from fastexai.metrics import METRICS, Answers, evaluate, paired_difference, subject_bootstrap

SLOW = {
    "accuracy": reference.accuracy_score,
    "balanced_accuracy": reference.balanced_accuracy_score,
    "roc_auc": reference.roc_auc_score,
    "average_precision": reference.average_precision_score,
    "f1": reference.f1_score,
    "mcc": reference.matthews_corrcoef,
    "brier": reference.brier_score_loss,
}


def answers_of(logits):
    decision = np.asarray(logits, np.float32)
    return Answers(decision, 1 / (1 + np.exp(-decision.astype(float))), decision > 0)


@st.composite
def judged_clips(draw):
    """Clips of both classes with logits, some of them tied, and whole weights, some of them 0."""
    n = draw(st.integers(4, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positive = rng.permutation(np.arange(n) < draw(st.integers(2, n - 2)))
    logits = np.round(rng.normal(size=n) + positive, draw(st.sampled_from([0, 1, 6])))
    weights = rng.integers(0, 4, (5, n)).astype(float)
    weights[:, [positive.argmax(), positive.argmin()]] += 1
    return positive, answers_of(logits), weights


@given(drawn=judged_clips())
@pytest.mark.parametrize("name", SLOW)
def test_every_metric_is_scikit_learns_for_every_weighting(name, drawn):
    positive, answers, weights = drawn
    said = getattr(answers, METRICS[name].reads)
    ours = METRICS[name].of(positive, said, weights)
    slow = [SLOW[name](positive, said, sample_weight=row) for row in weights]
    np.testing.assert_allclose(ours, slow, atol=1e-12)
    assert evaluate(positive, answers)[name] == pytest.approx(SLOW[name](positive, said), abs=1e-12)


def test_majority_rate_and_prevalence_are_about_the_clips_alone():
    figures = evaluate([True, False, False, False], answers_of([1, 1, 1, -1]))
    assert (figures["majority_rate"], figures["prevalence"]) == (0.75, 0.25)
    assert evaluate([True, True, False], answers_of([1, 1, 1]))["majority_rate"] == 2 / 3


@pytest.mark.parametrize("only", [True, False])
def test_what_needs_both_classes_is_nan_without_one(only):
    figures = evaluate([only] * 3, answers_of([1, -1, 2]))
    defined = {name for name, value in figures.items() if np.isfinite(value)}
    assert defined == {"accuracy", "brier", "majority_rate", "prevalence"}


def test_the_same_answer_to_everything_is_worth_nothing():
    figures = evaluate([True, False, False], answers_of([-1, -1, -1]))
    assert (figures["mcc"], figures["f1"]) == (0, 0)
    assert (figures["balanced_accuracy"], figures["roc_auc"]) == (0.5, 0.5)


def people_with_luck(seed, people=40, each=10, spread=0.2):
    """Truth, answers and subjects; each person's share of right answers is their own."""
    rng = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(people), each)
    positive = np.tile(np.arange(each) % 2 == 0, people)
    share = np.clip(rng.normal(0.75, spread, people), 0, 1)[subjects]
    right = rng.random(len(subjects)) < share
    return positive, positive == right, subjects


def test_the_bootstrap_draws_people_with_all_their_clips():
    """Against a loop that copies the drawn people's clips and asks scikit-learn."""
    positive, yes, subjects = people_with_luck(0, people=12)
    value, low, high = subject_bootstrap(positive, yes, subjects, resamples=300, seed=3)
    rng = np.random.default_rng(3)
    slow = []
    for _ in range(300):
        times = rng.multinomial(12, np.full(12, 1 / 12))
        clips = np.concatenate([np.flatnonzero(subjects == s) for s in np.repeat(range(12), times)])
        slow.append(reference.balanced_accuracy_score(positive[clips], yes[clips]))
    assert value == pytest.approx(reference.balanced_accuracy_score(positive, yes))
    assert [low, high] == pytest.approx(np.quantile(slow, [0.025, 0.975]).tolist())


def test_the_interval_contains_the_truth_19_times_out_of_20():
    """Of 240 data sets; clips taken for people of their own are right much less often."""
    truth = np.clip(np.random.default_rng(0).normal(0.75, 0.2, 100_000), 0, 1).mean()
    inside = np.zeros(2)
    for seed in range(240):
        positive, yes, subjects = people_with_luck(seed)
        for way, groups in enumerate([subjects, np.arange(len(subjects))]):
            _, low, high = subject_bootstrap(
                positive, yes, groups, metric="accuracy", resamples=300
            )
            inside[way] += low < truth < high
    assert 0.89 <= inside[0] / 240 <= 0.98
    assert inside[1] / 240 < 0.88


def test_chance_is_within_the_interval_of_guesses():
    inside = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        positive, subjects = rng.random(300) < 0.15, rng.integers(0, 30, 300)
        _, low, high = subject_bootstrap(positive, rng.normal(size=300), subjects, metric="roc_auc")
        inside += low < 0.5 < high
    assert inside >= 35


def test_blocks_of_resamples_change_nothing(monkeypatch):
    drawn = people_with_luck(1)
    whole = subject_bootstrap(*drawn, resamples=50)
    monkeypatch.setattr(metrics, "_BLOCK", 7 * len(drawn[0]))
    assert subject_bootstrap(*drawn, resamples=50) == whole
    assert subject_bootstrap(*drawn, resamples=50, seed=1) != whole


def test_repeats_are_averaged_within_each_resample():
    positive, yes, subjects = people_with_luck(2)
    once = subject_bootstrap(positive, yes, subjects)
    assert subject_bootstrap(positive, np.stack([yes, yes, yes]), subjects) == pytest.approx(once)
    value, low, high = subject_bootstrap(positive, np.stack([yes, ~yes]), subjects)
    assert (value, low, high) == pytest.approx((0.5, 0.5, 0.5))


def test_one_subject_has_no_interval():
    value, low, high = subject_bootstrap([True, False], np.array([True, False]), ["ann", "ann"])
    assert (value, np.isnan(low), np.isnan(high)) == (1, True, True)


def test_resamples_without_a_class_do_not_count():
    """Only one of three people is positive: 8 in 27 resamples miss that one."""
    positive = np.array([True, False, False])
    assert subject_bootstrap(positive, positive, [0, 1, 2]) == (1, 1, 1)
    nobody = np.zeros(3, bool)
    assert np.isnan(subject_bootstrap(nobody, nobody, [0, 1, 2])).all()


def test_a_difference_is_that_of_the_figures_and_cancels_what_both_share():
    positive, yes, subjects = people_with_luck(3, spread=0.4)
    better = np.where(np.arange(len(yes)) % 20 == 0, positive, yes)
    one, other = (subject_bootstrap(positive, said, subjects) for said in (better, yes))
    value, low, high = paired_difference(positive, better, yes, subjects)
    assert value == pytest.approx(one.value - other.value)
    assert 0 < low < value < high
    assert one.low < other.high  # intervals apart do not tell them apart
    back = paired_difference(positive, yes, better, subjects)
    assert back == pytest.approx((-value, -high, -low))
    assert paired_difference(positive, yes, yes, subjects) == (0, 0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "auc"}, "metric: expected one of accuracy, .*, got 'auc'"),
        ({"positive": [1, 0, 1]}, "positive: expected bool of shape (N,), got int64 (3,)"),
        ({"positive": np.zeros(0, bool)}, "positive: expected bool of shape (N,), got bool (0,)"),
        ({"subjects": ["a", "b"]}, "subjects: expected (3,), got (2,)"),
        ({"answers": [True]}, "answers: expected (3,) or (repeats, 3), got (1,)"),
        ({"answers": [0.1, 0.2, 0.3]}, "answers: expected bool for balanced_accuracy, got float64"),
        (
            {"answers": [0.1, np.nan, 0.3], "metric": "roc_auc"},
            "answers: expected finite values, got NaN or Inf",
        ),
        ({"resamples": 0}, "resamples: expected at least 1, got 0"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {
        "positive": np.array([True, False, True]),
        "answers": np.array([True, False, True]),
        "subjects": ["a", "b", "c"],
    } | change
    pattern = "^" + message.replace("(", r"\(").replace(")", r"\)") + "$"
    with pytest.raises(ValueError, match=pattern):
        subject_bootstrap(**arguments)
