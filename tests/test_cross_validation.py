"""Figures come from strangers: chance stays chance, and every clip is judged once."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

import fastexai as fx
from fastexai.cross_validation import cross_validate, fit_and_score
from fastexai.folds import subject_folds
from fastexai.metrics import METRICS, evaluate, paired_difference, subject_bootstrap
from fastexai.training import EmotionClassifier


def small(hidden=8):
    """A classifier that fits in a moment."""
    return EmotionClassifier("happiness", "randomized_bilstm", hidden=hidden)


def shuffled(clips, seed):
    return replace(clips, labels=np.random.default_rng(seed).permutation(clips.labels))


@pytest.fixture(scope="module")
def result(few_clips):
    return cross_validate(small(), few_clips, folds=4, repeats=2, seed=2)


def test_shuffled_labels_score_at_chance(few_clips):
    """Twelve shuffles: none looks better than chance, and most intervals contain it.

    Not all do: a shuffle that gives the test fold more of a class leaves less of it for training, so
    that chance itself scores a little below 0.5 (0.483 in the mean of 40 shuffles).
    """
    results = [cross_validate(small(), shuffled(few_clips, seed), folds=4) for seed in range(12)]
    for metric in ("balanced_accuracy", "roc_auc"):
        value, low, high = np.array([result.pooled.loc[metric] for result in results]).T
        assert (low <= 0.5).all()
        assert (high >= 0.5).sum() >= 8
        assert abs(value.mean() - 0.5) < 0.05
    assert cross_validate(small(), few_clips, folds=4).pooled.loc["balanced_accuracy", "low"] > 0.7


def test_a_placebo_scores_at_chance():
    """Labels exist but move nothing."""
    placebo = fx.datasets.simulate_expressions(160, emotions=("happiness",), intensity=0, frames=6)
    low, high = cross_validate(small(), placebo, folds=4).pooled.loc["roc_auc", ["low", "high"]]
    assert low < 0.5 < high


@pytest.fixture(scope="module")
def recognisable_people():
    """Every person shows one class only, at random: whoever knows the people seems to know."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(24), 8)
    positive = rng.permutation(np.arange(24) % 2 == 0)[people]
    faces = rng.normal(0, 1, (24, 6, 9, 3))[people] + rng.normal(0, 0.05, (len(people), 6, 9, 3))
    labels = np.where(positive, "happiness", "neutral")
    ids = np.arange(len(people)).astype(str)
    return fx.ClipSet(faces.astype(np.float32), labels, people.astype(str), ids)


def test_a_person_who_is_recognised_helps_only_where_people_are_shared(recognisable_people):
    clf = small(hidden=64)
    strangers = cross_validate(clf, recognisable_people, folds=4).pooled
    low, high = strangers.loc["balanced_accuracy", ["low", "high"]]
    assert low < 0.5 < high
    known = cross_validate(clf, recognisable_people, folds=4, allow_shared_subjects=True)
    assert known.balanced_accuracy > 0.95


def test_splits_that_leak_are_refused(recognisable_people):
    """The planted leak: somebody else's folds, drawn over clips."""
    positive = recognisable_people.labels == "happiness"
    splits = subject_folds(positive, None, folds=4, seed=0)
    with pytest.raises(ValueError, match=r"^splits: expected no subject on both sides, got 0 and"):
        cross_validate(small(), recognisable_people, splits=splits)
    given = cross_validate(small(), recognisable_people, splits=splits, allow_shared_subjects=True)
    own = cross_validate(small(), recognisable_people, folds=4, allow_shared_subjects=True)
    np.testing.assert_array_equal(given.answers.decision, own.answers.decision)


def test_splits_need_not_test_every_clip(few_clips):
    people = np.unique(few_clips.subjects)
    test = np.flatnonzero(np.isin(few_clips.subjects, people[:5]))
    training = np.flatnonzero(np.isin(few_clips.subjects, people[6:]))
    result = cross_validate(small(), few_clips, splits=[(training, test)])
    judged = np.isfinite(result.answers.decision[0])
    np.testing.assert_array_equal(np.flatnonzero(judged), test)
    assert result.pooled.loc["accuracy", "value"] == pytest.approx(result.table["accuracy"].item())


