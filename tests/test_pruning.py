"""Masked scores against a naive loop, the search against scikit-learn, and the pruning path."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import nn

import fastexai as fx
from fastexai import _core, pruning
from fastexai.folds import subject_folds
from fastexai.model_loading import load_model
from fastexai.pruning import prune
from fastexai.training import EmotionClassifier

SIZES = (24, 12, 4, 1)
TIMINGS = ["fit_seconds", "inference_ms"]
COLUMNS = {
    "landmarks", "accuracy", "balanced_accuracy", "balanced_accuracy_se", "roc_auc",
    "masked_balanced_accuracy", "random_balanced_accuracy", "majority_rate", "parameters",
    *TIMINGS,
}  # fmt: skip


# --- Masked evaluation -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(few_clips):
    return EmotionClassifier("happiness", "randomized_bilstm", hidden=8).fit(few_clips).network_


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
def test_masked_scores_are_those_of_masked_clips(count, network, few_clips):
    """130 clips are more than two of the core's blocks of 64."""
    X = torch.from_numpy(few_clips.X[:count])
    baseline = torch.from_numpy(few_clips.X[-1])
    kept = torch.rand(5, 24) < 0.5
    kept[3], kept[4] = True, False
    scores = _core.masked_scores(load_model(network), X, baseline=baseline, kept=kept)
    assert scores.shape == (5, count)
    for subset, row in zip(kept, scores, strict=True):
        masked = X.clone()
        for landmark in range(24):
            if not subset[landmark]:
                masked[:, :, landmark] = baseline[:, landmark]
        with torch.no_grad():
            expected = network(masked)
        torch.testing.assert_close(
            row, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
        )


def test_all_landmarks_are_the_model_and_none_the_baseline(network, few_clips):
    X, baseline = torch.from_numpy(few_clips.X[:9]), torch.from_numpy(few_clips.X[-1])
    kept = torch.stack([torch.ones(24, dtype=torch.bool), torch.zeros(24, dtype=torch.bool)])
    full, empty = _core.masked_scores(load_model(network), X, baseline=baseline, kept=kept)
    with torch.no_grad():
        torch.testing.assert_close(full, network(X))
        torch.testing.assert_close(empty, network(baseline[None]).expand(9))


def test_threads_change_no_score(network, few_clips):
    X, baseline = torch.from_numpy(few_clips.X), torch.from_numpy(few_clips.X[0])
    kept, answers = torch.rand(7, 24) < 0.5, []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        answers.append(_core.masked_scores(load_model(network), X, baseline=baseline, kept=kept))
    atol = 1e-5 * float(answers[0].abs().max())
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=atol)
    torch.testing.assert_close(answers[0], answers[2], rtol=0, atol=atol)


CLIPS, BASELINE = torch.ones(6, 2, 5, 3), torch.zeros(2, 5, 3)
KEPT = torch.ones(1, 5, dtype=torch.bool)


class Total(nn.Module):
    """Sum over everything."""

    def forward(self, x):
        return x.flatten(1).sum(1)


@pytest.fixture(scope="module")
def total():
    return load_model(Total().eval())


def nan_at(tensor):
    tensor = tensor.clone()
    tensor[1] = torch.nan
    return tensor


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"clips": CLIPS[0]}, ValueError, r"clips: expected \(N, T, L, 3\) with N >= 1, got \[2,"),
        ({"clips": CLIPS[:0]}, ValueError, r"clips: expected \(N, T, L, 3\) with N >= 1, got \[0,"),
        ({"clips": CLIPS[..., :2]}, ValueError, r"clips: expected \(\.\.\., L, 3\), got \[6, 2, 5"),
        ({"clips": CLIPS.int()}, TypeError, "clips: expected float32 or float64, got Int"),
        ({"clips": nan_at(CLIPS)}, ValueError, "clips: expected finite .* nan in sample 1"),
        ({"baseline": BASELINE[:1]}, ValueError, r"baseline: expected \[2, 5, 3\], got \[1, 5"),
        ({"baseline": BASELINE[None]}, ValueError, r"baseline: expected \[2, 5, 3\], got \[1, 2"),
        ({"baseline": BASELINE.double()}, TypeError, "baseline: expected Float"),
        ({"baseline": nan_at(BASELINE)}, ValueError, "baseline: expected finite"),
        ({"kept": KEPT[0]}, ValueError, r"kept: expected \(S, 5\), got \[5\]"),
        ({"kept": KEPT[:, :4]}, ValueError, r"kept: expected \(S, 5\), got \[1, 4\]"),
        ({"kept": KEPT.float()}, TypeError, "kept: expected bool, got Float"),
    ],
)
def test_masked_scores_say_what_they_take(change, error, message, total):
    given = {"clips": CLIPS, "baseline": BASELINE, "kept": KEPT} | change
    with pytest.raises(error, match=f"^{message}") as caught:
        _core.masked_scores(total, given["clips"], baseline=given["baseline"], kept=given["kept"])
    assert "\n" not in str(caught.value)


