import io
import json
import os
import subprocess
import sys
from dataclasses import replace
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


def test_explain_says_it_in_words_json_and_csv(fastexai, portrait, model, tmp_path):
    words = ("explain", portrait, "--model", model, "--tol", 0.1, "--top", 3)
    code, out, _ = fastexai(*words, "-o", tmp_path / "explained.json")
    assert code == 0
    assert "explained.json" in out
    (described,) = json.loads((tmp_path / "explained.json").read_text())
    assert described["source"] == portrait.name
    assert described["emotion"] == "happiness"
    assert 0 <= described["probability"] <= 1
    assert 0 <= described["decided"]["from_seconds"] < described["decided"]["to_seconds"] <= 1.4
    assert len(described["landmarks"]) == 3
    _, out, _ = fastexai(*words)
    assert portrait.name in out
    for mark in described["landmarks"]:
        assert mark["name"] in out
    _, out, _ = fastexai(*words, "--format", "csv")
    (row,) = pd.read_csv(io.StringIO(out)).to_dict("records")
    assert row["probability"] == pytest.approx(described["probability"], abs=1e-6)
    assert row["landmarks"] == "; ".join(mark["name"] for mark in described["landmarks"])


def test_explain_takes_a_store_and_names_stay_text(fastexai, model, tmp_path):
    raw = fx.datasets.simulate_landmarks(3, emotions=("happiness",), seed=1)
    store = fx.LandmarkStore.create(tmp_path / "clips.parquet")
    for number, clip in enumerate(raw.clips):
        store.append(replace(clip, source=f"[red]{number}"), id=f"clip-{number}")
    code, out, _ = fastexai("explain", tmp_path / "clips.parquet", "--model", model)
    assert code == 0
    assert all(f"[red]{number}" in out for number in range(3))
    words = ("explain", tmp_path / "clips.parquet", "-m", model, "-o", tmp_path / "clips.txt")
    assert fastexai(*words)[0] == 0
    assert (tmp_path / "clips.txt").read_text() == out


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
    path, smaller = tmp_path / "path.json", tmp_path / "smaller.pt"
    common = (tmp_path / "clips.parquet", "-e", "happiness")
    code, _, _ = fastexai("train", *common, "-o", model)
    assert code == 0
    quick = ("--sizes", "468,16", "--folds", 2, "--random-subsets", 1, "--frames", 6)
    words = ("prune", *common, "-o", table, "-o", path, "--model", smaller, *quick)
    code, out, _ = fastexai(*words)
    assert code == 0
    assert "random control" in out
    assert pd.read_csv(table)["landmarks"].tolist() == [468, 16]
    pruned = fx.PruningPath.load(path)
    assert fx.EmotionClassifier.load(smaller).network_.kept.tolist() == sorted(
        pruned.kept[pruned.best]
    )
    code, _, err = fastexai(*words)
    assert code == 2
    assert err == f"error: out: expected no {table} yet (or --overwrite), got one\n"
    page = tmp_path / "report.html"
    code, _, _ = fastexai(
        "report", tmp_path / "clips.parquet", "-m", model, "-o", page, "--pruning", path
    )
    assert code == 0
    assert "Happiness" in page.read_text()
    assert "Pruning path as a table" in page.read_text()


@pytest.fixture(scope="module")
def emotional_store(tmp_path_factory) -> Path:
    """Sixty raw clips of six people with three labels."""
    path = tmp_path_factory.mktemp("store") / "clips.parquet"
    raw = fx.datasets.simulate_landmarks(
        60, emotions=("happiness", "surprise"), seed=1, difficulty=0.2
    )
    store = fx.LandmarkStore.create(path)
    for number, clip in enumerate(raw.clips):
        store.append(clip, id=f"clip-{number:03}")
    return path


