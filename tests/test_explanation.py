"""A data set's relevance is the plain mean that Captum would give, whatever the batches."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from itertools import pairwise

import captum.attr
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fastexai as fx
from fastexai import explanation, mesh
from fastexai.explanation import DatasetExplanation, explain_dataset
from fastexai.landmarks import ClipSet, Normalization
from fastexai.store import LandmarkStore
from fastexai.training import EmotionClassifier
from fastexai.video import LandmarkClip

NODES = 1  # few, so that completeness errors are far above rounding


@pytest.fixture(scope="module")
def classifier(few_clips):
    return EmotionClassifier("happiness", "randomized_bilstm", hidden=8).fit(few_clips)


@pytest.fixture(scope="module")
def some(few_clips):
    return few_clips[:20]


@pytest.fixture(scope="module")
def baselines(classifier):
    return classifier.prototypes_[:2]


@pytest.fixture(scope="module")
def explained(classifier, some, baselines):
    return explain_dataset(classifier.network_, some, baselines, n_steps=NODES)


def by_captum(network, X, baselines):
    """Attributions (K, N, T, L, 3) and deltas (K, N), one baseline after the other."""
    ig, inputs = captum.attr.IntegratedGradients(network), torch.from_numpy(X)
    pairs = [
        ig.attribute(
            inputs, torch.from_numpy(b[None]), n_steps=NODES, return_convergence_delta=True
        )
        for b in baselines
    ]
    return tuple(torch.stack(part).detach().double().numpy() for part in zip(*pairs, strict=True))


def of_attributions(values, output, **options):
    """An explanation of made-up attributions (N, T, L, 3)."""
    X = np.random.default_rng(0).normal(size=values.shape).astype(np.float32)
    options = {"completeness_error": np.zeros(len(X)), "baselines": X[:1] * 0} | options
    return DatasetExplanation.from_attributions(
        X, values, output=output, baseline_output=[0.0], n_steps=NODES, **options
    )


def assert_same(one, other):
    """Equal but for the rounding of float32 sums."""
    for name in ("mean", "mean_abs", "std", "standard_error", "output", "expression"):
        expected = getattr(other, name)
        atol = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(getattr(one, name), expected, rtol=0, atol=atol, err_msg=name)
    for group in ("present", "absent"):
        for name in ("weights", "drawn"):
            expected = getattr(getattr(other, group), name)
            atol = 1e-5 * np.abs(expected).max()
            np.testing.assert_allclose(getattr(getattr(one, group), name), expected, atol=atol)
    np.testing.assert_allclose(
        one.completeness_error, other.completeness_error, rtol=1e-4, atol=1e-4
    )


def test_explaining_is_the_plain_mean_over_clips_and_baselines(
    classifier, some, baselines, explained
):
    values, deltas = by_captum(classifier.network_, some.X, baselines)
    present = classifier.decision_function(some) > 0
    assert 0 < present.sum() < len(some)
    per_clip = values.mean(0)
    scale = np.abs(per_clip).max()
    np.testing.assert_allclose(explained.mean, per_clip[present].mean(0), atol=1e-5 * scale)
    np.testing.assert_allclose(explained.mean_abs, np.abs(per_clip).mean(0), atol=1e-5 * scale)
    np.testing.assert_allclose(
        explained.completeness_error, np.abs(deltas.mean(0)), rtol=1e-3, atol=1e-4
    )
    assert explained.completeness_error.max() > 1e-3
    np.testing.assert_allclose(
        explained.output, classifier.decision_function(some), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(explained.expression, some.X[present].mean(0), atol=1e-6)


def test_relevance_is_what_sets_the_emotion_apart(classifier, some, baselines, explained):
    values, _ = by_captum(classifier.network_, some.X, baselines)
    yes = classifier.decision_function(some) > 0
    contrast = values.mean(0)[yes].mean(0) - values.mean(0)[~yes].mean(0)
    atol = 1e-5 * np.abs(values).max()
    np.testing.assert_allclose(explained.contrast, contrast, atol=atol)
    outputs = explained.output[yes].mean() - explained.output[~yes].mean()
    assert explained.contrast.sum() == pytest.approx(
        outputs, abs=2 * explained.completeness_error.max()
    )
    expected = np.zeros(24)
    for landmark in range(24):
        for axis in range(3):
            expected[landmark] += abs(explained.contrast[:, landmark, axis].sum())
    np.testing.assert_allclose(explained.relevance, expected)
    assert (explained.relevance >= 0).all()
    assert explained.relevance.max() > 0
    assert (np.diff(explained.relevance[explained.ranking]) <= 0).all()
    assert sorted(explained.ranking) == list(range(24))


def test_labels_tell_which_clips_show_the_emotion(classifier, some, baselines):
    some = replace(some, labels=np.roll(some.labels, 1))  # the classifier disagrees
    options = {"emotion": "happiness", "n_steps": NODES}
    labelled = explain_dataset(classifier.network_, some, baselines, **options)
    np.testing.assert_array_equal(labelled.shown, some.labels == "happiness")
    assert 0 < labelled.present.count == labelled.shown.sum() < len(some)
    seen = classifier.decision_function(some) > 0
    assert (labelled.shown != seen).any()
    half = np.where(np.arange(len(some)) % 2, some.labels, "")
    for labels in (half, np.full(len(some), "fear"), np.full(len(some), "")):
        other = explain_dataset(
            classifier.network_, replace(some, labels=labels), baselines, **options
        )
        np.testing.assert_array_equal(other.shown, seen)


def test_ties_in_relevance_rank_by_index():
    flat = of_attributions(np.ones((2, 7, 24, 3)), output=[1, 1])
    assert flat.ranking.tolist() == list(range(24))
    assert flat.ranking_interval()["landmark"].tolist() == list(range(24))


def test_where_the_model_sees_no_emotion_all_clips_count(classifier, some, baselines):
    values, _ = by_captum(classifier.network_, some.X, baselines)
    absent = some[classifier.decision_function(some) <= 0]
    chosen = np.isin(some.ids, absent.ids)
    result = explain_dataset(classifier.network_, absent, baselines, n_steps=NODES)
    expected = values.mean(0)[chosen].mean(0)
    np.testing.assert_allclose(result.mean, expected, atol=1e-5 * np.abs(values).max())
    np.testing.assert_array_equal(result.contrast, result.mean)
    np.testing.assert_allclose(result.expression, absent.X.mean(0), atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 7, 19, 20])
def test_batch_boundaries_do_not_matter(size, classifier, some, baselines, explained, monkeypatch):
    monkeypatch.setattr(explanation, "_BATCH_CLIPS", size)
    calls = []
    result = explain_dataset(
        classifier.network_,
        some,
        baselines,
        n_steps=NODES,
        progress=lambda *call: calls.append(call),
    )
    assert_same(result, explained)
    done = [*range(size, 20, size), 20]
    assert calls == [(count, 20) for count in done]


def test_the_order_of_clips_does_not_matter(classifier, some, baselines, explained):
    order = np.random.default_rng(0).permutation(len(some))
    result = explain_dataset(classifier.network_, some[order], baselines, n_steps=NODES)
    np.testing.assert_allclose(
        result.mean, explained.mean, atol=1e-5 * np.abs(explained.mean).max()
    )
    np.testing.assert_allclose(result.output, explained.output[order], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        result.completeness_error, explained.completeness_error[order], atol=1e-4
    )


def test_nodes_are_counted_over_all_baselines(classifier, some, baselines, explained):
    assert explained.nodes.shape == (len(some),)
    fixed = explain_dataset(classifier.network_, some, baselines, n_steps=6)
    assert (fixed.nodes == 6 * len(baselines)).all()


def test_more_nodes_lower_the_completeness_error(classifier, some, baselines, explained):
    result = explain_dataset(classifier.network_, some, baselines, n_steps=24)
    assert result.completeness_error.max() < 0.1 * explained.completeness_error.max()
    assert result.n_steps == 24


@pytest.mark.parametrize("architecture", ["bilstm", "randomized_bilstm"])
def test_landmarks_that_are_not_kept_have_exactly_no_relevance(architecture, few_clips, baselines):
    kept = [4, 9, 1]
    clf = EmotionClassifier("happiness", architecture, kept=kept, hidden=8, max_epochs=3)
    network = clf.fit(few_clips).network_
    result = explain_dataset(network, few_clips[:20], baselines, n_steps=NODES)
    assert np.flatnonzero(result.relevance).tolist() == sorted(kept)
    assert np.flatnonzero(result.mean_abs.any(axis=(0, 2))).tolist() == sorted(kept)
    assert set(result.ranking[:3]) == set(kept)


def test_the_landmarks_that_move_are_relevant(classifier, few_clips, baselines):
    """The first twelve landmarks of `few_clips` show happiness, the others do not."""
    relevance = explain_dataset(classifier.network_, few_clips, baselines).relevance
    assert relevance[:12].mean() > 2 * relevance[12:].mean()


# --- Statistics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["present", "all"])
@pytest.mark.parametrize("by", ["landmark", "frame", "coordinate"])
def test_statistics_are_those_of_what_each_clip_sums_to(
    by, of, classifier, some, baselines, explained
):
    values, _ = by_captum(classifier.network_, some.X, baselines)
    per_clip = values.mean(0)
    if of == "present":
        per_clip = per_clip[classifier.decision_function(some) > 0]
    axes = {"landmark": (1, 3), "frame": (2, 3), "coordinate": (1, 2)}[by]
    sums = per_clip.sum(axes)
    table = explained.statistics(by, of=of)
    atol = 1e-5 * np.abs(sums).max()
    np.testing.assert_allclose(table["mean"], sums.mean(0), atol=atol)
    np.testing.assert_allclose(table["mean_abs"], np.abs(sums).mean(0), atol=atol)
    np.testing.assert_allclose(table["std"], sums.std(0, ddof=1), atol=atol)
    error = sums.std(0, ddof=1) / len(sums) ** 0.5
    np.testing.assert_allclose(table["standard_error"], error, atol=atol)


def test_spread_per_cell_is_that_of_the_clips_of_the_mean(classifier, some, baselines, explained):
    values, _ = by_captum(classifier.network_, some.X, baselines)
    present = values.mean(0)[classifier.decision_function(some) > 0]
    atol = 1e-5 * np.abs(present).max()
    np.testing.assert_allclose(explained.std, present.std(0, ddof=1), atol=atol)
    error = present.std(0, ddof=1) / len(present) ** 0.5
    np.testing.assert_allclose(explained.standard_error, error, atol=atol)


def test_regions_gather_their_landmarks():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(5, 2, 468, 3))
    table = of_attributions(values, output=[1, 1, -1, 2, 1]).statistics("region")
    assert tuple(table["region"]) == mesh.REGIONS
    assert table["landmarks"].sum() == 468
    for row in table.itertuples():
        sums = values[[0, 1, 3, 4]][:, :, mesh.region_landmarks(row.region)].sum((1, 2, 3))
        expected = (sums.mean(), np.abs(sums).mean(), sums.std(ddof=1))
        np.testing.assert_allclose((row.mean, row.mean_abs, row.std), expected)
    by_landmark = of_attributions(values, output=[1] * 5).statistics("landmark")
    assert by_landmark["name"].tolist() == [mesh.name(i) for i in range(468)]
    assert by_landmark["region"].tolist() == [mesh.region(i) for i in range(468)]


@pytest.mark.parametrize("by", ["landmark", "frame", "coordinate", "region"])
def test_at_every_level_the_means_sum_to_the_same(by):
    values = np.random.default_rng(1).normal(size=(4, 3, 468, 3))
    result = of_attributions(values, output=[1, -1, 1, 1])
    assert result.statistics(by)["mean"].sum() == pytest.approx(result.mean.sum())


def test_the_spread_of_one_clip_is_unknown_and_of_equal_clips_none():
    one = of_attributions(np.ones((1, 2, 4, 3)), output=[1])
    assert np.isnan(one.std).all()
    assert one.statistics("frame")["standard_error"].isna().all()
    equal = of_attributions(np.full((7, 2, 4, 3), 0.1), output=[1] * 7)
    assert (equal.std < 1e-8).all()


def test_error_statistics_are_relative_to_what_the_attributions_sum_to():
    result = of_attributions(
        np.zeros((4, 1, 2, 3)), output=[4, 2, -1, 0], completeness_error=[0.4, 0.1, 0, 0]
    )
    table = result.error_statistics
    assert table.loc["absolute"].tolist() == pytest.approx([0.125, 0.05, 0.4, 0.4])
    assert table.loc["relative"].tolist() == pytest.approx([0.0375, 0.025, 0.1, 0.1])
    off = replace(result, completeness_error=np.full(4, 0.1)).error_statistics
    assert off.loc["relative", "max"] == np.inf  # 0.1 off where the output does not change


def test_identical_clips_leave_no_doubt_about_the_ranking():
    values = np.random.default_rng(2).normal(size=(1, 3, 24, 3)).repeat(9, axis=0)
    table = of_attributions(values, output=[1] * 9).ranking_interval()
    assert table["rank"].tolist() == list(range(1, 25))
    assert (table["rank_low"] == table["rank"]).all()
    assert (table["rank_high"] == table["rank"]).all()


def test_the_ranking_interval_is_the_bootstrap_over_the_clips_of_either_kind():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(40, 2, 6, 3)) + np.arange(6)[:, None]
    output = np.where(np.arange(40) % 4, 1, -1)
    values[output < 0] -= 10
    result = of_attributions(values, output=output)
    table = result.ranking_interval(level=0.9).set_index("landmark")
    assert table.index.tolist() == result.ranking.tolist()
    np.testing.assert_allclose(table["relevance"], result.relevance[result.ranking])
    draws = []
    for _ in range(400):
        yes = values[rng.choice(np.flatnonzero(output > 0), 30)].mean(0)
        no = values[rng.choice(np.flatnonzero(output < 0), 10)].mean(0)
        relevance = np.abs((yes - no).sum(0)).sum(1)
        draws.append(6 - np.argsort(np.argsort(relevance)))
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    table = table.sort_index()
    rank = table["rank"]
    assert np.abs(table["rank_low"] - np.minimum(low, rank)).max() <= 1
    assert np.abs(table["rank_high"] - np.maximum(high, rank)).max() <= 1


def test_ranking_intervals_repeat_and_grow_with_their_level(explained):
    narrow, wide = (explained.ranking_interval(level=level) for level in (0.5, 0.99))
    assert narrow.equals(explained.ranking_interval(level=0.5))
    assert (wide["rank_low"] <= narrow["rank_low"]).all()
    assert (wide["rank_high"] >= narrow["rank_high"]).all()
    assert ((narrow["rank_low"] <= narrow["rank"]) & (narrow["rank"] <= narrow["rank_high"])).all()
    assert (wide["rank_high"] > wide["rank_low"]).any()


# --- Adding up ---------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(1, 11), max_size=3, unique=True),
    positive=st.lists(st.booleans(), min_size=12, max_size=12),
    magnitude=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_parts_add_up_to_the_whole(seed, cuts, positive, magnitude):
    values = magnitude * np.random.default_rng(seed).normal(size=(12, 2, 5, 3))
    output = np.where(positive, 1.0, -1.0)
    error = np.arange(12.0)

    def part(chosen):
        X = values.astype(np.float32)
        return DatasetExplanation.from_attributions(
            X[chosen],
            values[chosen],
            X[:2] * 0,
            output=output[chosen],
            baseline_output=[0, 0],
            completeness_error=error[chosen],
            n_steps=3,
        )

    whole = part(slice(None))
    edges = [0, *sorted(cuts), 12]
    parts = [part(slice(a, b)) for a, b in pairwise(edges)]
    combined = DatasetExplanation.combine(parts)
    summed = parts[0]
    for other in parts[1:]:
        summed = summed + other
    for result in (combined, summed):
        for name in ("mean", "mean_abs", "std", "expression", "relevance"):
            expected = getattr(whole, name)
            atol = 1e-12 * magnitude
            np.testing.assert_allclose(getattr(result, name), expected, atol=atol, err_msg=name)
        for name in ("shown", "output", "completeness_error", "baselines"):
            np.testing.assert_array_equal(getattr(result, name), getattr(whole, name))
        for by in ("landmark", "frame", "coordinate"):
            one, other = (r.statistics(by, of="all").iloc[:, -4:] for r in (result, whole))
            np.testing.assert_allclose(one, other, atol=atol)


def test_explaining_parts_and_adding_them_explains_the_whole(
    classifier, some, baselines, explained
):
    first, second = (
        explain_dataset(classifier.network_, part, baselines, n_steps=NODES)
        for part in (some[:7], some[7:])
    )
    assert_same(first + second, explained)
    interval = (first + second).ranking_interval()
    np.testing.assert_allclose(interval["relevance"], np.sort(explained.relevance)[::-1], rtol=1e-4)


def test_only_explanations_of_one_kind_add_up(explained):
    for name, other in (
        ("emotion", replace(explained, emotion="anger")),
        ("n_steps", replace(explained, n_steps=9)),
        ("clip shape", replace(explained, baselines=explained.baselines[:, 1:])),
    ):
        with pytest.raises(ValueError, match=f"explanations: expected one {name}, got .* and "):
            explained + other
    for baselines in (explained.baselines + 1, explained.baselines[:1]):
        with pytest.raises(ValueError, match="explanations: expected the same baselines, got"):
            explained + replace(explained, baselines=baselines)
    with pytest.raises(ValueError, match="explanations: expected at least one, got none"):
        DatasetExplanation.combine([])


# --- On disk -----------------------------------------------------------------------------------------


def bits(result):
    arrays = result._arrays()
    return {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}


def test_what_is_saved_comes_back_bit_for_bit(explained, tmp_path):
    result = replace(explained, emotion="Überraschung")
    path = tmp_path / "new" / "result.parquet"
    result.save(path)
    back = DatasetExplanation.load(path)
    assert bits(back) == bits(result)
    assert repr(back) == repr(result)
    assert [p.name for p in path.parent.iterdir()] == ["result.parquet"]
    assert bits(back + back) == bits(result + result)
    assert pq.read_table(path).num_rows == 1


def test_saving_all_or_nothing(explained, tmp_path, monkeypatch):
    path = tmp_path / "result.parquet"
    explained.save(path)
    before = path.read_bytes()

    def fail(table, where, **options):
        where.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        explained.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["result.parquet"]


def test_other_files_are_refused_by_name(explained, tmp_path):
    path = tmp_path / "result.parquet"
    with pytest.raises(FileNotFoundError, match="path: expected a saved explanation, got .*is mis"):
        DatasetExplanation.load(path)
    explained.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"path: expected a saved explanation, got .*\.parquet \("):
        DatasetExplanation.load(path)
    for metadata, found in ((None, "none"), ({"fastexai_explanation": "9"}, "9")):
        pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(metadata), path)
        with pytest.raises(ValueError, match=f"expected an explanation of format 2, got {found}"):
            DatasetExplanation.load(path)


# --- Where things come from --------------------------------------------------------------------------


def test_a_file_brings_its_baselines_and_its_emotion(classifier, some, tmp_path):
    path = tmp_path / "model.pt"
    classifier.export(path)
    own = explain_dataset(path, some, n_steps=NODES)
    given = explain_dataset(
        classifier.network_, some, classifier.prototypes_, emotion="happiness", n_steps=NODES
    )
    assert own.emotion == given.emotion == "happiness"
    np.testing.assert_array_equal(own.baselines, classifier.prototypes_)
    assert_same(own, given)


def test_what_is_given_beats_what_the_file_says(classifier, some, baselines, tmp_path):
    path = tmp_path / "model.pt"
    classifier.export(path)
    result = explain_dataset(str(path), some, baselines, emotion="mirth", n_steps=NODES)
    assert result.emotion == "mirth"
    np.testing.assert_array_equal(result.baselines, baselines)
    kept = explain_dataset(str(path), some, baselines, n_steps=NODES)
    assert kept.emotion == "happiness"
    np.testing.assert_array_equal(kept.baselines, baselines)


def foreign():
    """TorchScript of another origin, as bytes."""
    buffer = io.BytesIO()
    network = nn.Sequential(nn.Flatten(), nn.Linear(7 * 24 * 3, 1)).eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        torch.jit.save(torch.jit.script(network), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["bytes", "path"])
def test_a_model_of_another_origin_needs_only_baselines(form, some, baselines, tmp_path):
    model = foreign()
    if form == "path":
        (tmp_path / "foreign.pt").write_bytes(model)
        model = tmp_path / "foreign.pt"
    result = explain_dataset(model, some, baselines, n_steps=1)
    assert result.completeness_error.max() < 1e-5
    assert result.emotion == ""


def test_a_network_of_another_origin_without_baselines_is_refused(classifier, some):
    for model in (classifier.network_, foreign()):
        with pytest.raises(ValueError, match=r"^baselines: expected \(K, T, L, 3\) for a model"):
            explain_dataset(model, some)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Eleven raw clips of different lengths."""
    rng = np.random.default_rng(0)
    store = LandmarkStore.create(tmp_path_factory.mktemp("store") / "clips.parquet")
    for i in range(11):
        frames = 5 + i % 3
        landmarks = 90 * mesh.CANONICAL_FACE + rng.normal(size=(frames, 468, 3))
        store.append(
            LandmarkClip(
                landmarks.astype(np.float32), np.arange(frames) / 25, 25.0, (640, 480), f"{i}.mp4",
                label=("joy", "anger")[i % 2],
            )
        )  # fmt: skip
    return store