# --- The search ------------------------------------------------------------------------------------


@st.composite
def searches(draw):
    """Small integers, so that scores and relevance tie, and zero is a score."""
    clips, landmarks = draw(st.integers(2, 12)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.random(clips) < 0.5
    labels[rng.permutation(clips)[:2]] = [True, False]
    sizes = draw(st.sets(st.integers(1, landmarks), min_size=1))
    return (
        torch.from_numpy(rng.integers(-1, 2, (clips, 1, landmarks, 3)).astype(np.float64)),
        torch.from_numpy(labels),
        torch.from_numpy(rng.integers(-1, 2, (1, landmarks, 3)).astype(np.float64)),
        torch.from_numpy(rng.integers(0, 3, landmarks).astype(np.float64)),
        sorted(sizes, reverse=True),
    )


TOTAL = load_model(Total().eval())


@given(problem=searches())
def test_a_search_scores_nested_subsets_as_scikit_learn_does(problem):
    clips, labels, baseline, relevance, sizes = problem
    kept, accuracy, auc = _core.search_by_relevance(
        TOTAL, clips, labels, baseline=baseline, relevance=relevance, sizes=sizes
    )
    assert kept.dtype == torch.bool
    assert kept.sum(1).tolist() == sizes
    assert (kept[1:] <= kept[:-1]).all()
    ranking = np.argsort(-relevance.numpy(), kind="stable")
    for size, subset, a, b in zip(sizes, kept, accuracy, auc, strict=True):
        assert subset.nonzero().flatten().tolist() == sorted(ranking[:size])
        masked = torch.where(subset[None, None, :, None], clips, baseline)
        scores = masked.flatten(1).sum(1).numpy()
        assert float(a) == pytest.approx(balanced_accuracy_score(labels, scores > 0), abs=1e-12)
        assert float(b) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


SEARCH = {
    "clips": CLIPS,
    "labels": torch.arange(6) % 2 == 0,
    "baseline": BASELINE,
    "relevance": torch.arange(5, dtype=torch.float64),
    "sizes": [5, 2],
}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"clips": CLIPS[0]}, ValueError, r"clips: expected \(N, T, L, 3\), got \[2, 5, 3\]"),
        ({"clips": nan_at(CLIPS)}, ValueError, "clips: expected finite values, got nan in sample"),
        ({"labels": SEARCH["labels"][:4]}, ValueError, r"labels: expected \(6,\), got \[4\]"),
        ({"labels": torch.ones(6)}, TypeError, "labels: expected bool, got Float"),
        ({"labels": torch.ones(6).bool()}, ValueError, "labels: .*both classes, got 6 pos.* 6"),
        ({"labels": torch.zeros(6).bool()}, ValueError, "labels: .*both classes, got 0 pos.* 6"),
        ({"baseline": BASELINE[:1]}, ValueError, r"baseline: expected \[2, 5, 3\], got \[1, 5"),
        ({"relevance": torch.ones(4).double()}, ValueError, r"relevance: expected \(5,\), got \[4"),
        ({"relevance": torch.ones(5)}, TypeError, "relevance: expected float64, got Float"),
        (
            {"relevance": nan_at(SEARCH["relevance"])},
            ValueError,
            "relevance: expected finite values, got nan in sample 1",
        ),
        ({"sizes": []}, ValueError, "sizes: expected at least one, got none"),
        ({"sizes": [6]}, ValueError, r"sizes: expected values in \[1, 5\], got 6"),
        ({"sizes": [2, 0]}, ValueError, r"sizes: expected values in \[1, 5\], got 0"),
        ({"sizes": [2, 2]}, ValueError, "sizes: expected decreasing values, got 2 after 2"),
        ({"sizes": [2, 4]}, ValueError, "sizes: expected decreasing values, got 4 after 2"),
    ],
)
def test_a_search_says_what_it_takes(change, error, message, total):
    given = SEARCH | change
    clips, labels = given.pop("clips"), given.pop("labels")
    with pytest.raises(error, match=f"^{message}") as caught:
        _core.search_by_relevance(total, clips, labels, **given)
    assert "\n" not in str(caught.value)


