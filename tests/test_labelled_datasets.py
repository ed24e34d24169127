"""Labelled data sets: small trees in the true layouts, and what may be wrong with them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fastexai.datasets import (
    EMOTIONS,
    load_ck_plus,
    load_crema_d,
    load_folder,
    load_manifest,
    load_ravdess,
)
from fastexai.sources import frames, images_in

LOADERS = (load_ck_plus, load_ravdess, load_crema_d, load_folder)
# In the order of their codes.
CK_PLUS = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
RAVDESS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
CREMA_D = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "SAD": "sadness"}
PART = "expected .* got"  # every tree here is a small part of the data set, which is warned of


def touch(root: Path, *names: str, content: bytes = b"video") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def draw(root: Path, *names: str, size: int = 48) -> Path:
    """Write grey images of a schematic face."""
    face = np.full((size, size), 40, np.uint8)
    cv2.ellipse(face, (size // 2, size // 2), (size // 3, size // 2 - 2), 0, 0, 360, 180, -1)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), face)
    return root


def label(root: Path, sequence: str, frame: int, text: str) -> None:
    subject, number = sequence.split("_")
    name = f"Emotion/{subject}/{number}/{sequence}_{frame:08d}_emotion.txt"
    touch(root, name, content=text.encode())


def images_of(sequence: str, count: int) -> list[str]:
    subject, number = sequence.split("_")
    folder = f"cohn-kanade-images/{subject}/{number}"
    return [f"{folder}/{sequence}_{i:08d}.png" for i in range(1, count + 1)]


@pytest.fixture
def ck_plus(tmp_path):
    """Eight sequences, one per code, and one without a label: the order of the codes."""
    for code in range(8):
        draw(tmp_path, *images_of(f"S{code:03d}_001", 3))
        label(tmp_path, f"S{code:03d}_001", 3, f"   {code}.0000000e+00\n")
    draw(tmp_path, *images_of("S005_002", 4))
    (tmp_path / "Emotion/S005/002").mkdir()
    touch(tmp_path, "cohn-kanade-images/.DS_Store", "cohn-kanade-images/S005/.DS_Store")
    touch(tmp_path, "Emotion/S005/001/._S005_001_00000003_emotion.txt")
    return tmp_path


@pytest.fixture
def ck_48(tmp_path):
    classes = dict.fromkeys(["anger", "contempt", "disgust", "fear", "sadness", "surprise"], (1,))
    for i, (name, numbers) in enumerate((classes | {"happy": (1, 2)}).items()):
        sequences = [f"S{i:03d}_{number:03d}" for number in numbers]
        draw(tmp_path, *(f"CK+48/{name}/{s}_{k:08d}.png" for s in sequences for k in (9, 10, 11)))
    return tmp_path


@pytest.fixture
def crema_d(tmp_path):
    names = [f"1001_IEO_{emotion}_MD.flv" for emotion in CREMA_D]
    touch(tmp_path, *(f"VideoFlash/{name}" for name in names), "VideoFlash/1091_DFA_NEU_XX.flv")
    return touch(tmp_path, "AudioWAV/1001_IEO_ANG_MD.wav", "README.md")


def test_ck_plus_takes_labels_from_their_codes(ck_plus):
    with pytest.warns(UserWarning, match="CK\\+: expected 593 sequences, 327 labelled, 123 subj"):
        table = load_ck_plus(ck_plus)
    assert tuple(table["label"]) == CK_PLUS
    assert table["subject"].tolist() == [f"S{code:03d}" for code in range(8)]
    assert table["sequence"].tolist() == [f"S{code:03d}_001" for code in range(8)]
    assert set(table["frames"]) == {3}
    assert [len(list(Path(path).iterdir())) for path in table["path"]] == [3] * 8


def test_ck_plus_lists_unlabelled_sequences_on_request(ck_plus):
    with pytest.warns(UserWarning, match="got 9 sequences, 8 labelled, 8 subjects$"):
        table = load_ck_plus(ck_plus, unlabelled=True)
    assert len(table) == 9
    assert table[table["label"] == ""]["sequence"].tolist() == ["S005_002"]
    assert table.set_index("sequence")["frames"]["S005_002"] == 4


def test_a_complete_ck_plus_is_not_warned_of(tmp_path):
    """593 sequences, 327 labelled, 123 subjects; warnings are errors here."""
    for i in range(593):
        sequence = f"S{i % 123:03d}_{i // 123:03d}"
        touch(tmp_path, *images_of(sequence, 1), content=b"image")
        if i < 327:
            label(tmp_path, sequence, 1, "5")
    assert len(load_ck_plus(tmp_path)) == 327


def test_ck_plus_is_found_in_the_folders_of_its_archives(ck_plus):
    (ck_plus / "Emotion_labels").mkdir()
    (ck_plus / "Emotion").rename(ck_plus / "Emotion_labels/Emotion")
    with pytest.warns(UserWarning, match=PART):
        assert len(load_ck_plus(ck_plus)) == 8


def test_ck_plus_names_sequences_that_cannot_be_used(ck_plus):
    touch(ck_plus, images_of("S001_001", 1)[0], content=b"")
    label(ck_plus, "S002_001", 3, "9.0000000e+00")
    label(ck_plus, "S003_001", 4, "3")  # a second one
    label(ck_plus, "S999_001", 3, "3")  # of a sequence without images
    draw(ck_plus, "cohn-kanade-images/S004/first/a.png")
    for image in (ck_plus / "cohn-kanade-images/S000/001").iterdir():
        image.unlink()
    with pytest.warns(UserWarning, match=PART) as caught:
        table = load_ck_plus(ck_plus)
    assert table["subject"].tolist() == ["S004", "S005", "S006", "S007"]
    assert all(warning.filename == __file__ for warning in caught)
    message = str(caught[0].message)
    assert message.startswith("CK+: left out 6 that cannot be used: ")
    for part in (
        r"S001/001 \(S001_001_00000001.png is empty\)",
        r"S002/001 \(expected one code from 0 to 7 .* got \['9.0000000e\+00'\]\)",
        r"S003/001 \(expected one code",
        r"S004/first \(its name is not like S005/001\)",
        r"S000/001 \(it holds no images\)",
        "; and 1 more$",
    ):
        assert re.search(part, message)


def test_ck_48_is_grouped_into_sequences(ck_48):
    expected = "expected 327 sequences, 981 images, 118 subjects; got 8 sequences, 24 images, 7"
    with pytest.warns(UserWarning, match=expected):
        table = load_ck_plus(ck_48)
    assert sorted(set(table["label"])) == sorted(EMOTIONS)
    happy = table[table["label"] == "happiness"]
    assert happy["sequence"].tolist() == ["S006_001", "S006_002"]
    assert set(happy["subject"]) == {"S006"}
    assert set(table["frames"]) == {3}
    images = [f"S006_001_{k:08d}.png" for k in (9, 10, 11)]
    assert [file.name for file in images_in(Path(happy["path"].iloc[0]))] == images
    for path in table["path"]:
        assert [frame.shape for _, frame in frames(path)] == [(48, 48, 3)] * 3


def test_ck_48_may_be_the_root_itself_and_names_what_does_not_parse(ck_48):
    draw(ck_48, "CK+48/fear/copy.png")
    with (
        pytest.warns(UserWarning, match=PART),
        pytest.warns(UserWarning, match="left out 1 .*copy.png .its name is not like S010_004_00"),
    ):
        assert len(load_ck_plus(ck_48 / "CK+48")) == 8


def test_ck_plus_needs_its_labels(tmp_path):
    draw(tmp_path, *images_of("S005_001", 2))
    with pytest.raises(
        ValueError, match="root: expected Emotion beside cohn-kanade-images, got no"
    ):
        load_ck_plus(tmp_path)
    (tmp_path / "Emotion").mkdir()
    with pytest.raises(ValueError, match="root: .*_emotion.txt with labels, got none in .*Emotion"):
        load_ck_plus(tmp_path, unlabelled=True)


def ravdess_name(emotion=3, intensity=1, statement=1, repetition=1, actor=1, *, kind="01-01"):
    rest = f"{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"
    return f"Actor_{actor:02d}/{kind}-{rest}.mp4"


def test_ravdess_takes_everything_from_names(tmp_path):
    touch(tmp_path, *(ravdess_name(emotion) for emotion in range(1, 9)))
    touch(tmp_path, ravdess_name(5, 2, 1, 2, actor=24), "Actor_01/03-01-03-01-01-01-01.wav")
    with pytest.warns(
        UserWarning, match="speech: expected 1440 rec.*, 24 actors; got 9 rec.*, 2 a"
    ):
        table = load_ravdess(tmp_path).set_index("sequence")
    assert table["label"].tolist()[:4] == list(RAVDESS[:4])
    assert sorted(table[table["subject"] == "Actor_01"]["label"]) == sorted(RAVDESS)
    strong = table.loc["01-05-02-01-02-24"]
    assert Path(strong.pop("path")) == tmp_path / "Actor_24/01-01-05-02-01-02-24.mp4"
    assert strong.tolist() == ["anger", "Actor_24", "strong", 1, 2]
    assert table.loc["01-03-01-01-01-01", "intensity"] == "normal"


def test_ravdess_lists_a_recording_once_with_sound_first(tmp_path):
    both = [ravdess_name(kind=kind) for kind in ("01-01", "02-01")]
    touch(tmp_path, *both, ravdess_name(4, kind="02-01"), ravdess_name(kind="02-02"))
    touch(tmp_path, ravdess_name(5), content=b"")
    touch(tmp_path, ravdess_name(5, kind="02-01"))
    with (
        pytest.warns(UserWarning, match=PART),
        pytest.warns(UserWarning, match="left out 1 .*01-01-05-01-01-01-01.mp4 is empty"),
    ):
        speech = load_ravdess(tmp_path)
    assert [Path(path).name[:8] for path in speech["path"]] == ["01-01-03", "02-01-04", "02-01-05"]
    with pytest.warns(UserWarning, match="song: expected 1012 recordings, 23 actors; got 1 "):
        song = load_ravdess(tmp_path, channel="song")
    assert song["label"].tolist() == ["happiness"]


def test_a_complete_ravdess_is_not_warned_of(tmp_path):
    for actor in range(1, 25):
        for emotion in range(1, 9):
            for intensity in (1,) if emotion == 1 else (1, 2):
                takes = [(statement, take) for statement in (1, 2) for take in (1, 2)]
                touch(tmp_path, *(ravdess_name(emotion, intensity, *t, actor) for t in takes))
    table = load_ravdess(tmp_path)
    assert len(table) == 1440
    assert table["label"].value_counts()["neutral"] == 96


def test_ravdess_names_what_does_not_parse(tmp_path):
    touch(tmp_path, ravdess_name(), "Actor_01/01-01-09-01-01-01-01.mp4", "Actor_01/smile.mp4")
    with (
        pytest.warns(UserWarning, match=PART),
        pytest.warns(UserWarning, match=r"left out 2 .*01-01-09-.* \(its name .*; .*smile.mp4 \("),
    ):
        assert len(load_ravdess(tmp_path)) == 1
    with pytest.raises(ValueError, match="channel: expected 'speech' or 'song', got 'opera'"):
        load_ravdess(tmp_path, channel="opera")


def test_crema_d_takes_everything_from_names(crema_d):
    with pytest.warns(
        UserWarning, match="CREMA-D: expected 7442 clips, 91 actors; got 6 clips, 2 "
    ):
        table = load_crema_d(crema_d)
    assert table["label"].tolist() == [*CREMA_D.values(), "neutral"]
    last = table.iloc[-1].drop("path").tolist()
    assert last == ["neutral", "1091", "1091_DFA_NEU_XX", "DFA", "XX"]
    assert table["level"][0] == "MD"


def test_crema_d_converted_clips_are_listed_once(crema_d):
    touch(crema_d, "VideoMP4/1001_IEO_ANG_MD.mp4")
    with pytest.warns(UserWarning, match="got 6 clips"):
        assert len(load_crema_d(crema_d)) == 6


def test_crema_d_without_git_lfs_is_told_what_to_do(crema_d):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:6c6e\nsize 1\n"
    touch(crema_d, "VideoFlash/1001_IEO_ANG_MD.flv", content=pointer)
    touch(crema_d, "VideoFlash/1001_IEO_ANG.flv")
    with (
        pytest.warns(UserWarning, match=PART),
        pytest.warns(UserWarning, match="left out 2 .*ANG.flv .its name .*: run `git lfs pull`"),
    ):
        assert len(load_crema_d(crema_d)) == 5


def test_a_folder_per_class(tmp_path):
    touch(tmp_path, "Happy/anna_1.mp4", "Happy/ben_1.mov", "bored/anna_2.avi", ".cache/x.mp4")
    touch(draw(tmp_path, "sad/ben_2/1.png", "sad/ben_2/2.png"), "sad/.DS_Store", "labels.txt")
    table = load_folder(tmp_path)
    assert table["label"].tolist() == ["happiness", "happiness", "bored", "sadness"]
    assert table["subject"].tolist() == [
        "Happy/anna_1.mp4",
        "Happy/ben_1.mov",
        "bored/anna_2.avi",
        "sad/ben_2",
    ]
    assert table["path"][3] == str(tmp_path / "sad/ben_2")
    table = load_folder(tmp_path, subject_pattern="^([a-z]+)_")
    assert table["subject"].tolist() == ["anna", "ben", "anna", "ben"]


def test_a_folder_names_what_cannot_be_used(tmp_path):
    touch(tmp_path, "happy/anna_1.mp4", "happy/1.mp4", "happy/notes.txt")
    (tmp_path / "sad/empty").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"out 2 .*txt \(it is neither .*empty \(it holds no imag"):
        assert len(load_folder(tmp_path)) == 2
    with pytest.warns(UserWarning, match=r"out 3 .*1.mp4 \('\^\(\[a-z\]\+\)_' finds no subject"):
        assert len(load_folder(tmp_path, subject_pattern="^([a-z]+)_")) == 1


@pytest.mark.parametrize(("pattern", "got"), [("[a", "'\\[a'"), (".*", "0 in"), ("(a)(b)", "2 in")])
def test_a_subject_pattern_needs_one_group(tmp_path, pattern, got):
    with pytest.raises(ValueError, match=f"subject_pattern: expected .* one group, got {got}"):
        load_folder(tmp_path, subject_pattern=pattern)


def write_manifest(folder: Path, *lines: str, encoding="utf-8") -> Path:
    path = folder / "clips.csv"
    path.write_text("\n".join(lines), encoding=encoding)
    return path


def test_a_manifest_is_relative_to_its_file(tmp_path, monkeypatch):
    touch(tmp_path, "data/a.mp4", "data/b.mp4")
    (tmp_path / "c.mp4").write_bytes(b"video")
    lines = ["path,label,subject,age", "a.mp4,Happy,anna,007", f"{tmp_path}/c.mp4,fear,,8"]
    write_manifest(tmp_path / "data", *lines, encoding="utf-8-sig")
    monkeypatch.chdir(tmp_path)
    table = load_manifest("data/clips.csv")
    assert table["path"].tolist() == [str(tmp_path / "data/a.mp4"), str(tmp_path / "c.mp4")]
    assert table["label"].tolist() == ["happiness", "fear"]
    assert table["subject"].tolist() == ["anna", f"{tmp_path}/c.mp4"]
    assert table["age"].tolist() == [7, 8]


def test_a_manifest_keeps_subjects_as_they_are_written(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    csv = write_manifest(tmp_path, "path,label,subject", "a.mp4,sad,007", "b.mp4,sad,NA")
    assert load_manifest(csv)["subject"].tolist() == ["007", "NA"]


def test_a_manifest_warns_of_missing_files_and_labels(tmp_path):
    csv = write_manifest(touch(tmp_path, "a.mp4"), "path,label", "a.mp4,", "b.mp4,fear")
    with (
        pytest.warns(UserWarning, match="load_manifest: 1 of 1 rows have no label"),
        pytest.warns(UserWarning, match="left out 1 .*b.mp4 .b.mp4 is missing or not readable"),
    ):
        table = load_manifest(csv)
    assert table["label"].tolist() == [""]
    assert table["subject"].tolist() == ["a.mp4"]


@pytest.mark.parametrize("layout", ["ck_plus", "ck_48", "crema_d"])
def test_a_table_survives_a_csv_file(layout, request, tmp_path_factory, monkeypatch):
    root = request.getfixturevalue(layout)
    monkeypatch.chdir(root.parent)
    with pytest.warns(UserWarning, match=PART):
        table = (load_crema_d if layout == "crema_d" else load_ck_plus)(root.name)
    csv = tmp_path_factory.mktemp("elsewhere") / "clips.csv"
    table.to_csv(csv, index=False)
    pd.testing.assert_frame_equal(load_manifest(csv), table)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path;label", "a.mp4;sad"], "expected the columns path, label .*; got path;label"),
        ([""], "csv: expected the columns path, label .*, got .*clips.csv: "),
        (["path,label", "a.mp4,sad", "a.mp4,fear"], "every row, none twice; got 'a.mp4'"),
        (["path,label", ",sad"], "csv: expected a path in every row, none twice; got ''"),
        (["path,label"], "csv: expected paths of videos or folders of images; got 1 .csv, 1 .mp4"),
        (["path,label", "b.mp4,sad"], "csv: expected paths .*; got .*b.mp4 .b.mp4 is missing"),
    ],
)
def test_a_manifest_that_is_none(tmp_path, lines, message):
    csv = write_manifest(touch(tmp_path, "a.mp4"), *lines)
    with pytest.raises(ValueError, match=message):
        load_manifest(csv)


def test_a_manifest_is_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="csv: expected a CSV file, got .*, missing or no"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("load", LOADERS)
def test_a_root_is_a_folder(load, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="root: expected a data set's folder, got .*, missi"
    ):
        load(tmp_path / "none")
    with pytest.raises(ValueError, match="root: expected a data set's folder, got .*a.mp4, a file"):
        load(touch(tmp_path, "a.mp4") / "a.mp4")


@pytest.mark.parametrize("load", LOADERS)
def test_a_wrong_layout_says_what_was_found(load, tmp_path):
    with pytest.raises(ValueError, match="root: expected .*; got an empty folder$"):
        load(tmp_path)
    touch(tmp_path, "speech/1.wav", "speech/2.wav", "speech/3.txt")
    got = "1.wav .it is neither a video" if load is load_folder else "2 .wav, 1 .txt$"
    with pytest.raises(ValueError, match=f"root: expected .*; got .*{got}"):
        load(tmp_path)


def test_an_unreadable_video_is_left_out(tmp_path, monkeypatch):
    """Access is simulated: a superuser may read everything."""
    touch(tmp_path, "happy/a.mp4", "happy/b.mp4")
    monkeypatch.setattr(os, "access", lambda path, _mode: path.name != "a.mp4")
    with pytest.warns(UserWarning, match="left out 1 .*a.mp4 is missing or not readable"):
        assert len(load_folder(tmp_path)) == 1
