"""The experiment on given clips, resumable, and its way from a data set on disk."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pandas as pd
import pytest

import fastexai as fx
from fastexai import replicate
from fastexai.experiment import run_experiment
from fastexai.replicate import run_replication

QUICK = {"sizes": (468, 16), "folds": 2, "inner_folds": 0, "random_subsets": 1, "anchor": False}


class Stages:
    """Remembers what was done."""

    def __init__(self):
        self.titles = []

    @contextmanager
    def __call__(self, title):
        self.titles.append(title)
        yield lambda done, total: None


@pytest.fixture(scope="module")
def happy_clips():
    return fx.datasets.simulate_expressions(
        60, emotions=("happiness",), frames=6, seed=0, difficulty=0.2
    )


def run(clips, out, stages=None, **options):
    return run_experiment(
        clips,
        out,
        emotions=["happiness"],
        architecture="randomized_bilstm",
        seed=0,
        stage=stages or Stages(),
        **QUICK | options,
    )


@pytest.fixture(scope="module")
def done(happy_clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("experiment")
    return out, *run(happy_clips, out)


def test_an_experiment_writes_what_it_lists(done):
    out, files, summary = done
    names = [file.name for file in files]
    assert names == ["happiness.pt", "pruning.csv", "results.md", "report.html"]
    assert all(file.is_file() for file in files)
    table = pd.read_csv(out / "pruning.csv")
    assert table["landmarks"].tolist() == [468, 16]
    assert summary["balanced_accuracy_all"][0] == pytest.approx(table["balanced_accuracy"][0])
    assert summary["relevance_vs_truth_auc"][0] > 0.5
    assert "## happiness" in (out / "results.md").read_text()


def test_what_is_done_is_not_done_again(done, happy_clips):
    out, _, summary = done
    trained = (out / "happiness.pt").stat().st_mtime_ns
    (out / "happiness.pruning.json").unlink()
    stages = Stages()
    _, again = run(happy_clips, out, stages)
    assert stages.titles == ["Pruning happiness", "Writing the report"]
    assert (out / "happiness.pt").stat().st_mtime_ns == trained
    pd.testing.assert_frame_equal(again, summary)


def test_other_clips_or_options_begin_anew(happy_clips, tmp_path):
    run(happy_clips, tmp_path)
    everything = ["Training happiness", "Explaining happiness", "Pruning happiness"]
    for clips, options in ((happy_clips[:50], {}), (happy_clips[:50], {"sizes": (468, 8)})):
        stages = Stages()
        run(clips, tmp_path, stages, **options)
        assert stages.titles[:3] == everything
    assert json.loads((tmp_path / "experiment.json").read_text())["sizes"] == [468, 8]


def test_a_replication_extracts_and_runs_the_experiment(happy_clips, monkeypatch, tmp_path):
    """The loader and the detector have tests of their own; here they only hand over."""
    table = pd.DataFrame({"path": "x", "label": ["happiness", "neutral", ""], "subject": "a"})
    called = {}

    def extract(rows, out, **options):
        called["rows"], called["out"] = rows, out
        return "store"

    def experiment(clips, out, **options):
        called["clips"], called["options"] = clips, options
        return [], pd.DataFrame()

    monkeypatch.setitem(replicate.DATASETS, "ck+", lambda root: table)
    monkeypatch.setattr(replicate, "extract", extract)
    monkeypatch.setattr(replicate, "run_experiment", experiment)
    monkeypatch.setattr(fx.ClipSet, "from_store", lambda store, frames: (store, frames))
    run_replication("root", tmp_path, dataset="ck+", stage=Stages())
    assert called["rows"]["label"].tolist() == ["happiness", "neutral"]
    assert called["out"] == tmp_path / "clips.parquet"
    assert called["clips"] == ("store", 20)
    assert called["options"]["emotions"] == ["happiness"]
    with pytest.raises(ValueError, match="^emotions: expected some of happiness, got joy"):
        run_replication("root", tmp_path, dataset="ck+", stage=Stages(), emotions=["joy"])


def test_an_unknown_data_set_names_those_known(tmp_path):
    with pytest.raises(ValueError, match=r"^dataset: expected one of ck\+, .* got 'fer'"):
        run_replication(tmp_path, tmp_path / "out", dataset="fer", stage=Stages())
    assert not (tmp_path / "out").exists()