# --- The pruning path --------------------------------------------------------------------------------


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
        random_subsets=2,
        seed=4,
        progress=lambda *call: calls.append(call),
    )


def test_a_path_has_one_row_per_size_and_every_column(path):
    assert set(path.table.columns) >= COLUMNS
    assert path.table["landmarks"].tolist() == list(SIZES)
    assert path.emotion == "happiness"
    assert np.isfinite(path.table.to_numpy(dtype=float)).all()
    shares = [c for c in COLUMNS if "accuracy" in c or c in ("roc_auc", "majority_rate")]
    assert path.table[shares].to_numpy().min() >= 0
    assert path.table[shares].to_numpy().max() <= 1
    assert (path.table["parameters"].diff()[1:] < 0).all()


def test_folds_hold_every_fit(path):
    counts = path.folds.groupby(["fold", "landmarks", "choice"]).size()
    for fold in range(3):
        for size in SIZES:
            assert counts[fold, size, "relevance"] == 1
            assert counts[fold, size, "random"] == 2
    assert counts.sum() == 3 * 4 * 3


def test_the_table_is_the_mean_over_folds(path):
    for _, row in path.table.iterrows():
        at_size = path.folds[path.folds["landmarks"] == row["landmarks"]]
        chosen = at_size[at_size["choice"] == "relevance"]
        random = at_size[at_size["choice"] == "random"]
        for name in ("accuracy", "balanced_accuracy", "roc_auc", "masked_balanced_accuracy"):
            assert row[name] == pytest.approx(chosen[name].mean()), name
        se = chosen["balanced_accuracy"].std(ddof=1) / np.sqrt(3)
        assert row["balanced_accuracy_se"] == pytest.approx(se)
        assert row["random_balanced_accuracy"] == pytest.approx(random["balanced_accuracy"].mean())


def test_random_subsets_of_all_landmarks_are_all_landmarks(path):
    """In another order: only rounding, and the random layer's columns, can differ."""
    row = path.table.iloc[0]
    assert row["landmarks"] == 24
    assert row["random_balanced_accuracy"] == pytest.approx(row["balanced_accuracy"], abs=0.05)


def test_kept_landmarks_are_nested_and_as_many_as_asked(path):
    assert list(path.kept) == list(SIZES)
    for size, kept in path.kept.items():
        assert len(kept) == size
        assert len(set(kept)) == size
        assert set(kept) <= set(range(24))
    for larger, smaller in pairwise(SIZES):
        assert path.kept[larger][:smaller].tolist() == path.kept[smaller].tolist()


def test_the_landmarks_that_move_are_kept(path):
    """The first twelve landmarks of `few_clips` show happiness, the others do not."""
    assert set(path.kept[4]) <= set(range(12))


def test_best_is_the_smallest_within_one_standard_error(path):
    top = max(range(4), key=lambda i: path.table["balanced_accuracy"][i])
    floor = path.table["balanced_accuracy"][top] - path.table["balanced_accuracy_se"][top]
    enough = [s for s, b in zip(SIZES, path.table["balanced_accuracy"], strict=True) if b >= floor]
    assert path.best == min(enough)
    assert repr(path) == f"PruningPath('happiness': sizes 24, 12, 4, 1; best {path.best})"


