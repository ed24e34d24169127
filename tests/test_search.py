"""The search in C++ against the same search written slowly, its constraints, and what it refuses."""

from __future__ import annotations

import copy
import signal
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import nn

import fastexai as fx
from fastexai import mesh
from fastexai.search import search_landmarks
from fastexai.training import EmotionClassifier

STRATEGIES = ("relevance", "recursive", "redundancy", "greedy", "beam")
SIZES = (24, 12, 5, 2)


@pytest.fixture(scope="module")
def small(few_clips):
    """A network of 24 landmarks, its clips, labels and baselines."""
    clf = EmotionClassifier("happiness", "randomized_bilstm", hidden=8).fit(few_clips)
    some = few_clips[:50]
    return clf.network_, some.X, some.labels == "happiness", clf.prototypes_


@pytest.fixture(scope="module")
def face(randomized, clips):
    """A network of the whole face; few clips, for constraints that any clips show."""
    some = clips[:24]
    return randomized.network_, some.X, some.labels == "happiness", randomized.prototypes_


def search(model, X, labels, baselines, sizes=SIZES, **options):
    return search_landmarks(model, X, labels, baselines=baselines, sizes=sizes, **options)


class Disguised(nn.Module):
    """The same function; nobody sees that its first step is affine."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.network(clips.abs() * clips.sign())


# --- The same, slowly -------------------------------------------------------------------------------


def masked(X, kept, baselines):
    held = np.broadcast_to(baselines.mean(0), X.shape).copy()
    held[:, :, kept] = X[:, :, kept]
    return torch.from_numpy(held)


def masked_output(network, X, kept, baselines):
    with torch.no_grad():
        return network(masked(X, kept, baselines)).numpy().astype(np.float64)


def attributions(network, X, kept, baselines):
    """(N, L, 3), by the package's own Integrated Gradients of masked clips."""
    ig = fx.integrated_gradients(
        network,
        masked(X, kept, baselines),
        masked(baselines, kept, baselines),
        baseline_mode="mean",
        n_steps=8,
    )
    return ig.values.numpy().astype(np.float64).sum(1)


def class_means(values, labels):
    return values[labels].mean(0), values[~labels].mean(0)


def effect(present, absent):
    """Difference of means in standard deviations within, over the coordinates; (N, L, 3) each."""
    inner = np.concatenate([present - present.mean(0), absent - absent.mean(0)])
    return np.sqrt((((present.mean(0) - absent.mean(0)) / inner.std(0)) ** 2).sum(1))


def slow_relevance(network, X, labels, kept, baselines):
    present, absent = class_means(attributions(network, X, kept, baselines), labels)
    return np.abs(present - absent).sum(1)


def by_falling(value, kept):
    return sorted(kept, key=lambda landmark: (-value[landmark], landmark))


def slow_recursive(small, sizes):
    network, X, labels, baselines = small
    kept, subsets = list(range(X.shape[2])), []
    for size in sizes:
        kept = by_falling(slow_relevance(network, X, labels, kept, baselines), kept)[:size]
        subsets.append(kept)
    return subsets


def slow_redundancy(small, sizes, share):
    network, X, labels, baselines = small
    kept, subsets = list(range(X.shape[2])), []
    for size in sizes:
        value = slow_relevance(network, X, labels, kept, baselines)
        signal = attributions(network, X, kept, baselines).sum(2)
        chosen = []
        with np.errstate(invalid="ignore"):
            correlation = np.abs(np.corrcoef(signal.T))
        while len(chosen) < size:
            rest = [landmark for landmark in kept if landmark not in chosen]
            told = [correlation[i, chosen].max() if chosen else 0 for i in rest]
            worth = dict(
                zip(rest, value[rest] * (1 - share * np.array(told)), strict=True),
            )
            chosen.append(by_falling(worth, rest)[0])
        kept = chosen
        subsets.append(kept)
    return subsets