def test_every_clip_is_scored_by_a_stranger(few_clips, monkeypatch):
    seen, done = [], []
    fit = EmotionClassifier.fit

    def record(self, clips):
        seen.append(set(clips.subjects))
        return fit(self, clips)

    monkeypatch.setattr(EmotionClassifier, "fit", record)
    result = cross_validate(
        small(), few_clips, folds=4, seed=2, progress=lambda *counts: done.append(counts)
    )
    positive = few_clips.labels == "happiness"
    splits = subject_folds(positive, few_clips.subjects, folds=4, seed=2)
    assert len(result.table) == len(seen) == 4
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for (train, test), people, (_, row) in zip(splits, seen, result.table.iterrows(), strict=True):
        assert people == set(few_clips.subjects[train])
        assert not people & set(few_clips.subjects[test])
        fitted = small()
        fit(fitted, few_clips[train])
        decision = fitted.decision_function(few_clips[test])
        np.testing.assert_array_equal(result.answers.decision[0, test], decision)
        yes = fitted.predict(few_clips[test])
        np.testing.assert_array_equal(result.answers.yes[0, test], yes)
        probability = fitted.predict_proba(few_clips[test])[:, 1]
        np.testing.assert_array_equal(result.answers.probability[0, test], probability)
        assert row["balanced_accuracy"] == pytest.approx(
            balanced_accuracy_score(positive[test], yes)
        )
        assert row["majority_rate"] == max(positive[test].mean(), 1 - positive[test].mean())
        assert (row["clips"], row["subjects"]) == (len(test), len(set(few_clips.subjects[test])))


def test_the_table_lists_what_it_promises(result):
    assert result.table.columns.tolist() == [
        *("repeat", "fold", "clips", "subjects"),
        *METRICS,
        *("fit_seconds", "inference_ms"),
        *("parameters", "parameters_trained", "parameters_random"),
    ]
    assert (result.table[["fit_seconds", "inference_ms"]] > 0).all(axis=None)
    assert result.pooled.index.tolist() == list(METRICS)
    value, low, high = result.pooled.to_numpy().T
    assert (low <= value).all()
    assert (value <= high).all()
    assert result.balanced_accuracy == result.pooled.loc["balanced_accuracy", "value"]
    assert result.roc_auc == result.pooled.loc["roc_auc", "value"]
    assert repr(result).startswith("CrossValidation(8 folds, 16 subjects: balanced accuracy 0.")


def test_repeats_divide_people_anew_and_are_averaged(few_clips, result):
    """The second repeat is what the next seed alone gives."""
    once = [cross_validate(small(), few_clips, folds=4, seed=seed) for seed in (2, 3)]
    assert result.table["repeat"].tolist() == [0] * 4 + [1] * 4
    for repeat in range(2):
        for whole, part in zip(result.answers, once[repeat].answers, strict=True):
            np.testing.assert_array_equal(whole[repeat], part[0])
    assert not np.array_equal(result.answers.decision[0], result.answers.decision[1])
    means = np.mean([single.pooled["value"] for single in once], axis=0)
    np.testing.assert_allclose(result.pooled["value"], means)
    for name in ("roc_auc", "f1", "brier"):
        said = getattr(result.answers, METRICS[name].reads)
        interval = subject_bootstrap(result.positive, said, few_clips.subjects, metric=name)
        assert tuple(result.pooled.loc[name]) == interval


def test_fit_and_score_leaves_the_classifier_alone_and_returns_what_the_folds_do(few_clips):
    clf, people = small(), few_clips.subjects == few_clips.subjects[0]
    row, answers = fit_and_score(clf, few_clips[~people], few_clips[people])
    assert not hasattr(clf, "network_")
    figures = evaluate(few_clips.labels[people] == "happiness", answers)
    assert {name: row[name] for name in METRICS} == figures


