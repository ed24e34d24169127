"""Many videos into a store: order, workers, resuming, and what becomes of broken files."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pandas as pd
import pytest

from fastexai import extraction, workers
from fastexai.extraction import extract
from fastexai.sources import sequence_name
from fastexai.store import LandmarkStore
from fastexai.video import LandmarkClip, extract_landmarks
from portrait import crowd_frame, render_portrait


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

    def fake(video, _detector, **_):
        read.append(video)
        if "broken" in str(video):
            raise ValueError(f"video: broken {video}")
        source = sequence_name(video) if isinstance(video, tuple) else str(Path(video).absolute())
        clip = LandmarkClip(
            landmarks=np.zeros((1, 468, 3), np.float32),
            timestamps=np.zeros(1),
            fps=30.0,
            image_size=(640, 360),
            source=source,
        )
        return [clip, replace(clip, source=f"{source}#face1")] if "two" in source else [clip]

    monkeypatch.setattr(workers, "clips_of", fake)
    monkeypatch.setattr(workers, "FaceDetector", mock.MagicMock())
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
        ValueError, match=r"^sources: all 2 failed:\n  .*broken1.*\n  .*broken2"
    ) as caught:
        extract(["broken1.mp4", "broken2.mp4"], tmp_path / "s")
    assert "video: broken" in str(caught.value)
    assert not (tmp_path / "s").exists()
    (tmp_path / "s").mkdir()
    with pytest.raises(ValueError, match="all 1 failed"):
        extract(["broken1.mp4"], tmp_path / "s")
    assert (tmp_path / "s").is_dir()


def test_ctrl_c_leaves_whole_parts(tmp_path, quick, monkeypatch):
    fake = workers.clips_of

    def stop_at_c(video, detector, **options):
        if "c.mp4" in video:
            raise KeyboardInterrupt
        return fake(video, detector, **options)

    monkeypatch.setattr(workers, "clips_of", stop_at_c)
    with pytest.raises(KeyboardInterrupt):
        extract(["a.mp4", "c.mp4", "d.mp4"], tmp_path / "s")
    assert [clip.source[-5:] for clip in LandmarkStore(tmp_path / "s")] == ["a.mp4"]
    assert len(list((tmp_path / "s").iterdir())) == 1
    with pytest.raises(KeyboardInterrupt):
        extract(["c.mp4"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_video_that_kills_its_process_fails_alone(tmp_path, quick, monkeypatch):
    """Stand-in processes die at c.mp4, after the first video; the others are read again."""
    pools = []

    def dying(jobs, shares, options, meter, count):
        meter.started.value += count
        pools.append([Path(job.source).name for job in jobs])
        worker = workers._Worker(options, meter)
        for job in jobs:
            if "c.mp4" in job.source:
                return
            yield job, worker(job, shares[job.source])

    monkeypatch.setattr(workers, "_pool", dying)
    names = ["a.mp4", *(f"{letter}.mp4" for letter in "cdefgh")]
    store = extract(names, tmp_path / "s", workers=2)
    assert len(store) == 6
    ((source, reason),) = store.failures.items()
    assert source.endswith("c.mp4")
    assert "which ended the process that read it" in reason
    alone = [[name] for name in names[1:6]]
    assert pools == [names, *alone, ["h.mp4"]]


def test_processes_that_cannot_start_are_no_fault_of_the_videos(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(workers, "_pool", lambda *_: iter([])) or None
    monkeypatch.setattr(workers, "_pool", lambda *_: (outcome for outcome in ()))
    with pytest.raises(
        ChildProcessError, match=r"^workers: no process could start; in a script, call"
    ):
        extract(["a.mp4", "b.mp4"], tmp_path / "s", workers=2)
    assert not (tmp_path / "s").exists()


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
        ({"faces": "one"}, "faces: expected 'largest' or 'all', got 'one'"),
        ({"extras": ["hair"]}, "extras: expected some of .*, got .'hair'."),
        ({"labels": {"c.mp4": "joy"}}, r"labels: expected names of the videos, got \['c.mp4'\]"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path, quick, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        extract(["a.mp4", "b.mp4"], tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_nothing_to_extract_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"^sources: all 1 failed:\n.*a folder of images, got none"
    ):
        extract(tmp_path / "empty", tmp_path / "s")
    for nothing in (pd.DataFrame({"path": []}), []):
        with pytest.raises(ValueError, match=r"^sources: expected one .* or more, got "):
            extract(nothing, tmp_path / "s")
    with pytest.raises(
        FileNotFoundError, match=r"^sources: expected a video or a folder, got .*none"
    ):
        extract(tmp_path / "none", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_table_brings_labels_and_subjects(tmp_path, quick):
    """As the loaders return them; the column frames may be a number or hold the images."""
    table = pd.DataFrame(
        {
            "path": ["a.mp4", Path("b.mp4"), "x/*.png", "c.mp4"],
            "label": ["joy", "", None, np.nan],
            "subject": ["s1", 7, np.int64(8), pd.NA],
            "frames": [3, ("x/1.png", "x/3.png"), 2, None],
            "sequence": ["1", "2", "3", "4"],
        }
    )
    store = extract(table, tmp_path / "s")
    assert quick == ["a.mp4", ("x/1.png", "x/3.png"), "x/*.png", "c.mp4"]
    found = {Path(clip.source).name: (clip.label, clip.subject) for clip in store}
    assert found == {
        "a.mp4": ("joy", "s1"),
        "1.png..3.png": (None, "7"),
        "*.png": (None, "8"),
        "c.mp4": (None, None),
    }
    extract(table, tmp_path / "s")
    assert len(quick) == 4


@pytest.mark.parametrize(
    ("table", "options", "error", "message"),
    [
        ({"video": ["a"]}, {}, ValueError, r"sources: expected a column 'path', got \['video'\]"),
        ({"path": ["a"]}, {"labels": ["joy"]}, ValueError, "labels, subjects: expected None"),
        ({"path": ["a"], "label": [1.5]}, {}, TypeError, r"labels: expected text, got 1\.5"),
        ({"path": [None]}, {}, TypeError, "sources: expected paths, .* NoneType at position 0"),
        (
            {"path": ["a", "a"], "label": ["joy", "anger"]},
            {},
            ValueError,
            r"sources: expected .*a once, got it as .*'joy', None\) and \('anger', None\)",
        ),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path, quick, table, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        extract(pd.DataFrame(table), tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_what_is_no_source_is_named(tmp_path, quick):
    for bad in ([np.zeros((4, 4, 3), np.uint8)], [iter(())], [("a.png", 3)]):
        with pytest.raises(TypeError, match=r"^sources: expected paths, .* at position 0"):
            extract(bad, tmp_path / "s")


def test_one_label_is_for_all(tmp_path, quick):
    store = extract(["a.mp4", "b.mp4"], tmp_path / "s", labels="joy", subjects="s1")
    assert [(clip.label, clip.subject) for clip in store] == [("joy", "s1")] * 2


def test_folders_in_a_list_are_opened(tmp_path, quick):
    for name in ("videos/b.mp4", "videos/a.mp4", "videos/._a.mp4", "images/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    extract([tmp_path / "videos", tmp_path / "images", "c.mp4"], tmp_path / "s")
    assert [Path(video).name for video in quick] == ["a.mp4", "b.mp4", "images", "c.mp4"]


def test_all_faces_of_a_video_are_kept_or_found_again(tmp_path, quick, monkeypatch):
    """Killed between two faces of one video, the next call writes the one that is missing."""
    append = LandmarkStore.append
    with monkeypatch.context() as stopping:
        stopping.setattr(
            LandmarkStore,
            "append",
            lambda self, clip: append(self, clip) if "#" in clip.source else 1 / 0,
        )
        with pytest.raises(ZeroDivisionError):
            extract(["two.mp4"], tmp_path / "s", faces="all")
    assert len(LandmarkStore(tmp_path / "s")) == 1
    store = extract(["two.mp4"], tmp_path / "s", faces="all", labels="joy")
    assert {Path(clip.source).name for clip in store} == {"two.mp4", "two.mp4#face1"}
    extract(["two.mp4"], tmp_path / "s", faces="all")
    assert len(quick) == 2


def test_an_unforeseen_exception_is_one_line_with_the_source(tmp_path, quick, monkeypatch):
    def fail(*_, **__):
        raise cv2.error("(-215)\n  two lines")

    monkeypatch.setattr(workers, "clips_of", fail)
    with pytest.raises(ValueError, match=r"^/.*a\.mp4: error: \(-215\) two lines$"):
        extract(["a.mp4"], tmp_path / "s", on_error="raise")


def test_two_faces_of_a_folder_of_images_with_extras(tmp_path):
    (tmp_path / "images").mkdir()
    for index in range(3):
        image = crowd_frame([(180, 220), (470, 180)])
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), image[..., ::-1])
    store = extract(tmp_path / "images", tmp_path / "s", faces="all", extras=["iris"], fps=10.0)
    assert store.table["frames"].tolist() == [3, 3]
    assert all(clip.iris.shape == (3, 10, 3) for clip in store)
    assert store[0].timestamps.tolist() == pytest.approx([0, 0.1, 0.2])


def test_one_detector_serves_all_videos_as_new_ones_would(tmp_path, folder):
    render_portrait(folder / "c.mp4", frames=5, size=(320, 241))
    for clip in extract(folder, tmp_path / "s"):
        assert clip.landmarks.tobytes() == extract_landmarks(clip.source).landmarks.tobytes()


CLI = "from fastexai.cli import main; main()"


def parts(store):
    return {part.name: part.read_bytes() for part in store.iterdir() if part.name[0] != "."}


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_a_killed_extraction_continues_to_the_same_result(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    render_portrait(folder / "0.mp4", frames=20, size=(640, 360))
    for number in range(1, 6):
        shutil.copy(folder / "0.mp4", folder / f"{number}.mp4")
    out = tmp_path / "killed"
    command = [sys.executable, "-c", CLI, "extract", folder, "-o", out, "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (out.exists() and parts(out)):
        assert process.poll() is None
        time.sleep(0.002)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = parts(out)
    assert 0 < len(done) < 6
    store = extract(folder, out)
    assert len(store) == 6
    assert not store.failures
    extract(folder, tmp_path / "whole")
    assert parts(out) == parts(tmp_path / "whole")
    assert done.items() <= parts(out).items()
    assert children
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children):  # its workers end too
        assert time.monotonic() < deadline
        time.sleep(0.05)