def slow_greedy(small, sizes, candidates):
    network, X, labels, baselines = small
    kept, subsets = list(range(X.shape[2])), []
    for size in sizes:
        kept = by_falling(slow_relevance(network, X, labels, kept, baselines), kept)
        while len(kept) > size:
            trials = [[k for k in kept if k != gone] for gone in kept[: -candidates - 1 : -1]]
            losses = [
                class_balanced_loss(masked_output(network, X, trial, baselines), labels)
                for trial in trials
            ]
            kept = trials[int(np.argmin(losses))]
        subsets.append(kept)
    return subsets


def class_balanced_loss(output, labels):
    loss = np.logaddexp(0, np.where(labels, -output, output))
    return 0.5 * (loss[labels].mean() + loss[~labels].mean())


def assert_path(found, subsets):
    assert [kept.tolist() for kept in found.kept.values()] == [list(map(int, s)) for s in subsets]


def test_recursive_is_the_slow_one(small):
    assert_path(search(*small, strategy="recursive"), slow_recursive(small, SIZES))


def test_redundancy_is_the_slow_one(small):
    found = search(*small, strategy="redundancy", redundancy=0.8)
    assert_path(found, slow_redundancy(small, SIZES, 0.8))


def test_greedy_is_the_slow_one(small):
    found = search(*small, strategy="greedy", candidates=4, objective="log_loss")
    assert_path(found, slow_greedy(small, SIZES, 4))


def test_relevance_is_that_of_the_explanation(small):
    network, X, labels, baselines = small
    names = np.arange(len(X)).astype(str)
    named = fx.ClipSet(X, np.where(labels, "happiness", "neutral"), names, names)
    explanation = fx.explain_dataset(network, named, baselines, emotion="happiness", n_steps=8)
    found = search(*small, strategy="relevance")
    np.testing.assert_allclose(
        found.relevance[0], explanation.relevance, rtol=1e-4, atol=1e-5 * found.relevance[0].max()
    )
    assert found.kept[24].tolist() == explanation.ranking.tolist()
    assert (found.relevance == found.relevance[0]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_scores_are_those_of_masked_forwards(small, dtype, strategy):
    network, X, labels, baselines = small
    model = copy.deepcopy(network).to(torch.from_numpy(np.empty(0, dtype)).dtype)
    X, baselines = X.astype(dtype), baselines.astype(dtype)
    found = search(model, X, labels, baselines, strategy=strategy)
    for kept, row in zip(found.kept.values(), found.scores.itertuples(), strict=True):
        output = masked_output(model, X, kept, baselines)
        assert row.log_loss == pytest.approx(class_balanced_loss(output, labels), abs=1e-5)
        assert row.roc_auc == pytest.approx(roc_auc_score(labels, output), abs=1e-5)
        assert row.balanced_accuracy == balanced_accuracy_score(labels, output > 0)
        assert row.score == row.roc_auc


class Total(nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.flatten(1).sum(1)


@given(seed=st.integers(0, 2**32 - 1), clips=st.integers(2, 12), landmarks=st.integers(2, 6))
def test_ties_and_zeros_are_scored_as_scikit_learn_does(seed, clips, landmarks):
    """Small integers, so that outputs tie, and zero is an output."""
    rng = np.random.default_rng(seed)
    labels = rng.random(clips) < 0.5
    labels[rng.permutation(clips)[:2]] = [True, False]
    X, baselines = (rng.integers(-1, 2, (n, 1, landmarks, 3)).astype(float) for n in (clips, 1))
    found = search(Total().eval(), X, labels, baselines, sizes=(landmarks, 1), strategy="beam")
    for kept, row in zip(found.kept.values(), found.scores.itertuples(), strict=True):
        output = masked(X, kept, baselines).flatten(1).sum(1).numpy()
        assert row.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, output > 0))
        assert row.roc_auc == pytest.approx(roc_auc_score(labels, output))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_model_without_an_affine_step_gives_the_same_path(small, strategy):
    network, X, labels, baselines = small
    options = {"strategy": strategy, "objective": "log_loss"}
    ours = search(*small, **options)
    with pytest.warns(UserWarning, match="masked forwards run the whole model"):
        theirs = search(Disguised(network).eval(), X, labels, baselines, **options)
    assert theirs.plan.startswith("whole model")
    assert ours.plan.startswith("affine prefix")
    for a, b in zip(ours.kept.values(), theirs.kept.values(), strict=True):
        assert a.tolist() == b.tolist()
    # rtol: a log loss is not bounded, and grows as large as the logits, which are float32.
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-5, atol=1e-5)


