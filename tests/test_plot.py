"""The still picture: what it shows, that it is the same every time, and what is refused."""

from __future__ import annotations

import sys
import zlib
from dataclasses import replace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

import fastexai as fx
from fastexai import mesh

LIPS = mesh.region_landmarks("lips")
CHIN = mesh.region_landmarks("chin")
YELLOW = (253, 231, 37)  # the last colour of viridis


def explanation_of(relevant, emotion="happiness", landmarks=468):
    """All relevance lies on some landmarks, in equal parts."""
    X = np.zeros((2, 3, landmarks, 3), np.float32)
    X[:, :, relevant] = 1
    numbers = {"output": [1, 1], "baseline_output": [0, 0], "completeness_error": [0, 0]}
    return fx.DatasetExplanation.from_attributions(X, X, X, emotion=emotion, n_steps=1, **numbers)


def near(image, color, tolerance=12):
    """Return (row, column) of the pixels of a colour, without the colour bar."""
    rgb = image[..., 2::-1].astype(int)
    rows, columns = np.nonzero((np.abs(rgb - color) <= tolerance).all(-1))
    faces = rows < 0.78 * len(image)
    return rows[faces], columns[faces]


def drawn(tmp_path, *explanations, **options):
    path = fx.plot_relevance(explanations, tmp_path / "figure.png", dpi=150, **options)
    return cv2.imread(str(path))


def test_relevant_landmarks_shine_where_they_lie(tmp_path):
    for relevant, low, high in ((LIPS, 0.55, 0.8), (CHIN, 0.7, 1)):
        rows, columns = near(image := drawn(tmp_path, explanation_of(relevant)), YELLOW)
        assert len(rows) > 100
        assert low < np.median(rows) / (0.82 * len(image)) < high
        assert np.median(columns) == pytest.approx(image.shape[1] / 2, rel=0.1)


def test_the_subject_s_right_lies_on_the_left(tmp_path):
    image = drawn(tmp_path, explanation_of(mesh.region_landmarks("right cheek")))
    assert near(image, YELLOW)[1].max() < image.shape[1] / 2


def test_faces_stand_side_by_side_on_one_scale(tmp_path):
    """Half of the chin's landmarks, of twice the share each, are the ones that end the scale."""
    few = explanation_of(CHIN[:10], "sadness")
    image = drawn(tmp_path, few, explanation_of(np.arange(468), "surprise"))
    assert image.shape[1] > 1.7 * drawn(tmp_path, few).shape[1]
    columns = near(image, YELLOW)[1]
    assert columns.size
    assert columns.max() < image.shape[1] / 2


def test_a_fifth_face_begins_a_row(tmp_path):
    heights, widths = zip(
        *(
            drawn(tmp_path, *(explanation_of(LIPS, str(i)) for i in range(n)), face_inches=1).shape[
                :2
            ]
            for n in (4, 5)
        ),
        strict=True,
    )
    assert heights[1] > 1.5 * heights[0]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)


def test_kept_landmarks_are_ringed_on_their_own_face(tmp_path):
    pair = explanation_of(LIPS, "joy"), explanation_of(LIPS, "anger")
    ring = (214, 36, 127)
    assert near(drawn(tmp_path, *pair), ring)[0].size == 0
    image = drawn(tmp_path, *pair, kept={"anger": CHIN})
    columns = near(image, ring)[1]
    assert columns.size
    assert columns.min() > image.shape[1] / 2
    image = drawn(tmp_path, *pair, kept=CHIN)
    assert near(image, ring)[1].min() < image.shape[1] / 2


@pytest.mark.parametrize("suffix", ["pdf", "png", "svg"])
def test_equal_explanations_give_equal_files(tmp_path, suffix):
    explanation = explanation_of(LIPS)
    one, other = (
        fx.plot_relevance(explanation, tmp_path / f"{name}.{suffix}", kept=LIPS[:5])
        for name in ("one", "other")
    )
    assert one.read_bytes() == other.read_bytes()
    assert not any(word in one.read_bytes() for word in (b"CreationDate", b"dc:date", b"tIME"))


def test_vector_files_hold_shapes_and_their_fonts(tmp_path):
    explanation = explanation_of(LIPS)
    pdf = fx.plot_relevance(explanation, tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf
    streams = [part.split(b"endstream")[0].strip(b"\r\n") for part in pdf.split(b"stream\n")[1::2]]
    assert any(len(zlib.decompress(s)) > 50_000 for s in streams if s[:1] == b"x")
    svg = ElementTree.parse(fx.plot_relevance(explanation, tmp_path / "figure.svg"))
    tags = [element.tag.rpartition("}")[2] for element in svg.iter()]
    assert tags.count("use") + tags.count("path") > 468 + 898
    assert "text" not in tags  # letters are outlines
    assert tags.count("image") <= 1  # the colour bar's ramp


def test_labels_stay_text_and_nothing_relevant_is_drawn_too(tmp_path):
    odd = explanation_of([], emotion="$x^{ <script>alert(1)</script>")
    text = fx.plot_relevance(odd, tmp_path / "figure.svg").read_text()
    assert "<script" not in text


def test_wrong_arguments_are_named_and_leave_nothing(tmp_path):
    happy = explanation_of(LIPS)
    broken = replace(
        happy, present=replace(happy.present, sums={"cell": np.full((3, 3, 468, 3), np.nan)})
    )
    for arguments, error, message in (
        ({"explanations": []}, ValueError, "explanations: expected at least one"),
        ({"explanations": [3]}, TypeError, "explanations: expected DatasetExplanation, got int"),
        (
            {"explanations": explanation_of([], landmarks=478)},
            ValueError,
            "explanations: expected 468 landmarks, got 478",
        ),
        ({"explanations": broken}, ValueError, "explanations: expected finite relevance"),
        ({"path": tmp_path / "f.jpg"}, ValueError, r"path: expected a name that ends in \.pdf"),
        ({"kept": [468]}, ValueError, "kept: expected landmarks from 0 to 467"),
        ({"kept": {"fear": [1]}}, ValueError, r"kept: expected emotions among \['happiness'\]"),
        ({"face_inches": 0}, ValueError, "face_inches: expected a positive number, got 0"),
        ({"dpi": np.nan}, ValueError, "dpi: expected a positive number, got nan"),
    ):
        given = {"explanations": happy, "path": tmp_path / "figure.pdf"} | arguments
        with pytest.raises(error, match=message):
            fx.plot_relevance(**given)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'fastexai\[plot\]'"):
        fx.plot_relevance(explanation_of(LIPS), tmp_path / "figure.pdf")