@pytest.mark.parametrize("alignment", ["procrustes", "eyes"])
def test_a_store_is_read_in_batches_and_normalised_as_the_model_file_says(
    alignment, store, tmp_path, monkeypatch
):
    clips = ClipSet.from_store(store, frames=4, normalization=Normalization(alignment=alignment))
    clf = EmotionClassifier("joy", "randomized_bilstm", hidden=4).fit(clips)
    clf.export(tmp_path / "joy.pt")
    whole = explain_dataset(tmp_path / "joy.pt", clips, n_steps=NODES)
    sizes = []
    from_clips = ClipSet.from_clips.__func__

    def counting(cls, raw, **options):
        raw = list(raw)
        sizes.append(len(raw))
        return from_clips(cls, raw, **options)

    monkeypatch.setattr(explanation, "_BATCH_CLIPS", 4)
    monkeypatch.setattr(ClipSet, "from_clips", classmethod(counting))
    calls = []
    streamed = explain_dataset(
        tmp_path / "joy.pt", store, n_steps=NODES, progress=lambda *call: calls.append(call)
    )
    assert_same(streamed, whole)
    assert sizes == [4, 4, 3]
    assert calls == [(4, 11), (8, 11), (11, 11)]


def test_a_model_of_another_origin_takes_its_frames_from_the_baselines(store):
    clips = ClipSet.from_store(store, frames=3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 468 * 3, 1), nn.Tanh()).eval()
    streamed = explain_dataset(network, store, clips.X[:2], n_steps=NODES)
    assert_same(streamed, explain_dataset(network, clips, clips.X[:2], n_steps=NODES))


