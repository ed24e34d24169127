import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import fastexai as fx
from fastexai import cli
from portrait import crowd_frame, render_portrait


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object):
    """Run the command line in this process; return the exit code and both outputs."""
    monkeypatch.setattr(sys, "argv", ["fastexai", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def fastexai(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: run(capsys, monkeypatch, *words)


@pytest.fixture(scope="module")
def portrait(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("portrait") / "portrait.mp4"
    render_portrait(path, frames=40)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "happiness.pt"
    clips = fx.datasets.simulate_expressions(n=80, seed=0, difficulty=0.2)
    fx.EmotionClassifier("happiness", "randomized_bilstm").fit(clips).export(path)
    return path


def test_extract_finds_the_face_in_every_frame(fastexai, portrait, tmp_path):
    code, out, _ = fastexai("extract", portrait, "-o", tmp_path / "clips.parquet")
    assert code == 0
    assert "1 clips, 40 frames, 100.0% with a face" in out
    assert fx.LandmarkStore(tmp_path / "clips.parquet").table["detection_share"].tolist() == [1.0]


def test_extract_lists_what_failed_and_goes_on(fastexai, portrait, tmp_path):
    """A second call tries again what failed; the exit code says whether everything is there."""
    broken, missing = tmp_path / "broken.mp4", tmp_path / "missing.mp4"
    broken.write_bytes(b"no video")
    words = ("extract", portrait, broken, missing, "-o", tmp_path / "s", "--max-seconds", 0.2)
    code, out, err = fastexai(*words, "--label", "joy")
    assert code == 1
    assert "1 clips, 6 frames, 100.0% with a face" in out
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert [line.split(":")[1].strip() for line in failed] == [str(broken), str(missing)]
    assert fx.LandmarkStore(tmp_path / "s").table["label"].tolist() == ["joy"]
    code, _, err = fastexai(*words[:-2], "--on-error", "raise")
    assert code == 2
    assert err.startswith(f"error: video: expected a video that can be decoded, got {broken}")
    assert len(err.splitlines()) == 1


def test_extract_takes_images_all_faces_and_extras(fastexai, tmp_path, monkeypatch):
    (tmp_path / "12").mkdir()  # digits, but a folder and no camera
    for number in range(3):
        image = crowd_frame([(180, 220), (470, 180)])
        cv2.imwrite(str(tmp_path / "12" / f"{number}.png"), image[..., ::-1])
    monkeypatch.chdir(tmp_path)
    options = ("--faces", "all", "--extra", "iris", "--extra", "head_pose", "--fps", 10)
    code, out, _ = fastexai("extract", "12", "-o", "s", *options)
    assert code == 0
    assert "2 clips, 6 frames" in out
    (clip, _) = fx.LandmarkStore("s")
    assert (clip.fps, clip.iris.shape, clip.head_pose.shape) == (10.0, (3, 10, 3), (3, 4, 4))
    assert clip.blendshapes is None


def test_explain_names_landmarks_and_writes_json(fastexai, portrait, model, tmp_path):
    words = ("explain", portrait, "--model", model, "-o", tmp_path / "explained.json")
    code, out, _ = fastexai(*words, "--tol", 0.1)
    assert code == 0
    described = json.loads((tmp_path / "explained.json").read_text())
    assert described["clips"][0]["clip"] == portrait.name
    assert 0 <= described["clips"][0]["happiness"] <= 1
    assert sum(row["relevance"] for row in described["regions"]) == pytest.approx(1)
    assert described["landmarks"][0]["name"] in out


def test_overlay_keeps_every_frame(fastexai, portrait, model, tmp_path):
    code, _, _ = fastexai("overlay", portrait, "--model", model, "-o", tmp_path / "out.mp4")
    assert code == 0
    video = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    frames = iter(lambda: video.read()[0], False)
    assert sum(1 for _ in frames) == 40


def test_train_prune_and_report_from_a_store(fastexai, tmp_path):
    raw = fx.datasets.simulate_landmarks(60, emotions=("happiness",), seed=1, difficulty=0.2)
    store = fx.LandmarkStore.create(tmp_path / "clips.parquet")
    for number, clip in enumerate(raw.clips):
        store.append(clip, id=f"clip-{number:03}")
    model, table = tmp_path / "happiness.pt", tmp_path / "path.csv"
    common = (tmp_path / "clips.parquet", "-e", "happiness")
    code, out, _ = fastexai("train", *common, "-o", model, "--cv", 3)
    assert code == 0
    assert "balanced accuracy" in out
    code, _, _ = fastexai("prune", *common, "-o", table, "--sizes", "468,16", "--folds", 3)
    assert code == 0
    assert pd.read_csv(table)["landmarks"].tolist() == [468, 16]
    page = tmp_path / "report.html"
    code, _, _ = fastexai("report", tmp_path / "clips.parquet", "-m", model, "-o", page)
    assert code == 0
    assert "Happiness" in page.read_text()


def test_demo_writes_models_table_and_report(fastexai, tmp_path):
    code, out, _ = fastexai("demo", "-o", tmp_path / "demo", "--n", 60, "-e", "happiness")
    assert code == 0
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert written == {"happiness.pt", "pruning.csv", "report.html"}
    assert "relevance vs truth auc" in out


def no_face(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (320, 240))
    for _ in range(5):
        writer.write(np.full((240, 320, 3), 90, np.uint8))
    writer.release()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing file", "nowhere.mp4"),
        ("no video", "text.mp4"),
        ("no face", "no face"),
        ("empty folder", "expected a folder of images, got none"),
        ("camera", "max_seconds: expected a number for a camera"),
        ("on error", "on_error: expected 'skip' or 'raise', got 'stop'"),
        ("faces", "faces: expected 'largest' or 'all', got 'two'"),
        ("extra", "extras: expected some of"),
        ("no model", "model: expected a file written by export()"),
        ("sizes", "sizes: expected whole numbers"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(fastexai, portrait, tmp_path, case, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "text.pt").write_text("no model")
    no_face(tmp_path / "grey.mp4")
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "out"
    words: dict[str, tuple[object, ...]] = {
        "missing file": ("extract", tmp_path / "nowhere.mp4", "-o", out),
        "no video": ("extract", tmp_path / "text.mp4", "-o", out),
        "no face": ("extract", tmp_path / "grey.mp4", "-o", out),
        "empty folder": ("extract", tmp_path / "empty", "-o", out),
        "camera": ("extract", "0", "-o", out),
        "on error": ("extract", portrait, "-o", out, "--on-error", "stop"),
        "faces": ("extract", portrait, "-o", out, "--faces", "two"),
        "extra": ("extract", portrait, "-o", out, "--extra", "hair"),
        "no model": ("explain", portrait, "-m", tmp_path / "text.pt", "-o", out),
        "sizes": ("prune", tmp_path, "-e", "happiness", "-o", out, "--sizes", "a,b"),
    }
    code, _, err = fastexai(*words[case])
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_labels_of_one_class_only_are_refused(fastexai, tmp_path):
    raw = fx.datasets.simulate_landmarks(12, emotions=("happiness",), seed=1)
    store = fx.LandmarkStore.create(tmp_path / "clips.parquet")
    for number, clip in enumerate(raw.clips):
        store.append(clip, id=f"clip-{number:03}")
    code, _, err = fastexai(
        "train", tmp_path / "clips.parquet", "-e", "anger", "-o", tmp_path / "anger.pt"
    )
    assert code == 2
    assert "y: expected two classes" in err
    assert not (tmp_path / "anger.pt").exists()


def test_the_installed_command_runs():
    command = [sys.executable, "-c", "from fastexai.cli import main; main()", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    for name in ("extract", "train", "explain", "prune", "overlay", "report", "demo"):
        assert name in result.stdout