def test_best_follows_the_scores():
    table = pd.DataFrame(
        {
            "landmarks": [100, 50, 10, 5],
            "balanced_accuracy": [0.80, 0.90, 0.86, 0.84],
            "balanced_accuracy_se": [0.01, 0.05, 0.3, 0.3],
        }
    )
    assert pruning._one_standard_error(table) == 10  # 0.85 is enough: the best one's error counts


def test_progress_counts_every_fit(path, calls):
    assert [call[0] for call in calls] == list(range(1, 38))
    assert {call[1] for call in calls} == {37}  # 3 folds x 4 sizes x 3 subsets, and the last fit


def test_a_seed_gives_the_same_path(path, few_clips):
    again = prune(small(), few_clips, SIZES, folds=3, random_subsets=2, seed=4)
    assert again.table.drop(columns=TIMINGS).equals(path.table.drop(columns=TIMINGS))
    assert again.folds.drop(columns=TIMINGS).equals(path.folds.drop(columns=TIMINGS))
    assert again.best == path.best
    for size in SIZES:
        np.testing.assert_array_equal(again.kept[size], path.kept[size])


def test_another_seed_draws_other_folds(path, few_clips):
    other = prune(small(), few_clips, (24, 4), folds=3, random_subsets=1, seed=5)
    one = path.folds[path.folds["landmarks"] == 24].query("choice == 'relevance'")
    two = other.folds[other.folds["landmarks"] == 24].query("choice == 'relevance'")
    assert one["roc_auc"].tolist() != two["roc_auc"].tolist()


def test_test_people_have_no_say_in_the_ranking(few_clips, monkeypatch):
    explained = []
    explain = pruning.explain_dataset

    def record(model, clips, *arguments, **options):
        explained.append(set(clips.subjects))
        return explain(model, clips, *arguments, **options)

    monkeypatch.setattr(pruning, "explain_dataset", record)
    prune(small(), few_clips, (4,), folds=3, random_subsets=1, seed=2)
    positive = few_clips.labels == "happiness"
    splits = subject_folds(positive, few_clips.subjects, folds=3, seed=2)
    assert len(explained) == 4
    for (train, test), people in zip(splits, explained[:3], strict=True):
        assert people == set(few_clips.subjects[train])
        assert not people & set(few_clips.subjects[test])
    assert explained[3] == set(few_clips.subjects)


def test_without_random_subsets_the_control_is_missing_not_wrong(few_clips):
    path = prune(small(), few_clips, (24, 4), folds=2, random_subsets=0)
    assert path.table["random_balanced_accuracy"].isna().all()
    assert path.table["balanced_accuracy"].notna().all()


def test_pruning_leaves_the_classifier_alone(few_clips):
    clf = small()
    before = clf.get_params()
    prune(clf, few_clips, (4,), folds=2, random_subsets=1)
    assert clf.get_params() == before
    assert not hasattr(clf, "network_")


# --- Errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((), r"sizes: expected values in \[1, 24\], got \(\)"),
        ((25, 4), r"sizes: expected values in \[1, 24\], got \(25, 4\)"),
        ((468, 256, 128, 64, 32), r"sizes: expected values in \[1, 24\], got \(468, "),
        ((4, 0), r"sizes: expected values in \[1, 24\], got \(4, 0\)"),
        ((4, -1), r"sizes: expected values in \[1, 24\], got \(4, -1\)"),
        ((4, 4), r"sizes: expected decreasing values, got \(4, 4\)"),
        ((4, 12), r"sizes: expected decreasing values, got \(4, 12\)"),
    ],
)
def test_sizes_are_checked(sizes, message, few_clips):
    with pytest.raises(ValueError, match=f"^{message}"):
        prune(small(), few_clips, sizes)


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


def test_the_public_names_are_these():
    assert fx.prune is prune
    assert fx.PruningPath is pruning.PruningPath