class Convolved(nn.Module):
    """An affine first step that mixes frames otherwise for every landmark."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(72, 8, 3, padding=1)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.first(clips.flatten(2).transpose(1, 2))).mean((1, 2))


@pytest.mark.parametrize("strategy", ["recursive", "greedy"])
def test_a_prefix_that_is_no_matrix_per_frame_gives_the_slow_path_too(small, strategy):
    _, X, labels, baselines = small
    torch.manual_seed(0)
    given = (Convolved().eval().requires_grad_(False), X, labels, baselines)
    found = search(*given, strategy=strategy, objective="log_loss", candidates=3)
    assert found.plan.startswith("affine prefix")
    slow = slow_recursive(given, SIZES) if strategy == "recursive" else slow_greedy(given, SIZES, 3)
    assert_path(found, slow)


# --- What any search promises -----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_threads_change_no_bit(small, strategy):
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(search(*small, strategy=strategy))
    for a, b in zip(found[0].kept.values(), found[1].kept.values(), strict=True):
        assert a.tolist() == b.tolist()
    assert (found[0].relevance == found[1].relevance).all()
    assert found[0].scores.equals(found[1].scores)


@given(
    sizes=st.sets(st.integers(1, 24), min_size=1, max_size=4),
    strategy=st.sampled_from(STRATEGIES),
    objective=st.sampled_from(["roc_auc", "balanced_accuracy", "log_loss"]),
)
def test_subsets_are_nested_and_of_the_size_asked_for(small, sizes, strategy, objective):
    wanted = sorted(sizes, reverse=True)
    found = search(*small, sizes=wanted, strategy=strategy, objective=objective)
    assert list(found.kept) == wanted == found.scores["landmarks"].tolist()
    assert [len(set(kept.tolist())) for kept in found.kept.values()] == wanted
    for larger, smaller in pairwise(found.kept.values()):
        assert set(smaller) <= set(larger)


def test_what_was_removed_has_no_relevance(small):
    found = search(*small, strategy="recursive")
    for kept, relevance in zip(list(found.kept.values())[:-1], found.relevance[1:], strict=True):
        assert set(np.flatnonzero(relevance)) <= set(kept.tolist())


def test_an_echo_goes_before_news(small):
    """Landmark 1 repeats landmark 0; landmark 2 says less, but something else."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2 == 0
    X = rng.normal(0, 0.1, (80, 4, 3, 3)).astype(np.float32)
    X[:, :, 0, 0] += labels[:, None] + rng.normal(0, 0.1, (80, 1))
    X[:, :, 1] = X[:, :, 0] * 0.9
    X[:, :, 2, 0] += 0.3 * labels[:, None] + rng.normal(0, 0.1, (80, 1))
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 1)).eval()
    nn.init.ones_(model[1].weight)
    given = (model, X, labels, X[1::16])
    for options, expected in [
        ({"strategy": "recursive"}, {0, 1}),
        ({"strategy": "redundancy", "redundancy": 0.9}, {0, 2}),
        ({"strategy": "redundancy", "redundancy": 0.0}, {0, 1}),
    ]:
        assert set(search(*given, sizes=(2,), **options).kept[2]) == expected


def test_many_landmarks_are_chosen_by_their_effect(face):
    """Neighbours are welcome: with as many the redundancy cannot be helped."""
    network, X, labels, baselines = face
    found = search(*face, sizes=(100,), strategy="redundancy")
    values = attributions(network, X, np.arange(468), baselines)
    expected = np.argsort(-effect(values[labels], values[~labels]), kind="stable")[:100]
    assert set(found.kept[100]) == set(expected)


