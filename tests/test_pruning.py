"""The pruning procedure: nested, honest beside chance, and the tables that it prints."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline

import fastexai as fx
from fastexai.folds import subject_folds
from fastexai.metrics import Interval, paired_difference, subject_bootstrap
from fastexai.pruning import procedure as pruning
from fastexai.pruning import prune
from fastexai.pruning.anchor import anchor_decisions
from fastexai.pruning.path import smallest_good_enough
from fastexai.pruning.stability import kuncheva_index, rank_correlation
from fastexai.training import EmotionClassifier

SIZES = (24, 12, 4)
TIMINGS = ["fit_seconds", "inference_ms", "single_clip_ms"]


def small():
    return EmotionClassifier("happiness", "randomized_bilstm", hidden=8)


@pytest.fixture(scope="module")
def calls():
    return []


@pytest.fixture(scope="module")
def path(few_clips, calls):
    return prune(
        small(),
        few_clips,
        SIZES,
        folds=3,
        inner_folds=2,
        random_subsets=2,
        seed=4,
        progress=lambda *call: calls.append(call),
    )


# --- The table -----------------------------------------------------------------------------------------


def test_a_path_has_one_row_per_size_and_every_figure_is_one(path):
    table = path.table
    assert table["landmarks"].tolist() == list(SIZES)
    assert np.isfinite(table.drop(columns="kuncheva_index").to_numpy(dtype=float)).all()
    shares = [c for c in table if "accuracy" in c or c.startswith("roc_auc")]
    assert table[shares].to_numpy().min() >= 0
    assert table[shares].to_numpy().max() <= 1
    for name in ("balanced_accuracy", "roc_auc", "random_balanced_accuracy"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()
    for cost in ("parameters", "multiply_adds", "file_kb"):
        assert (table[cost].diff()[1:] < 0).all()


def test_the_table_is_of_the_answers_to_clips_that_no_fit_has_seen(path, few_clips):
    positive = few_clips.labels == "happiness"
    assert path.answers["positive"].tolist() == positive.tolist()
    assert path.answers["subject"].tolist() == few_clips.subjects.tolist()
    for _, row in path.table.iterrows():
        logits = path.answers[f"{row['landmarks']:.0f}"].to_numpy()
        assert row["balanced_accuracy"] == balanced_accuracy_score(positive, logits > 0)
        assert row["accuracy"] == (positive == (logits > 0)).mean()
        assert row["roc_auc"] == pytest.approx(roc_auc_score(positive, logits))
        assert row["majority_rate"] == max(positive.mean(), 1 - positive.mean())
        interval = subject_bootstrap(positive, logits > 0, few_clips.subjects)
        assert row["balanced_accuracy_low"] == interval.low


def test_a_fold_answers_as_a_classifier_fitted_by_hand(path, few_clips):
    positive = few_clips.labels == "happiness"
    for training, test in subject_folds(positive, few_clips.subjects, folds=3, seed=4):
        logits = small().fit(few_clips[training]).decision_function(few_clips[test])
        np.testing.assert_allclose(path.answers["24"].to_numpy()[test], logits, rtol=1e-5)


def test_the_gain_is_the_difference_and_nothing_at_full_size(path):
    table = path.table
    gain = table["balanced_accuracy"] - table["random_balanced_accuracy"]
    np.testing.assert_allclose(table["gain_over_random"], gain, atol=1e-12)
    assert table["gain_over_random"][0] == 0
    assert table["gain_over_random_low"][0] == table["gain_over_random_high"][0] == 0
    assert (table["gain_over_random_low"] <= table["gain_over_random_high"]).all()


def test_the_folds_are_listed_one_by_one(path):
    assert len(path.folds) == 3 * len(SIZES)
    assert (path.folds.groupby("fold")["chosen"].sum() == 1).all()
    assert set(path.folds) >= {"guided", "random", "masked", "anchor", "fit_seconds"}
    full = path.folds[path.folds["landmarks"] == 24]
    assert (full["guided"] == full["masked"]).all()


def test_kept_landmarks_are_nested_and_as_many_as_asked(path):
    assert list(path.kept) == list(SIZES)
    for size, kept in path.kept.items():
        assert len(set(kept)) == len(kept) == size
        assert set(kept) <= set(range(24))
    for larger, smaller in pairwise(SIZES):
        assert set(path.kept[smaller]) < set(path.kept[larger])


def test_the_landmarks_that_move_are_kept(path):
    """The first twelve landmarks of `few_clips` show happiness, the others do not."""
    assert set(path.kept[4]) <= set(range(12))


# --- The choice of a size ----------------------------------------------------------------------------


def test_the_smallest_size_within_a_standard_error_is_enough():
    scores = [
        Interval(0.80, 0.79, 0.81),
        Interval(0.90, 0.802, 0.998),  # a standard error of 0.05
        Interval(0.86, 0.4, 1.0),
        Interval(0.84, 0.4, 1.0),
    ]
    assert smallest_good_enough([100, 50, 10, 5], scores) == 10


def test_without_an_interval_only_the_best_is_enough():
    scores = [Interval(0.9, np.nan, np.nan), Interval(0.9, np.nan, np.nan), Interval(0.8, 0.7, 0.9)]
    assert smallest_good_enough([100, 50, 10], scores) == 50


def test_best_and_highest_follow_the_table(path):
    scores = path.table.set_index("landmarks")["balanced_accuracy"]
    assert scores[path.highest] == scores.max()
    assert path.best <= path.highest
    assert repr(path) == f"PruningPath('happiness': sizes 24, 12, 4; best {path.best})"


def test_the_nested_figure_is_of_the_sizes_that_training_clips_chose(path, few_clips):
    positive = few_clips.labels == "happiness"
    yes = np.zeros(len(positive), bool)
    splits = subject_folds(positive, few_clips.subjects, folds=3, seed=4)
    for fold, (_, test) in enumerate(splits):
        rows = path.folds[(path.folds["fold"] == fold) & path.folds["chosen"]]
        yes[test] = path.answers[str(rows["landmarks"].iloc[0])].to_numpy()[test] > 0
    assert path.nested.value == balanced_accuracy_score(positive, yes)


def test_without_inner_folds_there_is_no_nested_figure(few_clips):
    path = prune(small(), few_clips, (4,), folds=2, inner_folds=0, random_subsets=0, anchor=False)
    assert np.isnan(path.nested.value)
    assert not path.folds["chosen"].any()
    assert "random_balanced_accuracy" not in path.table
    assert "anchor_balanced_accuracy" not in path.table


# --- No leakage ------------------------------------------------------------------------------------------


def test_test_people_have_no_say_in_search_or_fit(few_clips, monkeypatch):
    searched, fitted = [], []
    search, fit = pruning.search_landmarks, EmotionClassifier.fit

    def record_search(model, clips, *arguments, **options):
        searched.append(set(clips.subjects))
        return search(model, clips, *arguments, **options)

    def record_fit(self, clips):
        fitted.append(set(clips.subjects))
        return fit(self, clips)

    monkeypatch.setattr(pruning, "search_landmarks", record_search)
    monkeypatch.setattr(EmotionClassifier, "fit", record_fit)
    prune(small(), few_clips, (4,), folds=3, inner_folds=2, random_subsets=1, seed=2)
    positive = few_clips.labels == "happiness"
    splits = subject_folds(positive, few_clips.subjects, folds=3, seed=2)
    assert len(searched) == 3 * (1 + 2) + 1
    assert len(fitted) == 3 * (2 + 1 + 2 * 2) + 2
    for fold, (training, test) in enumerate(splits):
        people, strangers = set(few_clips.subjects[training]), set(few_clips.subjects[test])
        assert searched[3 * fold] == people
        for inner in searched[3 * fold + 1 : 3 * fold + 3]:
            assert inner < people
        for seen in fitted[7 * fold : 7 * fold + 7]:
            assert not seen & strangers
    assert searched[-1] == set(few_clips.subjects)


def test_shuffled_labels_are_at_chance(few_clips):
    """No size and not the whole procedure is better than chance.

    On average they may be a little worse: whoever is more frequent in the training folds is rarer
    in the test fold.
    """
    nested = []
    for seed in range(3):
        labels = np.random.default_rng(seed).permutation(few_clips.labels)
        shuffled = fx.ClipSet(few_clips.X, labels, few_clips.subjects, few_clips.ids)
        path = prune(
            small(), shuffled, (24, 4), folds=4, inner_folds=2, random_subsets=0, anchor=False
        )
        assert path.nested.low <= 0.5
        assert (path.table["balanced_accuracy_low"] <= 0.5).all()
        nested.append(path.nested.value)
    assert 0.42 < np.mean(nested) < 0.55


# --- Seeds, progress, and what is left alone -----------------------------------------------------------


def test_a_seed_gives_the_same_path(path, few_clips):
    again = prune(small(), few_clips, SIZES, folds=3, inner_folds=2, random_subsets=2, seed=4)
    pd.testing.assert_frame_equal(
        again.table.drop(columns=TIMINGS), path.table.drop(columns=TIMINGS)
    )
    pd.testing.assert_frame_equal(again.answers, path.answers)
    assert again.best == path.best
    for size in SIZES:
        np.testing.assert_array_equal(again.kept[size], path.kept[size])


def test_repeats_divide_the_clips_anew(few_clips):
    options = {"folds": 2, "inner_folds": 0, "random_subsets": 1, "anchor": False}
    one = prune(small(), few_clips, (12, 4), **options)
    two = prune(small(), few_clips, (12, 4), repeats=2, **options)
    pd.testing.assert_frame_equal(one.answers, two.answers)
    assert sorted(set(two.folds["repeat"])) == [0, 1]
    first, second = (two.folds[two.folds["repeat"] == i]["guided"].tolist() for i in (0, 1))
    assert first != second


def test_progress_counts_every_fit(path, calls):
    total = 3 * (1 + 2 + 2 * 2 + 2 * 4) + 4
    assert calls == [(done, total) for done in range(1, total + 1)]


def test_pruning_leaves_the_classifier_alone(few_clips):
    clf = small()
    before = clf.get_params()
    prune(clf, few_clips, (4,), folds=2, inner_folds=0, random_subsets=1)
    assert clf.get_params() == before
    assert not hasattr(clf, "network_")


# --- Files ---------------------------------------------------------------------------------------------


def test_a_path_that_was_saved_is_the_same(path, tmp_path):
    path.save(tmp_path / "path.json")
    again = fx.PruningPath.load(tmp_path / "path.json")
    for name in ("table", "folds", "answers"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(path, name))
    assert again.nested == path.nested
    assert repr(again) == repr(path)
    for size in SIZES:
        np.testing.assert_array_equal(again.kept[size], path.kept[size])
    assert again.options == json.loads(json.dumps(path.options))


def test_the_printed_table_is_the_papers(path, tmp_path):
    for suffix in ("csv", "md", "tex"):
        path.save(tmp_path / f"path.{suffix}")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "path.csv"), path.table, check_dtype=False)
    headings = ["landmarks", "accuracy", "balanced accuracy", "ROC-AUC", "random control"]
    assert list(path.printed())[:5] == headings
    score = (
        f"{path.table['balanced_accuracy'][2]:.3f} [{path.table['balanced_accuracy_low'][2]:.3f}"
    )
    for suffix in ("md", "tex"):
        text = (tmp_path / f"path.{suffix}").read_text()
        assert all(heading in text for heading in headings)
        assert score in text


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"table": 1}', '{"fastexai_pruning_path": 99}']
)
def test_a_file_that_is_no_path_is_refused(content, tmp_path):
    file = tmp_path / "path.json"
    file.write_text(content)
    with pytest.raises(ValueError, match="^path: expected .* got .*path.json"):
        fx.PruningPath.load(file)


def test_a_missing_file_and_an_unknown_suffix_are_named(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^path: .*none.json, which is missing"):
        fx.PruningPath.load(tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"^path: expected .json, .csv, .md, .tex, got .*path.xls"):
        path.save(tmp_path / "path.xls")
    assert not list(tmp_path.iterdir())


# --- Stability and the anchor ----------------------------------------------------------------------------


def test_kunchevas_index_is_one_for_equal_sets_and_zero_by_chance():
    rng = np.random.default_rng(0)
    random = [rng.permutation(60)[:12] for _ in range(200)]
    assert kuncheva_index([random[0], random[0][::-1]], 60) == 1
    assert abs(kuncheva_index(random, 60)) < 0.01
    assert kuncheva_index([[0, 1], [2, 3]], 4) == -1
    assert np.isnan(kuncheva_index([[0, 1], [0, 1]], 2))
    assert np.isnan(kuncheva_index([[0, 1]], 4))
    with pytest.raises(ValueError, match="^subsets: expected one size, got 1, 2"):
        kuncheva_index([[0], [1, 2]], 4)


def test_rank_correlation_is_spearmans():
    ranking = np.arange(9.0)
    assert rank_correlation(np.stack([ranking, ranking**3])) == pytest.approx(1)
    assert rank_correlation(np.stack([ranking, -ranking])) == pytest.approx(-1)
    assert np.isnan(rank_correlation(ranking[None]))


def test_the_anchor_keeps_what_moves_and_knows_strangers(few_clips):
    positive = few_clips.labels == "happiness"
    training, test = subject_folds(positive, few_clips.subjects, folds=2, seed=0)[0]
    logits = list(anchor_decisions(few_clips[training], few_clips[test], "happiness", SIZES))
    assert [len(answer) for answer in logits] == [len(test)] * 3
    scores = [balanced_accuracy_score(positive[test], answer > 0) for answer in logits]
    assert min(scores) > 0.7


# --- The selector -----------------------------------------------------------------------------------------


def test_a_selector_is_a_step_of_a_pipeline(few_clips):
    y = few_clips.labels == "happiness"
    model = make_pipeline(fx.LandmarkSelector(small(), n_landmarks=4), small())
    model.fit(few_clips.X, y)
    selector = model[0]
    assert selector.get_support().sum() == 4
    assert selector.get_support(indices=True).tolist() == np.flatnonzero(selector.support_).tolist()
    assert selector.get_support()[:12].sum() == 4  # the first twelve show happiness
    assert model[1].network_.landmarks == 4
    assert balanced_accuracy_score(y, model.predict(few_clips.X)) > 0.7
    assert clone(selector).n_landmarks == 4


def test_a_selector_takes_and_gives_back_clips(few_clips):
    selector = fx.LandmarkSelector(small(), n_landmarks=4)
    X = selector.fit_transform(few_clips.X, few_clips.labels == "happiness")
    assert X.shape == (*few_clips.X.shape[:2], 4, 3)
    full = selector.inverse_transform(X)
    np.testing.assert_array_equal(full[:, :, selector.support_], X)
    assert not full[:, :, ~selector.support_].any()
    with pytest.raises(ValueError, match=r"^X: expected \(N, T, 24, 3\), got "):
        selector.transform(X)
    with pytest.raises(ValueError, match=r"^X: expected \(N, T, 4, 3\), got "):
        selector.inverse_transform(full)


# --- Errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((), r"sizes: expected values in \[1, 24\], got \(\)"),
        ((25, 4), r"sizes: expected values in \[1, 24\], got \(25, 4\)"),
        ((4, 0), r"sizes: expected values in \[1, 24\], got \(4, 0\)"),
        ((4, -1), r"sizes: expected values in \[1, 24\], got \(4, -1\)"),
        ((4, 4), r"sizes: expected decreasing values, got \(4, 4\)"),
        ((4, 12), r"sizes: expected decreasing values, got \(4, 12\)"),
    ],
)
def test_sizes_are_checked(sizes, message, few_clips):
    with pytest.raises(ValueError, match=f"^{message}"):
        prune(small(), few_clips, sizes)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"repeats": 0}, "repeats: expected at least 1, got 0"),
        ({"random_subsets": -1}, "random_subsets: expected at least 0, got -1"),
        ({"inner_folds": 1}, "inner_folds: expected 0 or at least 2, got 1"),
    ],
)
def test_options_are_checked(option, message, few_clips):
    with pytest.raises(ValueError, match=f"^{message}"):
        prune(small(), few_clips, (4,), **option)


@pytest.mark.parametrize("option", ["keep_regions", "exclude_regions"])
def test_an_unknown_region_is_named_before_any_fit(option, few_clips):
    fits = []
    with pytest.raises(ValueError, match="^region: expected one of forehead, .*; got 'beard'"):
        prune(
            small(), few_clips, (4,), **{option: ["beard"]}, progress=lambda *fit: fits.append(fit)
        )
    assert fits == []


def test_one_class_is_refused(few_clips):
    alone = few_clips[few_clips.labels == "neutral"]
    with pytest.raises(ValueError, match="^folds: .* number of clips of the rarer class, 0, got 5"):
        prune(small(), alone, (4,))


def test_fewer_people_than_folds_are_refused(few_clips):
    three = few_clips[np.isin(few_clips.subjects, np.unique(few_clips.subjects)[:3])]
    with pytest.raises(ValueError, match="^folds: .* number of subjects, 3, got 4"):
        prune(small(), three, (4,), folds=4)


def test_an_exception_in_progress_surfaces(few_clips):
    def fail(done, total):
        raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        prune(small(), few_clips, (4,), folds=2, progress=fail)


def test_the_gain_is_paired(path, few_clips):
    """Recomputed from the answers: the same people are resampled on both sides."""
    positive = few_clips.labels == "happiness"
    said = path.answers["12"].to_numpy() > 0
    gain = paired_difference(positive, said, positive, few_clips.subjects)
    assert gain.value == pytest.approx(path.table["balanced_accuracy"][1] - 1)