def test_a_stored_clip_without_a_face_is_named_before_the_work_begins(store, tmp_path):
    other = LandmarkStore.create(tmp_path / "clips.parquet")
    for clip in (store[0], replace(store[1], landmarks=np.full_like(store[1].landmarks, np.nan))):
        other.append(clip, id=f"clip {clip.source}")
    baselines = np.zeros((1, 3, 468, 3), np.float32)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 468 * 3, 1)).eval()
    calls = []
    with pytest.raises(
        ValueError, match=r"clips: expected a face in each, got none in 'clip 1.mp4"
    ):
        explain_dataset(network, other, baselines, progress=lambda *call: calls.append(call))
    assert calls == []
    few = other.select(min_detection_share=0.1)
    assert len(explain_dataset(network, few, baselines, n_steps=1).output) == 1


def test_explanations_print_shapes_not_data(explained):
    text = repr(explained)
    assert text.startswith("DatasetExplanation('': 20 clips of 7 frames x 24 landmarks, 2 baseline")
    assert len(text) < 200


# --- Errors --------------------------------------------------------------------------------------------


def with_nan(clips, clip):
    X = clips.X.copy()
    X[clip, 0, 0, 0] = np.nan
    return fx.ClipSet(X, clips.labels, clips.subjects, clips.ids)


