"""Windows over a long video: where they lie, and that each is what the model was trained on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastexai import mesh
from fastexai.explanation import explain_dataset
from fastexai.landmarks import ClipSet
from fastexai.training import EmotionClassifier
from fastexai.video import LandmarkClip
from fastexai.windows import WindowSeries, slide, window_rows

FPS = 10.0


def clip_of(frames, blank=(), seed=0):
    rng = np.random.default_rng(seed)
    face = mesh.CANONICAL_FACE * [10, -10, -10] + [200, 200, 0]
    landmarks = (face + rng.normal(size=(frames, 468, 3)).cumsum(0)).astype(np.float32)
    landmarks[list(blank)] = np.nan
    return LandmarkClip(landmarks, np.arange(frames) / FPS, FPS, (400, 400), f"{seed}.mp4")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "joy.pt"
    clips = ClipSet.from_clips([clip_of(12, seed=i) for i in range(12)], frames=8)
    labels = np.array(["joy", "neutral"] * 6)
    clips = ClipSet(clips.X, labels, clips.subjects, clips.ids)
    clf = EmotionClassifier("joy", "randomized_bilstm", hidden=4).fit(clips)
    clf.export(path)
    return path, clf


@given(
    frames=st.integers(1, 80),
    seconds=st.floats(0.05, 10),
    stride=st.floats(0.05, 4),
)
def test_windows_cover_the_clip_and_are_as_long_as_asked(frames, seconds, stride):
    clip = clip_of(frames)
    rows = window_rows(clip, seconds=seconds, stride=stride)
    assert rows[0][0] == 0
    assert rows[-1][1] == frames
    assert all(b > a for a, b in rows)
    assert all(clip.timestamps[b - 1] - clip.timestamps[a] <= seconds + 2e-9 for a, b in rows)
    if stride <= seconds:
        starts, stops = np.array(rows).T
        assert (starts[1:] <= stops[:-1]).all()


def test_a_short_clip_is_one_window():
    assert window_rows(clip_of(15), seconds=2.0) == [(0, 15)]


def test_windows_without_enough_faces_are_left_out():
    rows = window_rows(clip_of(60, blank=range(21, 60)), seconds=2.0, stride=1.0)
    assert rows == [(0, 21), (10, 31)]
    assert window_rows(clip_of(20, blank=range(1, 20)), seconds=2.0) == [(0, 20)]


def test_one_window_is_what_the_classifier_says_of_the_clip(model):
    path, clf = model
    clip = clip_of(15, blank=(3, 4), seed=50)
    clips = ClipSet.from_clips([clip], frames=8)
    series = slide(path, clip, n_steps=8)
    assert series.emotion == "joy"
    np.testing.assert_allclose(series.logit, clf.decision_function(clips), rtol=1e-5, atol=1e-6)
    probability = series.probability_at(clip.timestamps)
    np.testing.assert_allclose(probability, clf.predict_proba(clips)[0, 1], rtol=1e-5)
    relevance = explain_dataset(path, clips, n_steps=8).relevance
    np.testing.assert_allclose(series.relevance, relevance[None], rtol=1e-3, atol=1e-7)


def test_windows_in_batches_equal_windows_alone(model, monkeypatch):
    path, _ = model
    clip = clip_of(45)
    done = []
    series = slide(path, clip, n_steps=2, progress=lambda *counts: done.append(counts))
    monkeypatch.setattr("fastexai.windows._BATCH_WINDOWS", 5)
    alone = slide(path, clip, n_steps=2)
    assert len(series.logit) == 6
    np.testing.assert_allclose(series.logit, alone.logit, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(series.relevance, alone.relevance, rtol=1e-3, atol=1e-6)
    assert done[-1] == (len(series.logit), len(series.logit))


def test_answers_are_interpolated_and_unknown_where_no_window_reaches():
    series = WindowSeries(
        "joy",
        start=np.array([0.0, 1.0]),
        stop=np.array([2.0, 3.0]),
        logit=np.array([0.0, np.log(3)]),
        relevance=np.array([[1.0, 0.0], [3.0, 2.0]]),
    )
    at = series.probability_at(np.array([0.0, 1.0, 1.5, 2.0, 3.0, 3.1]))
    np.testing.assert_allclose(at, [0.5, 0.5, 0.625, 0.75, 0.75, np.nan])
    np.testing.assert_allclose(series.relevance_at(1.5), [2, 1])
    np.testing.assert_allclose(series.relevance_at(-9), [1, 0])
    np.testing.assert_allclose(series.relevance_at(9), [3, 2])
    with pytest.raises(ValueError, match="relevance: expected windows slid with n_steps"):
        WindowSeries("joy", series.start, series.stop, series.logit, None).relevance_at(0)


@pytest.mark.parametrize("name", ["seconds", "stride"])
@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_wrong_lengths_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a positive number"):
        window_rows(clip_of(5), **{name: value})


def test_a_clip_without_a_face_is_refused():
    with pytest.raises(ValueError, match="clip: expected a face in some frame, got none"):
        window_rows(clip_of(5, blank=range(5)))


def test_a_model_of_other_landmarks_is_refused(tmp_path):
    X = np.random.default_rng(0).normal(size=(8, 4, 478, 3)).astype(np.float32)
    clf = EmotionClassifier("joy", "randomized_bilstm", hidden=2).fit(X, [0, 1] * 4)
    clf.export(tmp_path / "joy.pt")
    with pytest.raises(ValueError, match="model: expected one of 468 landmarks, got 478"):
        slide(tmp_path / "joy.pt", clip_of(5))