def test_effects_are_measured_against_neutral_clips(face):
    network, X, labels, baselines = face
    neutral = ~labels & (np.arange(len(X)) % 3 > 0)
    found = search(*face, sizes=(100,), neutral=neutral | labels)
    values = attributions(network, X, np.arange(468), baselines)
    expected = np.argsort(-effect(values[labels], values[neutral]), kind="stable")[:100]
    assert set(found.kept[100]) == set(expected)


def test_a_clip_set_knows_its_neutral_clips(randomized, clips):
    labels = clips.labels == "happiness"
    neutral = ~labels & (np.arange(len(clips)) % 3 > 0)
    words = np.where(labels, "happiness", np.where(neutral, "neutral", "talking"))
    named = fx.ClipSet(clips.X, words, clips.subjects, clips.ids)
    baselines = randomized.prototypes_
    found = search(randomized.network_, named, labels, baselines, sizes=(100,))
    for told, is_same in ((neutral, True), (~labels, False)):
        by_hand = search(
            randomized.network_, clips.X, labels, baselines, sizes=(100,), neutral=told
        )
        assert (set(by_hand.kept[100]) == set(found.kept[100])) == is_same


def test_validation_clips_are_scored_and_the_others_attributed(small):
    network, X, labels, baselines = small
    validation = np.arange(len(X)) % 4 < 2
    found = search(*small, validation=validation, strategy="recursive")
    alone = search(network, X[~validation], labels[~validation], baselines, strategy="recursive")
    assert (found.relevance == alone.relevance).all()
    output = masked_output(network, X[validation], found.kept[5], baselines)
    expected = class_balanced_loss(output, labels[validation])
    assert found.scores["log_loss"][2] == pytest.approx(expected, abs=1e-5)


def test_a_wider_beam_scores_no_worse_at_the_first_stage(small):
    found = [
        search(*small, sizes=(4,), strategy=strategy, objective="log_loss", candidates=20)
        for strategy in ("relevance", "greedy", "beam")
    ]
    ranked, greedy, beam = (one.scores["score"][0] for one in found)
    assert ranked < greedy <= beam


def test_progress_counts_landmarks(small):
    for strategy in ("recursive", "greedy"):
        calls = []
        search(*small, strategy=strategy, progress=lambda *call, calls=calls: calls.append(call))
        assert [done for done, _ in calls] == sorted(done for done, _ in calls)
        assert calls[-1] == (22, 22)


def test_an_error_in_progress_surfaces(small):
    def fail(done, total):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        search(*small, progress=fail)


def test_ctrl_c_stops_within_a_second(face):
    started = []

    def interrupt():
        started.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    timer = threading.Timer(0.2, interrupt)

    def begin(done, total):  # not before: PyTorch's compiler turns Ctrl-C into an error of its own
        if not timer.is_alive() and not started:
            timer.start()

    with pytest.raises(KeyboardInterrupt):
        search(*face, sizes=(8,), strategy="beam", candidates=400, beam_width=8, progress=begin)
    assert time.monotonic() - started[0] < 1


# --- Constraints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["redundancy", "greedy"])
def test_mirror_pairs_stay_together(face, strategy):
    found = search(*face, sizes=(100, 33, 16), strategy=strategy, symmetric=True, candidates=1)
    for size, kept in found.kept.items():
        assert set(mesh.MIRROR[kept]) == set(kept)
        assert size - 1 <= len(kept) <= size
    assert found.scores["landmarks"].tolist() == [len(kept) for kept in found.kept.values()]


@pytest.mark.parametrize("strategy", ["recursive", "redundancy", "greedy"])
def test_regions_are_kept_and_excluded(face, strategy):
    found = search(
        *face,
        sizes=(60, 45),
        strategy=strategy,
        keep_regions=["left brow", "perioral"],
        exclude_regions=["lips", "chin"],
        candidates=1,
    )
    wanted = {*mesh.region_landmarks("left brow"), *mesh.region_landmarks("perioral")}
    for kept in found.kept.values():
        assert wanted <= set(kept)
        assert not {"lips", "chin"} & {mesh.region(k) for k in kept}


def distances(kept):
    face = mesh.CANONICAL_FACE / np.linalg.norm(mesh.CANONICAL_FACE[33] - mesh.CANONICAL_FACE[263])
    apart = np.linalg.norm(face[kept][:, None] - face[kept][None], axis=2)
    return apart[~np.eye(len(kept), dtype=bool)]