def test_a_bad_clip_is_named_by_its_place_in_the_data_set(classifier, some, baselines, monkeypatch):
    for size, clip in ((64, 3), (5, 12)):
        monkeypatch.setattr(explanation, "_BATCH_CLIPS", size)
        with pytest.raises(ValueError, match=f"expected finite values, got nan in .* {clip}$"):
            explain_dataset(classifier.network_, with_nan(some, clip), baselines)


def test_bad_baselines_are_refused(classifier, some, baselines):
    with pytest.raises(ValueError, match="^baselines: expected"):
        explain_dataset(classifier.network_, some, baselines[:, :3])
    with pytest.raises(ValueError, match="^baselines: expected"):
        explain_dataset(classifier.network_, some, baselines[0])
    with pytest.raises(ValueError, match="^baselines: expected finite values, got nan"):
        explain_dataset(classifier.network_, some, np.full_like(baselines, np.nan))


def test_no_baseline_at_all_is_refused_not_explained_away(classifier, some, baselines):
    """A mean over nothing would be zero relevance with a completeness error of zero."""
    with pytest.raises(ValueError, match="^baselines: expected"):
        explain_dataset(classifier.network_, some, baselines[:0])


def test_no_clip_at_all_is_refused_by_name(classifier, some, baselines):
    with pytest.raises(ValueError, match="^clips: expected at least one"):
        explain_dataset(classifier.network_, some[:0], baselines)


