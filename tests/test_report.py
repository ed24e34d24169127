"""The page: true sentences, numbers that come back, nothing loaded, nothing executed by a label."""

from __future__ import annotations

import base64
import importlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastexai import mesh
from fastexai.explanation import DatasetExplanation
from fastexai.metrics import Interval
from fastexai.pruning import PruningPath
from fastexai.report import report
from fastexai.report.finding import pair
from fastexai.report.payload import embed, payload
from fastexai.report.prose import confusion, control_note, sentence, stability

report_module = importlib.import_module("fastexai.report")

EVIL = '<script>alert("1")</script>&\u2028</pre>'
LIPS = mesh.region_landmarks("lips")
TO_IMAGE = np.float32([1 / 9, -1 / 9, -1 / 9])  # centimetres, y up, to eye distances, y down


def explanation_of(emotion="happiness", frames=20, seed=0, scale=1.0):
    """Nine tenths of the relevance lie on the lips, one tenth on the right cheek."""
    rng = np.random.default_rng(seed)
    weight = np.zeros(468)
    weight[LIPS] = 0.9 / len(LIPS)
    cheek = mesh.region_landmarks("right cheek")
    weight[cheek] = 0.1 / len(cheek)
    mean_abs = np.broadcast_to(weight[:, None] / (3 * frames), (frames, 468, 3)).copy()
    face = mesh.CANONICAL_FACE * TO_IMAGE + 0.01 * rng.normal(size=(frames, 468, 3))
    clips = face[None].astype(np.float32).repeat(50, axis=0)
    output = rng.normal(size=50)
    sign = np.where(output > 0, -0.5, 1)
    return DatasetExplanation.from_attributions(
        clips,
        scale * sign[:, None, None, None] * mean_abs,
        clips[:3],
        emotion=emotion,
        output=output,
        baseline_output=np.zeros(3),
        completeness_error=scale * 10 ** rng.normal(-4, 1, size=50),
        n_steps=16,
    )


def of_other_landmarks():
    X = np.zeros((2, 20, 478, 3), np.float32)
    numbers = {"output": [1, 2], "baseline_output": [0, 0], "completeness_error": [0, 0]}
    return DatasetExplanation.from_attributions(X, X, X, n_steps=1, **numbers)


def path_of(emotion="happiness", chosen=(0.95, 0.97, 0.6), random=(0.95, 0.8, 0.5), spread=0.02):
    sizes = (468, 24, 8)
    table = pd.DataFrame({"landmarks": sizes, "masked_balanced_accuracy": chosen})
    table["kuncheva_index"] = [np.nan, 0.75, 0.5]
    gain = np.subtract(chosen, random)
    for name, values in (
        ("balanced_accuracy", chosen),
        ("random_balanced_accuracy", random),
        ("gain_over_random", gain),
    ):
        table[name] = values
        table[f"{name}_low"], table[f"{name}_high"] = table[name] - spread, table[name] + spread
    positive = np.arange(50) % 5 == 0
    logits = np.where(positive, 2.0, -2.0) * np.where(np.arange(50) < 5, -1, 1)  # five are wrong
    answers = pd.DataFrame({"positive": positive, "subject": "a"} | {str(s): logits for s in sizes})
    return PruningPath(
        emotion=emotion,
        table=table,
        folds=pd.DataFrame(),
        answers=answers,
        kept={s: LIPS[:s] for s in sizes},
        best=24,
        nested=Interval(0.96, 0.94, 0.98),
        rank_correlation=0.8,
        options={"sizes": list(sizes), "folds": 3, "random_subsets": 2, "classifier": EVIL},
    )


