"""Many videos into a store: order, workers, resuming, and what becomes of broken files."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from fastexai import extraction
from fastexai.extraction import extract
from fastexai.store import LandmarkStore
from fastexai.video import LandmarkClip
from portrait import render_portrait


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    path = tmp_path_factory.mktemp("portrait") / "portrait.mp4"
    render_portrait(path, frames=6, size=(640, 360))
    return path


@pytest.fixture
def folder(tmp_path, portrait):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("b.mp4", "a.MP4"):
        shutil.copy(portrait, folder / name)
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Replace MediaPipe by a clip of one frame; the list says which videos were read."""
    read = []

    def fake(video, **_):
        read.append(video)
        if "broken" in video:
            raise ValueError(f"video: broken {video}")
        return LandmarkClip(
            landmarks=np.zeros((1, 468, 3), np.float32),
            timestamps=np.zeros(1),
            fps=30.0,
            image_size=(640, 360),
            source=video,
        )

    monkeypatch.setattr(extraction, "extract_landmarks", fake)
    monkeypatch.setattr(extraction, "face_model_path", lambda path: path)
    return read


def test_a_folder_becomes_a_store_and_workers_change_nothing(tmp_path, folder, caplog):
    (folder / "broken.mp4").write_bytes(b"no video")
    labels = {"a.MP4": "joy", "b.mp4": "anger"}
    stores = [
        extract(folder, tmp_path / f"{workers}", workers=workers, labels=labels)
        for workers in (1, 2)
    ]
    for store in stores:
        assert list(store.table["label"]) == ["joy", "anger"]
        assert list(store.table["source"]) == [str(folder / "a.MP4"), str(folder / "b.mp4")]
        assert [len(clip) for clip in store] == [6, 6]
        assert list(store.failures) == [str(folder / "broken.mp4")]
        assert "can be decoded" in store.failures[str(folder / "broken.mp4")]
    assert stores[0][0].landmarks.tobytes() == stores[1][0].landmarks.tobytes()
    assert caplog.text.count("skipped") == 2


def test_a_second_call_reads_only_what_is_new(tmp_path, folder, quick):
    out = tmp_path / "clips.parquet"
    extract(folder / "b.mp4", out)
    store = extract(folder, out, labels=["joy", "anger"])
    assert quick == [str(folder / "b.mp4"), str(folder / "a.MP4")]
    assert len(store) == len(extract(folder, out, workers=2)) == 2
    assert store.table["label"].isna().tolist() == [False, True]  # b's label stays as it was


def test_labels_and_subjects_follow_the_videos(tmp_path, quick):
    videos = ["x/2.mp4", "x/1.mp4"]
    store = extract(videos, tmp_path / "s", labels=["joy", None], subjects={"1.mp4": "ann"})
    by_name = {clip.source[-5:]: (clip.label, clip.subject) for clip in store}
    assert by_name == {"2.mp4": ("joy", None), "1.mp4": (None, "ann")}


def test_a_video_named_twice_is_read_once(tmp_path, quick):
    assert len(extract(["a.mp4", "a.mp4"], tmp_path / "s")) == 1
    assert len(quick) == 1


def test_a_broken_video_is_skipped_or_raised(tmp_path, quick):
    videos = ["a.mp4", "broken.mp4", "c.mp4"]
    assert len(extract(videos, tmp_path / "skip")) == 2
    with pytest.raises(ValueError, match=r"^video: broken .*broken\.mp4"):
        extract(videos, tmp_path / "raise", on_error="raise")
    assert len(LandmarkStore(tmp_path / "raise")) == 1


def test_when_all_fail_the_reasons_are_listed_and_no_folder_stays(tmp_path, quick):
    with pytest.raises(
        ValueError, match=r"^videos: all 2 failed:\n  .*broken1.*\n  .*broken2"
    ) as caught:
        extract(["broken1.mp4", "broken2.mp4"], tmp_path / "s")
    assert "video: broken" in str(caught.value)
    assert not (tmp_path / "s").exists()
    (tmp_path / "s").mkdir()
    with pytest.raises(ValueError, match="all 1 failed"):
        extract(["broken1.mp4"], tmp_path / "s")
    assert (tmp_path / "s").is_dir()


def test_ctrl_c_leaves_whole_parts(tmp_path, quick, monkeypatch):
    fake = extraction.extract_landmarks

    def stop_at_c(video, **options):
        if "c.mp4" in video:
            raise KeyboardInterrupt
        return fake(video, **options)

    monkeypatch.setattr(extraction, "extract_landmarks", stop_at_c)
    with pytest.raises(KeyboardInterrupt):
        extract(["a.mp4", "c.mp4", "d.mp4"], tmp_path / "s")
    assert [clip.source[-5:] for clip in LandmarkStore(tmp_path / "s")] == ["a.mp4"]
    assert len(list((tmp_path / "s").iterdir())) == 1
    with pytest.raises(KeyboardInterrupt):
        extract(["c.mp4"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_killed_worker_is_told_apart_from_a_broken_video(monkeypatch):
    def killed():
        raise extraction.BrokenProcessPool("died")

    with pytest.raises(RuntimeError, match=r"^videos: a worker process was killed"):
        extraction._outcome(killed)


def test_a_bar_is_shown_on_a_terminal_only(tmp_path, quick, monkeypatch, capsys):
    extract(["a.mp4"], tmp_path / "s")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    extract(["b.mp4"], tmp_path / "s")
    assert "Extracting landmarks" in capsys.readouterr().err
    extract(["c.mp4"], tmp_path / "s", progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers: expected 1 or more, got 0"),
        ({"on_error": "ignore"}, "on_error: expected 'skip' or 'raise', got 'ignore'"),
        ({"labels": ["joy"]}, "labels: expected 2, one per video, got 1"),
        ({"subjects": "ab"}, "subjects: expected 2, one per video, got 'ab'"),
        ({"labels": {"c.mp4": "joy"}}, r"labels: expected names of the videos, got \['c.mp4'\]"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path, quick, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        extract(["a.mp4", "b.mp4"], tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_nothing_to_extract_is_an_error(tmp_path, quick):
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", []):
        with pytest.raises(ValueError, match=r"^videos: expected one video or more, got none in"):
            extract(nothing, tmp_path / "s")
    with pytest.raises(
        FileNotFoundError, match=r"^videos: expected a video or a folder, got .*none"
    ):
        extract(tmp_path / "none", tmp_path / "s")
