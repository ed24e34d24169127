"""The overlaid video, on a real face: what changes, what does not, and what is refused."""

from __future__ import annotations

import logging
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastexai import mesh
from fastexai.explanation import DatasetExplanation, explain_dataset
from fastexai.landmarks import ClipSet
from fastexai.overlay import overlay
from fastexai.overlay.paint import levels, paint, strongest
from fastexai.overlay.sound import keep_sound
from fastexai.overlay.strip import Strip
from fastexai.training import EmotionClassifier
from fastexai.video import extract_landmarks, frames
from portrait import render_portrait

SIZE = (480, 360)
BLANK = (0, 1, 13, 23)
# mp4v is lossy: frames that are equal before encoding differ by this much on average, in levels.
CODEC = 4.0


def simple_clips(frames=6, n=12):
    rng = np.random.default_rng(0)
    face = mesh.CANONICAL_FACE * np.float32([1 / 9, -1 / 9, -1 / 9])
    X = (face + 0.02 * rng.normal(size=(n, frames, 468, 3))).astype(np.float32)
    names = np.array([f"{i}" for i in range(n)])
    return ClipSet(X, np.array(["joy", "neutral"] * (n // 2)), names, names)


def relevance_of(explanation, weight):
    """As if every landmark's coordinates had these attributions, at every instant."""
    X = np.ones((2, 6, len(weight), 3), np.float32)
    return DatasetExplanation.from_attributions(
        X,
        X * weight[:, None],
        X,
        emotion=explanation.emotion,
        output=[1, 1],
        baseline_output=[0, 0],
        completeness_error=[0, 0],
        n_steps=1,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "joy.pt"
    EmotionClassifier("joy", "randomized_bilstm", hidden=4).fit(simple_clips()).export(path)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "smile.mp4"
    render_portrait(path, frames=24, size=SIZE, blank=BLANK, pan=False, zoom=False, roll=False)
    return path


@pytest.fixture(scope="module")
def drawn(model, video, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "out.mp4"
    done = []
    assert overlay(video, model, out, progress=lambda *counts: done.append(counts)) == out
    assert [p.name for p in out.parent.iterdir()] == ["out.mp4"]
    return list(frames(video)), list(frames(out)), extract_landmarks(video), done


def difference(a, b):
    return np.abs(a.astype(int) - b.astype(int)).mean()


def test_every_frame_is_there_at_its_time(drawn):
    before, after, _, done = drawn
    assert len(after) == len(before) == 24
    np.testing.assert_allclose([t for t, _ in after], [t for t, _ in before], atol=1e-3)
    assert done[-1] == (48, 48)
    assert all(a[0] < b[0] for a, b in pairwise(done))


def test_the_strip_lies_beneath_the_picture(drawn):
    _, after, _, _ = drawn
    height, width, _ = after[0][1].shape
    assert width == SIZE[0]
    assert height == SIZE[1] + 60
    assert height % 2 == 0
    # The mark moves to the right, through equal steps.
    marks = [frame[SIZE[1] + 4, 133:].sum(axis=-1).argmax() for _, frame in after]
    assert marks[0] < 5
    assert marks[-1] > SIZE[0] - 133 - 12
    assert (np.diff(marks) > 0).all()


def test_frames_without_a_face_stay_untouched(drawn):
    before, after, clip, _ = drawn
    missing = np.isnan(clip.landmarks).all(axis=(1, 2))
    assert set(BLANK) <= set(np.flatnonzero(missing).tolist())
    for index in np.flatnonzero(missing):
        assert difference(before[index][1], after[index][1][: SIZE[1]]) < CODEC


def test_only_the_face_is_coloured(drawn):
    before, after, clip, _ = drawn
    index = 10
    inside = np.zeros(SIZE[::-1], np.uint8)
    hull = cv2.convexHull(clip.landmarks[index, :, :2].astype(np.int32))
    cv2.fillConvexPoly(inside, hull, 1)
    near = cv2.dilate(inside, np.ones((9, 9), np.uint8)).astype(bool)
    old, new = before[index][1], after[index][1][: SIZE[1]]
    assert difference(old[inside.astype(bool)], new[inside.astype(bool)]) > 5 * CODEC
    assert difference(old[~near], new[~near]) < CODEC


def test_an_explanation_gives_its_own_colours(model, video, tmp_path):
    explanation = explain_dataset(model, simple_clips(), n_steps=2)
    weight = np.zeros(468)
    weight[mesh.region_landmarks("chin")] = 1
    chin = relevance_of(explanation, weight)
    out = overlay(video, model, tmp_path / "out.mp4", explanation=chin)
    frame, before = (list(frames(path))[10][1][: SIZE[1]] for path in (out, video))
    points = extract_landmarks(video).landmarks[10]
    x, y, _ = points[mesh.TRIANGLES].mean(1).astype(int).T  # off the dots, which lie on landmarks
    on_chin = (weight[mesh.TRIANGLES] > 0).mean(1)
    # Viridis begins in violet and ends in yellow, which is what violet lacks.
    yellow = (frame.astype(int) - before)[y, x] @ np.array([0.5, 0.5, -1.0])
    assert np.median(yellow[on_chin == 1]) > 50
    assert np.median(yellow[on_chin == 0]) < 0


@settings(deadline=None, max_examples=40)
@given(
    width=st.integers(1, 500),
    height=st.integers(1, 500),
    shift=st.tuples(st.floats(-600, 600), st.floats(-600, 600)),
    scale=st.floats(0.01, 60),
)
def test_a_face_may_lie_anywhere(width, height, shift, scale):
    """Partly or wholly outside the picture, tiny or far larger: pixels far from it stay."""
    frame = np.full((height, width, 3), 100, np.uint8)
    landmarks = (mesh.CANONICAL_FACE * [scale, -scale, -scale] + [*shift, 0]).astype(np.float32)
    paint(frame, landmarks, np.linspace(0, 1, 468))
    low, high = landmarks[:, :2].min(0) - 4, landmarks[:, :2].max(0) + 5
    ys, xs = np.mgrid[:height, :width]
    away = (xs < low[0]) | (xs > high[0]) | (ys < low[1]) | (ys > high[1])
    assert (frame[away] == 100).all()


@settings(deadline=None, max_examples=25)
@given(
    size=st.tuples(st.integers(8, 900), st.integers(8, 900)),
    emotion=st.text(max_size=30),
    frames=st.integers(1, 9),
)
def test_strips_of_any_size_make_the_height_even(size, emotion, frames):
    probability = np.linspace(0, 1, frames)
    probability[frames // 2] = np.nan
    strip = Strip(size, emotion, np.arange(frames) / 7, probability)
    for index in range(frames):
        image = strip.at(index)
        assert image.shape[1:] == (size[0], 3)
        assert (size[1] + image.shape[0]) % 2 == 0


def test_wrong_arguments_are_named_before_the_work_begins(model, video, tmp_path):
    explanation = explain_dataset(model, simple_clips(), n_steps=1)
    for changes, error, message in (
        ({"out": tmp_path / "out.avi"}, ValueError, r"out: expected a name that ends in \.mp4"),
        ({"out": video}, ValueError, "out: expected another file than the video"),
        ({"model": tmp_path / "none.pt"}, FileNotFoundError, "model: expected a TorchScript file"),
        ({"model": video}, ValueError, "model: expected a file written by export"),
        ({"video": tmp_path / "none.mp4"}, FileNotFoundError, "video: expected a video file"),
        (
            {"explanation": replace(explanation, emotion="anger")},
            ValueError,
            "explanation: expected 'joy', which the model recognises, got 'anger'",
        ),
        (
            {"explanation": relevance_of(explanation, np.zeros(10))},
            ValueError,
            "explanation: expected 468 landmarks, got 10",
        ),
    ):
        arguments = {"video": video, "model": model, "out": tmp_path / "out.mp4"} | changes
        with pytest.raises(error, match=message):
            overlay(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_other_landmarks_is_refused(video, tmp_path):
    X = np.random.default_rng(0).normal(size=(8, 4, 478, 3)).astype(np.float32)
    clf = EmotionClassifier("joy", "randomized_bilstm", hidden=2).fit(X, [0, 1] * 4)
    clf.export(tmp_path / "joy.pt")
    with pytest.raises(ValueError, match="model: expected one of 468 landmarks, got 478"):
        overlay(video, tmp_path / "joy.pt", tmp_path / "out.mp4")


def test_a_failure_halfway_leaves_nothing(model, video, tmp_path):
    def stop(done, total):
        if done > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        overlay(video, model, tmp_path / "out.mp4", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_a_face_is_refused(model, tmp_path):
    render_portrait(tmp_path / "grey.mp4", frames=3, size=SIZE, blank=range(3))
    with pytest.raises(ValueError, match="video: no face was found"):
        overlay(tmp_path / "grey.mp4", model, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")


def ffmpeg(*words):
    """Run ffmpeg; return what it wrote to standard output."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def sound_of(path):
    """Return a fingerprint of each packet of the sound, as it is stored."""
    lines = ffmpeg("-i", path, "-map", "0:a:0", "-c", "copy", "-f", "framemd5", "-").splitlines()
    return [line.split(b",")[-1] for line in lines if not line.startswith(b"#")]


@pytest.fixture(scope="module")
def loud(video, tmp_path_factory):
    """The video with a tone, as AAC in a name that an option could be mistaken for."""
    path = tmp_path_factory.mktemp("loud") / "-i loud's.mp4"
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:duration=0.8")
    ffmpeg("-i", video, *tone, "-c:v", "copy", "-c:a", "aac", f"file:{path}")
    return path


@pytest.fixture
def drawn_copy(video, tmp_path):
    return shutil.copy(video, tmp_path / "drawn.mp4")


@needs_ffmpeg
def test_sound_is_copied_as_it_is(model, loud, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        out = overlay(loud, model, tmp_path / "out.mp4")
    assert sound_of(out) == sound_of(loud)
    assert len(sound_of(out)) > 10
    assert len(list(frames(out))) == 24
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    assert caplog.messages == []


@needs_ffmpeg
def test_sound_that_mp4_cannot_hold_is_encoded(video, drawn_copy, tmp_path):
    other = tmp_path / "other.avi"
    tone = ("-f", "lavfi", "-i", "sine=duration=0.8")
    ffmpeg("-i", video, *tone, "-c:v", "copy", "-c:a", "wmav2", other)
    assert keep_sound(other, drawn_copy) is None
    assert len(sound_of(drawn_copy)) > 10


@needs_ffmpeg
def test_a_silent_video_stays_as_it_is(video, drawn_copy):
    before = drawn_copy.read_bytes()
    assert keep_sound(video, drawn_copy) is None
    assert drawn_copy.read_bytes() == before


def test_lost_sound_is_said(model, video, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with caplog.at_level(logging.WARNING):
        overlay(video, model, tmp_path / "out.mp4")
    (message,) = caplog.messages
    assert "the sound, if there is any, is lost: ffmpeg was not found" in message


@needs_ffmpeg
def test_sound_that_ffmpeg_cannot_copy_is_said(loud, tmp_path):
    drawn = tmp_path / "drawn.mp4"
    drawn.write_bytes(b"no video")
    assert "the sound is lost: ffmpeg cannot copy it" in keep_sound(loud, drawn)
    assert drawn.read_bytes() == b"no video"
    assert [p.name for p in tmp_path.iterdir()] == ["drawn.mp4"]


@needs_ffmpeg
def test_a_variable_frame_rate_keeps_the_length(model, video, tmp_path):
    """The second half three times as slow: as many frames, and the last one at its old time."""
    slow = tmp_path / "slow.mkv"
    times = "setpts='if(lt(N,12),N,12+(N-12)*3)/30/TB'"
    ffmpeg("-i", video, "-vf", times, "-fps_mode", "vfr", "-c:v", "mpeg4", slow)
    before = [seconds for seconds, _ in frames(slow)]
    after = [seconds for seconds, _ in frames(overlay(slow, model, tmp_path / "out.mp4"))]
    assert len(after) == len(before) == 24
    assert before[-1] > 1.4  # was 0.8
    assert after[-1] == pytest.approx(before[-1], rel=0.02)


def test_the_ten_strongest_share_the_last_colour():
    relevance = np.arange(468.0)
    level = levels(relevance)
    assert (level == 1).sum() == 10
    np.testing.assert_allclose(level[:458], relevance[:458] / 458)
    assert strongest(np.stack([relevance, 2 * relevance])) == 2 * 458
    np.testing.assert_allclose(levels(relevance, 1000.0), relevance / 1000)
    assert (levels(np.zeros(468)) == 0).all()


def test_paint_is_the_slow_blend_of_colour_and_picture():
    """Of one flat level: every covered pixel is the level's colour at the level's opacity."""
    landmarks = (mesh.CANONICAL_FACE * [20, -20, -20] + [200, 200, 0]).astype(np.float32)
    frame = np.full((400, 400, 3), 90, np.uint8)
    paint(frame, landmarks, np.full(468, 0.5))
    viridis = np.array([33, 145, 140])  # its middle
    wanted = 90 + (0.35 + 0.45 * 0.5) * (viridis - 90.0)
    x, y, _ = landmarks[mesh.TRIANGLES].mean(1).astype(int).T
    assert np.median(np.abs(frame[y, x] - wanted).max(-1)) < 3