class Page(HTMLParser):
    """Tags, what they link to, and text outside scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.words, self.scripts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href", "srcset", "action")]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script" and self.scripts[-1] == "":
            self.scripts[-1] = data
        else:
            self.words.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    written = report([path_of(EVIL), explanation_of(EVIL)], path, title="A < B & <b>C</b>")
    assert written == path
    return path.read_text(encoding="utf-8")


def test_nothing_is_loaded_from_anywhere(page):
    parsed = Page(page)
    assert parsed.links
    assert all(link.startswith("#") for link in parsed.links)
    assert not {"link", "iframe", "img", "object", "base"} & set(parsed.tags)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_labels_and_titles_stay_text(page):
    parsed = Page(page)
    assert parsed.tags.count("script") == 3  # data, Plotly, the page's own
    assert "alert" not in "".join(parsed.scripts[1:])
    assert json.loads(parsed.scripts[0])["emotions"][0]["name"] == EVIL
    assert EVIL in "".join(parsed.words)
    assert "A < B & <b>C</b>" in parsed.words


@given(st.text())
def test_no_string_can_leave_the_data_element(text):
    embedded = embed({"name": text})
    assert "<" not in embedded
    assert embedded.isascii()
    assert json.loads(embedded) == {"name": text}


def test_seven_emotions_fit_in_six_megabytes(tmp_path):
    results = [explanation_of(f"emotion {i}", frames=40, seed=i) for i in range(7)]
    paths = [path_of(f"emotion {i}") for i in range(7)]
    assert report([*results, *paths], tmp_path / "report.html").stat().st_size < 6e6


def test_sentence_states_landmarks_scores_and_regions():
    (finding,) = pair([explanation_of(), path_of()])
    text = sentence(finding).replace("\u00a0", " ")
    assert text == (
        "<strong>Happiness</strong> is recognised from 24 of 468 landmarks: balanced accuracy "
        "0.970 [0.950, 0.990], was 0.950 with all and is 0.800 with 24 random ones; "
        "relevance lies on lips 90 %, cheeks 10 %, brows 0 %."
    )


def test_sentence_admits_chance():
    (finding, _) = pair([path_of("anger", chosen=(0.52, 0.51, 0.5)), explanation_of()])
    assert "is hardly recognised" in sentence(finding)


@pytest.mark.parametrize(
    ("chosen", "verdict"),
    [(0.97, "helps"), (0.81, "no evidence"), (0.6, "random landmarks do better")],
)
def test_control_note_compares_with_chance(chosen, verdict):
    (_, finding) = pair([explanation_of(), path_of("anger", chosen=(0.95, chosen, 0.6))])
    assert verdict in control_note(finding.best)


def test_part_shares_join_both_sides_and_sum_to_one():
    (finding,) = pair([explanation_of()])
    shares = dict(finding.part_shares())
    assert shares["lips"] == pytest.approx(0.9)
    assert shares["cheeks"] == pytest.approx(0.1)
    assert sum(shares.values()) == pytest.approx(1)


def decode(packed, dtype):
    return np.frombuffer(base64.b64decode(packed["data"]), dtype) * packed["factor"]


def test_embedded_numbers_are_those_of_the_explanation():
    explanation = explanation_of(frames=5)
    (emotion,) = payload(pair([explanation]))["emotions"]
    packed = emotion["explanation"]
    faces = decode(packed["faces"], "<i2").reshape(5, 468, 3)
    x, y, z = np.moveaxis(explanation.expression, -1, 0)
    np.testing.assert_allclose(faces, np.stack([x, z, -y], -1), atol=packed["faces"]["factor"])
    instants = decode(packed["absolute"]["instants"], "u1").reshape(5, 468)
    half = 0.51 * packed["absolute"]["instants"]["factor"]
    np.testing.assert_allclose(instants, explanation.mean_abs.sum(-1), atol=half)
    for name, values in (
        ("relevance", explanation.relevance),
        ("absolute", explanation.mean_abs.sum((0, 2))),
        ("signed", explanation.contrast.sum((0, 2))),
    ):
        np.testing.assert_allclose(packed[name]["clip"], values, rtol=6e-3)
        regions = [values[mesh.region_landmarks(region)].sum() for region in mesh.REGIONS]
        np.testing.assert_allclose(packed[name]["regions"], regions, rtol=6e-3, atol=1e-12)
    heat = np.array(packed["absolute"]["heat"])
    assert heat.shape == (len(mesh.REGIONS), 5)
    assert heat.sum() == pytest.approx(explanation.mean_abs.sum(), rel=0.01)
    assert sum(packed["histogram"]["counts"]) == 50


def test_what_is_zero_or_unknown_can_be_shown(tmp_path):
    nothing = explanation_of(scale=0.0)
    path = path_of("one fold, no control")
    undrawn = [column for column in path.table if "random" in column]
    unknown = Interval(np.nan, np.nan, np.nan)
    lonely = replace(path, table=path.table.drop(columns=undrawn), nested=unknown)
    page = report([nothing, lonely], tmp_path / "report.html")
    text = page.read_text(encoding="utf-8")
    assert "No random control was drawn" in text
    assert "NaN" not in Page(text).scripts[0]


def test_right_and_wrong_answers_are_counted():
    (finding,) = pair([explanation_of(), path_of()])
    assert confusion(finding) == (
        "Of 10 clips that show the emotion, 9 were recognised; of the 40 others, 4 were taken for it."
    )


def test_stability_is_stated_where_there_is_some():
    (finding,) = pair([explanation_of(), path_of()])
    assert "index 0.75" in stability(finding)
    assert "correlation 0.80" in stability(finding)
    (whole,) = pair([explanation_of(), replace(path_of(), best=468)])
    assert stability(whole) == ""


def test_nodes_are_counted_and_ranks_have_intervals():
    explanation = replace(explanation_of(), nodes=np.arange(50) + 10)
    packed = payload(pair([explanation]))["emotions"][0]["explanation"]
    assert sum(packed["nodes"]["counts"]) == 50
    assert packed["nodes"]["edges"][0] == 10
    assert packed["nodes"]["edges"][-1] >= 60
    ranks = np.array(packed["ranks"])
    assert sorted(ranks[:, 0]) == list(range(1, 469))
    assert (ranks[:, 1] <= ranks[:, 0]).all()
    assert (ranks[:, 0] <= ranks[:, 2]).all()


def test_observed_shares_are_balanced():
    """Nine of ten positive and four of forty others get the high probability."""
    (finding,) = pair([explanation_of(), path_of()])
    reliability = payload([finding])["emotions"][0]["reliability"]
    probability = 1 / (1 + np.exp(-2))
    np.testing.assert_allclose(reliability["predicted"], [1 - probability, probability], atol=6e-4)
    np.testing.assert_allclose(reliability["observed"], [0.1 / (0.1 + 0.9), 0.9 / (0.9 + 0.1)])
    assert reliability["clips"] == [37, 13]


@pytest.mark.parametrize(
    ("results", "error", "message"),
    [
        ([], ValueError, "results: expected at least one DatasetExplanation, got none"),
        ([path_of()], ValueError, "results: expected at least one DatasetExplanation"),
        (explanation_of(), TypeError, "results: expected an iterable .* got DatasetExplanation"),
        ("abc", TypeError, "results: expected an iterable .* got str"),
        ([3], TypeError, "results: expected DatasetExplanation or PruningPath, got int"),
        ([explanation_of()] * 2, ValueError, "one DatasetExplanation per emotion, got two of 'hap"),
        ([explanation_of(), path_of(), path_of()], ValueError, "one PruningPath per emotion"),
        (
            [of_other_landmarks()],
            ValueError,
            r"results: expected explanations of \(T, 468, 3\), got \(20, 478, 3\)",
        ),
        (
            [replace(explanation_of(), output=np.array([np.nan]))],
            ValueError,
            "results: expected finite values, got NaN or Inf in output of 'happiness'",
        ),
        ([replace(explanation_of(), output=np.array([]))], ValueError, "expected clips, got none"),
        (
            [explanation_of(), replace(path_of(), best=7)],
            ValueError,
            "results: expected best among the sizes 468, 24, 8, got 7",
        ),
        (
            [explanation_of(), replace(path_of(), answers=path_of().answers.drop(columns="24"))],
            ValueError,
            "results: expected answers of 'happiness' at size 24",
        ),
        (
            [explanation_of(), replace(path_of(), kept={24: np.array([468])})],
            ValueError,
            r"results: expected kept landmarks in \[0, 468\) of 'happiness'",
        ),
    ],
)
def test_wrong_results_are_named_and_leave_nothing(tmp_path, results, error, message):
    with pytest.raises(error, match=message):
        report(results, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_wrong_title_and_path_are_named(tmp_path):
    with pytest.raises(TypeError, match="title: expected a string, got int"):
        report([explanation_of()], tmp_path / "report.html", title=3)
    with pytest.raises(ValueError, match="path: expected a file to write, got the directory"):
        report([explanation_of()], tmp_path)


def test_an_older_page_survives_a_failure(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    monkeypatch.setattr(report_module, "get_plotlyjs", lambda: "\ud800")  # cannot be encoded
    with pytest.raises(UnicodeEncodeError):
        report([explanation_of()], path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == "old"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_a_browser_draws_every_figure(tmp_path):
    """Under the page's own content policy: a figure that needed more would stay away."""
    page = report([explanation_of(EVIL), path_of(EVIL)], tmp_path / "report.html")
    flags = (
        "--headless --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader "
        "--disable-quic --no-first-run --disable-background-networking --disable-component-update "
        "--disable-sync --window-size=1280,3000 --virtual-time-budget=10000 --dump-dom"
    )
    command = ["chromium", *flags.split(), f"--user-data-dir={tmp_path / 'user'}", page.as_uri()]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert 'data-ready="true"' in drawn
    assert drawn.count("js-plotly-plot") >= 5
    assert "gl-container" in drawn
    assert Page(drawn).tags.count("circle") >= 2 * 24  # kept landmarks on both flat faces
