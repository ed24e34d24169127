"""Folds never share a subject, and are refused where that cannot be."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastexai.folds import check_split, subject_folds


@st.composite
def labelled_people(draw):
    """Clips of both classes by several people, each of whom shows both."""
    folds = draw(st.integers(2, 5))
    people = draw(st.integers(folds, 12))
    each = [draw(st.integers(1, 4)) for _ in range(people)]
    groups = np.repeat(np.arange(people), [2 * count for count in each])
    positive = np.concatenate([np.arange(2 * count) % 2 == 0 for count in each])
    order = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).permutation(len(groups))
    return positive[order], groups[order], folds, draw(st.integers(0, 99))


@given(drawn=labelled_people())
def test_folds_share_no_subject_and_test_every_clip_once(drawn):
    positive, groups, folds, seed = drawn
    splits = subject_folds(positive, groups, folds=folds, seed=seed)
    assert len(splits) == folds
    for train, test in splits:
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(len(groups)))
        assert len(test) > 0
        assert len(np.unique(positive[train])) == 2
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(len(groups)))


@given(drawn=labelled_people())
def test_the_same_seed_gives_the_same_folds(drawn):
    positive, groups, folds, seed = drawn
    one, other = (subject_folds(positive, groups, folds=folds, seed=seed) for _ in range(2))
    for (_, test), (_, same) in zip(one, other, strict=True):
        np.testing.assert_array_equal(test, same)


def test_without_groups_every_clip_is_a_person():
    positive = np.arange(20) % 2 == 0
    for train, test in subject_folds(positive, None, folds=4, seed=0):
        assert not set(train) & set(test)
        assert positive[test].sum() in (2, 3)


@pytest.mark.parametrize(
    ("positive", "groups", "message"),
    [
        ([1, 0] * 4, [0, 0, 0, 0, 1, 1, 2, 2], "folds: expected .* number of subjects, 3, got 4"),
        ([1, 0, 0, 0, 0, 1, 1], None, "folds: .* of clips of the rarer class, 3, got 4"),
        ([0] * 8, list(range(8)), "folds: .* of clips of the rarer class, 0, got 4"),
        (
            [1, 0] * 2,
            ["a", "b", "", "c"],
            "groups: expected a subject for every .*, got none for 2",
        ),
        ([1, 0] * 2, [1.0, 2.0, 3.0, np.nan], "groups: .*, got none for 3"),
    ],
)
def test_more_folds_than_people_are_refused(positive, groups, message):
    groups = None if groups is None else np.array(groups)
    with pytest.raises(ValueError, match=f"^{message}"):
        subject_folds(np.array(positive, bool), groups, folds=4, seed=0)


def test_one_fold_is_none():
    with pytest.raises(ValueError, match=r"^folds: expected at least 2, got 1"):
        subject_folds(np.arange(8) % 2 == 0, None, folds=1, seed=0)


@pytest.mark.parametrize(
    ("training", "test", "message"),
    [
        ([0, 1], [], "expected indices of test clips, got float64 (0,)"),
        ([True, True], [2, 3], "expected indices of training clips, got bool (2,)"),
        ([[0, 1]], [2, 3], "expected indices of training clips, got int64 (1, 2)"),
        ([0, 1], [2, 6], "expected indices in [0, 6), got others"),
        ([0, -1], [2, 3], "expected indices in [0, 6), got others"),
        ([0, 1, 2], [2, 3], "expected training without test clips, got clips on both sides"),
        ([0, 2], [3, 4], "expected both classes in every training fold, got one without"),
        ([0, 1], [3, 4], "expected no subject on both sides, got ann and 0 others"),
    ],
)
def test_splits_that_leak_or_are_no_splits_are_refused(training, test, message):
    positive = np.array([True, False] * 3)
    subjects = np.array(["ann", "bob", "bob", "ann", "cid", "cid"])
    split = (np.array(training), np.array(test))
    with pytest.raises(ValueError, match=f"^splits: {re.escape(message)}"):
        check_split(split, positive, subjects, allow_shared_subjects=False)


def test_shared_subjects_can_be_allowed():
    positive, subjects = np.array([True, False] * 2), np.array(["ann", "bob"] * 2)
    split = (np.array([0, 1]), np.array([2, 3]))
    assert check_split(split, positive, subjects, allow_shared_subjects=True) is None