def test_parameters_are_those_trained_and_those_drawn_once(few_clips):
    people = few_clips.subjects == few_clips.subjects[0]
    clips = few_clips[~people], few_clips[people]
    random, _ = fit_and_score(small(), *clips)
    trained, _ = fit_and_score(EmotionClassifier("happiness", hidden=8, max_epochs=1), *clips)
    assert trained["parameters_random"] == 0
    assert random["parameters_random"] > 0
    for row in (random, trained):
        assert row["parameters"] == row["parameters_trained"] + row["parameters_random"]


def test_a_fold_with_one_class_is_judged_as_far_as_it_goes(few_clips):
    """Five of sixteen people are happy only: their own fold has no AUC, the pool has."""
    happy = few_clips.labels == "happiness"
    people = np.unique(few_clips.subjects)
    only_happy = np.isin(few_clips.subjects, people[:5])
    clips = few_clips[np.flatnonzero(~only_happy | happy)]
    last = [np.flatnonzero(np.isin(clips.subjects, part)) for part in (people[:5], people[5:8])]
    splits = [(np.setdiff1d(np.arange(len(clips)), test), test) for test in last]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = cross_validate(small(), clips, splits=splits)
    assert np.isnan(result.table["roc_auc"]).tolist() == [True, False]
    assert np.isnan(result.table["balanced_accuracy"]).tolist() == [True, False]
    assert result.table["accuracy"].notna().all()
    assert result.pooled.notna().all(axis=None)
    described = json.loads(json.dumps(result.describe(), allow_nan=False))
    assert [row["roc_auc"] is None for row in described["table"]] == [True, False]
    assert described["pooled"]["f1"] == pytest.approx(result.pooled.loc["f1"].to_dict())
    assert (described["clips"], described["subjects"]) == (len(clips), 16)


def test_the_difference_to_another_classifier_is_paired(few_clips, result):
    other = cross_validate(small(hidden=1), few_clips, folds=3)
    value, low, high = result.difference(other, "brier")
    assert value == pytest.approx(
        result.pooled.loc["brier", "value"] - other.pooled.loc["brier", "value"]
    )
    assert (value, low, high) == paired_difference(
        result.positive,
        result.answers.probability,
        other.answers.probability,
        few_clips.subjects,
        metric="brier",
    )
    assert result.difference(result) == (0, 0, 0)
    with pytest.raises(ValueError, match=r"^metric: expected one of accuracy, .*, got 'auc'"):
        result.difference(other, "auc")
    for clips in (few_clips[::2], shuffled(few_clips, 0)):
        strange = cross_validate(small(hidden=1), clips, folds=2)
        with pytest.raises(ValueError, match=r"^other: expected a result on the same labelled"):
            result.difference(strange)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 17}, "folds: expected at most the number of subjects, 16, got 17"),
        ({"folds": 1}, "folds: expected at least 2, got 1"),
        ({"repeats": 0}, "repeats: expected at least 1, got 0"),
        ({"repeats": 2, "splits": []}, "repeats: expected 1 beside splits, got 2"),
        ({"splits": []}, "splits: expected at least one .*, got none"),
        (
            {"splits": [(range(80), [80, 81]), (range(80), [81])]},
            "splits: expected every clip in at most one test fold, got one in several",
        ),
    ],
)
def test_bad_options_are_refused(few_clips, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        cross_validate(small(), few_clips, **options)


def test_an_unknown_emotion_lists_the_known_ones(few_clips):
    clf = EmotionClassifier("joy", "randomized_bilstm")
    with pytest.raises(ValueError, match=r"clips \('happiness', 'neutral'\), got 'joy'"):
        cross_validate(clf, few_clips)


def test_people_without_a_name_are_refused_and_unknown_is_one_person(few_clips):
    nameless = few_clips.subjects.copy()
    nameless[3] = ""
    with pytest.raises(ValueError, match=r"^groups: expected a subject .*, got none for 3"):
        cross_validate(small(), replace(few_clips, subjects=nameless))
    unknown = np.where(np.arange(len(few_clips)) < 40, "unknown", few_clips.subjects)
    result = cross_validate(small(), replace(few_clips, subjects=unknown), folds=2)
    assert result.table["clips"].max() >= 40
