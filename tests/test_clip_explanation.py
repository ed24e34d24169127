"""Each clip by itself: what decided it and when, in numbers and in names."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastexai as fx
from fastexai import mesh
from fastexai.clip_explanation import ClipExplainer, ClipExplanation, clip_table

FPS = 10.0


def clip_of(frames, blank=(), seed=0, start=0.0):
    rng = np.random.default_rng(seed)
    face = mesh.CANONICAL_FACE * [10, -10, -10] + [200, 200, 0]
    landmarks = (face + rng.normal(size=(frames, 468, 3)).cumsum(0)).astype(np.float32)
    landmarks[list(blank)] = np.nan
    times = start + np.arange(frames) / FPS
    return fx.LandmarkClip(landmarks, times, FPS, (400, 400), f"{seed}.mp4")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "joy.pt"
    clips = fx.ClipSet.from_clips([clip_of(12, seed=i) for i in range(12)], frames=8)
    clips = replace(clips, labels=np.array(["joy", "neutral"] * 6))
    fx.EmotionClassifier("joy", "randomized_bilstm", hidden=4).fit(clips).export(path)
    return path


def test_one_clip_is_a_data_set_of_one(model):
    clip = clip_of(15, blank=(3, 4), seed=50)
    (one,) = fx.explain_clips(model, [clip], tol=1e-3)
    clips = fx.ClipSet.from_clips([clip], frames=8)
    whole = fx.explain_dataset(model, clips, tol=1e-3)
    assert one.emotion == "joy"
    assert one.source == "50.mp4"
    assert one.logit == pytest.approx(whole.output[0], rel=1e-5)
    assert one.probability == pytest.approx(1 / (1 + np.exp(-whole.output[0])))
    np.testing.assert_allclose(one.relevance, whole.relevance, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(one.activity, np.abs(whole.mean).sum((1, 2)), rtol=1e-4)
    assert one.change == pytest.approx(whole.output[0] - whole.baseline_output.mean(), rel=1e-4)
    assert one.completeness_error < 2e-3 * abs(one.change)
    assert sum(one.regions.values()) == pytest.approx(1)
    assert [i for i, _ in one.landmarks(7)] == whole.ranking[:7].tolist()


def test_time_is_that_of_the_video(model):
    (one,) = fx.explain_clips(model, [clip_of(21, start=5.0)])
    np.testing.assert_allclose(one.seconds, np.linspace(5, 7, 8))


def explanation(activity, seconds):
    ones = np.ones(468)
    return ClipExplanation("a.mp4", "joy", 0.0, ones, seconds, np.array(activity), 0.1, 1.0)


@pytest.mark.parametrize(
    ("activity", "decided"),
    [
        ([0, 0, 8, 1, 0], (1.5, 2.5)),
        ([9, 0, 0, 0, 1], (0, 0.5)),
        ([1, 1, 1, 1, 5], (3.5, 4.0)),
        ([1, 1, 1, 4, 4], (2.5, 4.0)),
        ([0, 0, 0, 0, 0], (0, 0.5)),
    ],
)
def test_decided_is_the_shortest_time_with_half_of_the_activity(activity, decided):
    assert explanation(activity, np.arange(5.0)).decided == decided


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_no_shorter_run_has_half(activity):
    """The slow way: try them all."""
    seconds = np.arange(float(len(activity)))
    begin, end = explanation(activity, seconds).decided
    total = sum(activity)
    runs = [
        (last - first, (max(first - 0.5, 0), min(last + 0.5, seconds[-1])))
        for first in range(len(activity))
        for last in range(first, len(activity))
        if sum(activity[first : last + 1]) >= 0.5 * total * (1 - 1e-9)
    ]
    shortest = min(length for length, _ in runs)
    assert (begin, end) in [span for length, span in runs if length == shortest]


def test_a_clip_of_one_frame_is_decided_then(model):
    (one,) = fx.explain_clips(model, [clip_of(1, start=3.0)])
    assert one.decided == (3.0, 3.0)


def test_clips_in_batches_equal_clips_alone(model, monkeypatch):
    clips = [clip_of(12 + i, seed=i) for i in range(5)]
    explainer = ClipExplainer(model, n_steps=4)
    together = fx.explain_clips(explainer, clips)
    monkeypatch.setattr("fastexai.clip_explanation._BATCH_CLIPS", 2)
    done = []
    apart = fx.explain_clips(explainer, clips, progress=lambda *counts: done.append(counts))
    assert done == [(2, 5), (4, 5), (5, 5)]
    assert [one.source for one in apart] == [clip.source for clip in clips]
    for one, other in zip(together, apart, strict=True):
        assert one.logit == pytest.approx(other.logit, rel=1e-4, abs=1e-5)
        np.testing.assert_allclose(one.relevance, other.relevance, rtol=1e-3, atol=1e-6)


def test_clips_without_a_face_are_left_out_and_named(model, caplog):
    faceless = clip_of(5, blank=range(5), seed=7)
    with caplog.at_level(logging.WARNING):
        (one,) = fx.explain_clips(model, [faceless, clip_of(5)])
    assert one.source == "0.mp4"
    assert caplog.messages == ["7.mp4: left out, as no frame has a face"]
    with pytest.raises(ValueError, match="clips: expected one with a face, got 1 without"):
        fx.explain_clips(model, [faceless])


def test_tables_and_json_say_the_same(model):
    explained = fx.explain_clips(model, [clip_of(9, seed=i) for i in range(2)])
    table = clip_table(explained, top=3)
    assert len(table) == 2
    np.testing.assert_allclose(table[list(mesh.REGIONS)].sum(axis=1), 1)
    for row, one in zip(table.to_dict("records"), explained, strict=True):
        about = json.loads(json.dumps(one.describe(top=3)))
        assert row["probability"] == about["probability"]
        assert (row["from_seconds"], row["to_seconds"]) == (
            about["decided"]["from_seconds"],
            about["decided"]["to_seconds"],
        )
        assert row["landmarks"].split("; ") == [mark["name"] for mark in about["landmarks"]]
        assert {r["region"]: r["share"] for r in about["regions"]} == {
            region: row[region] for region in mesh.REGIONS
        }


def test_wrong_models_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="model: expected a TorchScript file"):
        fx.explain_clips(tmp_path / "none.pt", [clip_of(5)])
    X = np.random.default_rng(0).normal(size=(8, 4, 478, 3)).astype(np.float32)
    clf = fx.EmotionClassifier("joy", "randomized_bilstm", hidden=2).fit(X, [0, 1] * 4)
    clf.export(tmp_path / "joy.pt")
    with pytest.raises(ValueError, match="model: expected one of 468 landmarks, got 478"):
        fx.explain_clips(tmp_path / "joy.pt", [clip_of(5)])