def test_train_judges_one_emotion_and_writes_the_figures(fastexai, emotional_store, tmp_path):
    model = tmp_path / "happiness.pt"
    words = ("train", emotional_store, "-e", "happiness", "-o", model, "--cv", 3, "--repeats", 2)
    code, out, _ = fastexai(*words, "--frames", 8)
    assert code == 0
    assert "happiness: 60 clips of 6 subjects, 95 % intervals" in out
    assert {path.name for path in tmp_path.iterdir()} == {"happiness.pt", "happiness.json"}
    written = json.loads((tmp_path / "happiness.json").read_text())
    assert {name: value for name, value in written.items() if name != "emotions"} == {
        "architecture": "randomized_bilstm",
        "calibration": "platt",
        "frames": 8,
        "folds": 3,
        "repeats": 2,
        "seed": 0,
    }
    clips = fx.ClipSet.from_store(fx.LandmarkStore(emotional_store), frames=8)
    clf = fx.EmotionClassifier("happiness", "randomized_bilstm", calibration="platt")
    result = fx.cross_validate(clf, clips, folds=3, repeats=2)
    pooled = written["emotions"]["happiness"]["pooled"]
    assert pooled == result.describe()["pooled"]
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if "│" in line}
    for metric in ("majority_rate", "balanced_accuracy", "brier"):
        printed = [float(cell) for cell in rows[metric].split("│")[2:5]]
        figures = [pooled[metric][name] for name in ("value", "low", "high")]
        assert printed == pytest.approx(figures, rel=6e-3, abs=1e-9)
    assert len(written["emotions"]["happiness"]["table"]) == 6


def test_train_makes_an_ensemble_of_several_emotions(fastexai, emotional_store, tmp_path):
    folder = tmp_path / "emotions"
    words = ("train", emotional_store, "-e", "happiness", "-e", "surprise", "-o", folder)
    code, out, _ = fastexai(*words, "--cv", 2, "--frames", 8)
    assert code == 0
    assert out.count("95 % intervals") == 2
    clips = fx.ClipSet.from_store(fx.LandmarkStore(emotional_store), frames=8)
    ensemble = fx.EmotionEnsemble.load(folder)
    assert ensemble.classes_.tolist() == ["happiness", "surprise"]
    assert set(ensemble.predict(clips)) == {"happiness", "surprise"}
    written = json.loads((tmp_path / "emotions.json").read_text())
    assert list(written["emotions"]) == ["happiness", "surprise"]


@pytest.mark.parametrize("several", [False, True])
def test_train_replaces_only_if_told(fastexai, emotional_store, tmp_path, several):
    out = tmp_path / "model.pt"
    emotions = ("-e", "happiness", "-e", "surprise") if several else ("-e", "happiness")
    words = ("train", emotional_store, *emotions, "-o", out, "--frames", 4)
    assert fastexai(*words)[0] == 0
    before = out.stat()
    code, _, err = fastexai(*words)
    assert (code, err) == (2, f"error: out: expected no {out} yet (or --overwrite), got one\n")
    assert out.stat() == before
    assert fastexai(*words, "--overwrite")[0] == 0
    assert out.stat().st_ino != before.st_ino


def test_train_does_not_overwrite_figures_either(fastexai, emotional_store, tmp_path):
    (tmp_path / "model.json").write_text("mine")
    words = ("train", emotional_store, "-e", "happiness", "-o", tmp_path / "model.pt")
    code, _, err = fastexai(*words, "--cv", 2)
    assert code == 2
    assert "model.json yet (or --overwrite)" in err
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_demo_writes_models_table_and_report(fastexai, tmp_path):
    code, out, _ = fastexai("demo", "-o", tmp_path / "demo", "--n", 60, "-e", "happiness")
    assert code == 0
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    listed = {"happiness.pt", "pruning.csv", "results.md", "report.html"}
    assert all(name in out for name in listed)
    kept = {"experiment.json", "happiness.explanation.parquet", "happiness.pruning.json"}
    assert written == listed | kept
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
        ("format", "format: expected table, json or csv, got 'xml'"),
        ("sizes", "sizes: expected whole numbers"),
        ("repeats", "repeats: expected --cv beside it, got --repeats 3 alone"),
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
        "format": ("explain", portrait, "-m", tmp_path / "text.pt", "--format", "xml"),
        "no model": ("explain", portrait, "-m", tmp_path / "text.pt", "-o", out),
        "repeats": ("train", tmp_path, "-e", "happiness", "-o", out, "--repeats", 3),
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
    for name in ("extract", "train", "explain", "prune", "overlay", "live", "report", "demo"):
        assert name in result.stdout