@pytest.mark.parametrize("strategy", ["relevance", "redundancy"])
def test_landmarks_keep_their_distance(face, strategy):
    close = search(*face, sizes=(16,), strategy=strategy)
    apart = search(*face, sizes=(16,), strategy=strategy, min_spacing=0.2)
    assert distances(close.kept[16]).min() < 0.2 <= distances(apart.kept[16]).min()
    assert apart.kept[16][0] == close.kept[16][0]


# --- Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": ()}, "sizes: expected at least one, got none"),
        ({"sizes": (12, 12)}, "sizes: expected decreasing values, got 12 after 12"),
        ({"sizes": (25,)}, r"sizes: expected numbers of landmarks in \[1, 24\], got 25"),
        ({"sizes": (3, 0)}, r"sizes: expected numbers of landmarks in \[1, 24\], got 0"),
        ({"strategy": "luck"}, "strategy: expected relevance, recursive, .* or beam, got luck"),
        ({"objective": "f1"}, "objective: expected balanced_accuracy, roc_auc or log_loss, got f1"),
        ({"candidates": 0}, "candidates: expected at least 1, got 0"),
        ({"beam_width": 0}, "beam_width: expected at least 1, got 0"),
        ({"redundancy": 1.5}, "redundancy: expected 0 to 1, got 1.5"),
        ({"n_steps": 0}, "n_steps: expected at least 1, got 0"),
        ({"min_spacing": -1.0}, "clips: expected 468 landmarks for symmetric"),
        ({"symmetric": True}, "clips: expected 468 landmarks for symmetric, .*, got 24"),
        ({"validation": np.ones(3, bool)}, r"validation: expected \(50,\), got \[3\]"),
        ({"neutral": np.ones(3, bool)}, r"neutral: expected \(50,\), got \[3\]"),
    ],
)
def test_bad_options_are_named(small, options, message):
    with pytest.raises(ValueError, match=message):
        search(*small, **options)


def test_bad_data_is_named(small):
    network, X, labels, baselines = small
    broken = X.copy()
    broken[3, 0, 0, 0] = np.nan
    for arrays, message in [
        ((X[0], labels, baselines), r"clips: expected \(N, T, L, 3\) with N >= 1"),
        ((X, labels[:5], baselines), r"labels: expected \(50,\), got \(5,\)"),
        (
            (X, labels | True, baselines),
            "labels: expected both classes among the clips to attribute",
        ),
        ((X, labels, baselines[0]), r"baselines: expected \(K, ...\) with K >= 1"),
        ((broken, labels, baselines), "clips: expected finite values, got nan in sample 3"),
        ((X, labels, baselines + np.nan), "baselines: expected finite values"),
    ]:
        with pytest.raises(ValueError, match=message):
            search(network, *arrays)
    with pytest.raises(ValueError, match="labels: expected both classes among the clips to score"):
        search(*small, validation=labels & (labels.cumsum() <= 2))


def test_bad_regions_are_named(face):
    with pytest.raises(ValueError, match="region: expected one of forehead, .*; got 'beard'"):
        search(*face, exclude_regions=["beard"])
    with pytest.raises(
        ValueError, match="keep_regions: expected none that is excluded, got 'lips'"
    ):
        search(*face, keep_regions=["lips"], exclude_regions=["lips"])
    with pytest.raises(ValueError, match=r"sizes: expected numbers of landmarks in \[1, 388\]"):
        search(*face, sizes=(468,), exclude_regions=["lips"])
    with pytest.raises(ValueError, match=r"sizes: expected numbers of landmarks in \[80, 468\]"):
        search(*face, sizes=(16,), keep_regions=["lips"])
    with pytest.raises(ValueError, match="min_spacing: expected at least 0, got -1"):
        search(*face, min_spacing=-1.0)


def test_the_result_names_its_sizes(small):
    assert repr(search(*small, strategy="relevance")).startswith(
        "LandmarkSearch(sizes 24, 12, 5, 2; affine prefix"
    )