def test_an_exception_in_progress_surfaces(classifier, some, baselines):
    def fail(done, total):
        raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        explain_dataset(classifier.network_, some, baselines, n_steps=1, progress=fail)


def test_no_node_at_all_is_refused(classifier, some, baselines):
    with pytest.raises(ValueError, match="^n_steps: expected at least 1, got 0"):
        explain_dataset(classifier.network_, some, baselines, n_steps=0)


def test_other_data_than_clips_is_refused(classifier, some, baselines, store):
    with pytest.raises(TypeError, match="^clips: expected a ClipSet or LandmarkStore, got ndarray"):
        explain_dataset(classifier.network_, some.X, baselines)
    with pytest.raises(ValueError, match=r"^baselines: expected \(2, 7, 468, 3\), as clips are"):
        explain_dataset(classifier.network_, store, baselines)


def test_wrong_choices_are_named(explained):
    for call, message in (
        (lambda: explained.statistics("face"), "by: expected one of landmark, .*, got 'face'"),
        (lambda: explained.statistics("region"), "by: expected one of .*coordinate, got 'region'"),
        (lambda: explained.statistics("frame", of="some"), "of: expected 'present' or 'all'"),
        (lambda: explained.ranking_interval(level=1), "level: expected a number between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_attributions_of_other_shapes_are_refused():
    values = np.zeros((2, 3, 4, 3))
    for changes, message in (
        ({"output": [1.0]}, r"output: expected \(2,\), got \(1,\)"),
        ({"completeness_error": [0.0]}, r"completeness_error: expected \(2,\), got \(1,\)"),
        ({"baselines": np.zeros((1, 4, 4, 3))}, r"baselines: expected \(1, 3, 4, 3\), got \(1, 4"),
    ):
        with pytest.raises(ValueError, match=message):
            of_attributions(values, **({"output": [1, 1]} | changes))
    X = values.astype(np.float32)
    numbers = {"output": [1, 1], "baseline_output": [0], "completeness_error": [0, 0]}
    with pytest.raises(
        ValueError, match=r"attributions: expected \(2, 3, 4, 3\), got \(1, 3, 4, 3"
    ):
        DatasetExplanation.from_attributions(X, values[:1], X[:1], n_steps=1, **numbers)


def test_a_tolerance_is_kept_where_fixed_nodes_miss_it(bilstm, clips):
    some, baselines = clips[:24], clips.X[-2:]
    fixed = explain_dataset(bilstm.network_, some, baselines, n_steps=3)
    kept = explain_dataset(bilstm.network_, some, baselines, tol=1e-3)
    change = np.abs(kept.output[:, None] - kept.baseline_output).max(1)
    assert (fixed.completeness_error > 2e-3 * change + 1e-4).any()
    assert (kept.completeness_error <= 1e-3 * change + 1e-4).all()
    assert kept.tol == 1e-3
    with pytest.raises(ValueError, match="expected one tol, got 0.01 and 0.001"):
        explain_dataset(bilstm.network_, some, baselines) + kept
