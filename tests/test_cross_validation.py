"""Figures come from strangers: chance stays chance, and every clip is judged once."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

import fastexai as fx
from fastexai.cross_validation import cross_validate
from fastexai.folds import subject_folds
from fastexai.training import EmotionClassifier


def small():
    """A classifier that fits in a moment."""
    return EmotionClassifier("happiness", "randomized_bilstm", hidden=8)


def shuffled(clips, seed):
    labels = np.random.default_rng(seed).permutation(clips.labels)
    return fx.ClipSet(clips.X, labels, clips.subjects, clips.ids)


def test_shuffled_labels_score_at_chance(few_clips):
    """Twelve shuffles: the 99 % interval of their mean contains 0.5, and excludes true labels'."""
    scores = [
        cross_validate(small(), shuffled(few_clips, seed), folds=4).balanced_accuracy
        for seed in range(12)
    ]
    half_width = 3.11 * np.std(scores, ddof=1) / np.sqrt(12)  # Student's t with 11 degrees
    assert abs(np.mean(scores) - 0.5) < half_width
    assert half_width < 0.1
    assert cross_validate(small(), few_clips, folds=4).balanced_accuracy > 0.75


def test_a_placebo_scores_at_chance():
    """Labels exist but move nothing; three standard deviations of guessing are 0.12."""
    placebo = fx.datasets.simulate_expressions(160, emotions=("happiness",), intensity=0, frames=6)
    assert abs(cross_validate(small(), placebo, folds=4).balanced_accuracy - 0.5) < 0.12


def test_a_person_who_is_recognised_does_not_help():
    """Every person shows one class only, at random: whoever knows the people seems to know."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(24), 8)
    positive = rng.permutation(np.arange(24) % 2 == 0)[people]
    faces = rng.normal(0, 1, (24, 6, 9, 3))[people] + rng.normal(0, 0.05, (len(people), 6, 9, 3))
    labels = np.where(positive, "happiness", "neutral")
    names = people.astype(str)
    clips = fx.ClipSet(faces.astype(np.float32), labels, names, names)
    assert small().fit(clips).score(clips) > 0.9
    assert abs(cross_validate(small(), clips, folds=4).balanced_accuracy - 0.5) < 0.3


def test_cross_validation_scores_every_clip_by_a_stranger(few_clips, monkeypatch):
    seen = []
    fit = EmotionClassifier.fit

    def record(self, clips):
        seen.append(set(clips.subjects))
        return fit(self, clips)

    monkeypatch.setattr(EmotionClassifier, "fit", record)
    result = cross_validate(small(), few_clips, folds=4, seed=2)
    assert np.isfinite(result.decision).all()
    positive = few_clips.labels == "happiness"
    splits = subject_folds(positive, few_clips.subjects, folds=4, seed=2)
    assert len(result.table) == len(seen) == 4
    for (train, test), people, (_, row) in zip(splits, seen, result.table.iterrows(), strict=True):
        assert people == set(few_clips.subjects[train])
        assert not people & set(few_clips.subjects[test])
        right = result.decision[test] > 0
        assert row["balanced_accuracy"] == balanced_accuracy_score(positive[test], right)
        assert row["accuracy"] == (right == positive[test]).mean()
        assert row["majority_rate"] == max(positive[test].mean(), 1 - positive[test].mean())
    assert result.balanced_accuracy == pytest.approx(result.table["balanced_accuracy"].mean())
    assert result.roc_auc == pytest.approx(result.table["roc_auc"].mean())


def test_cross_validation_leaves_the_classifier_alone(few_clips):
    clf = small()
    cross_validate(clf, few_clips, folds=2)
    assert not hasattr(clf, "network_")
