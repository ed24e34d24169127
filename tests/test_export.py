"""A model file answers as its classifier does, describes itself, and is whole or not there."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
import subprocess
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fastexai as fx
from fastexai import Normalization, OneEuro
from fastexai.calibration import Calibration
from fastexai.export import ModelMetadata, read_model, write_model
from fastexai.model_loading import load_model
from fastexai.models import ARCHITECTURES
from fastexai.training import EmotionClassifier

FITTED = {"randomized": "exported", "bilstm": "exported_bilstm"}


@pytest.fixture(params=FITTED)
def pair(request):
    """A fitted classifier and its file."""
    return request.getfixturevalue(request.param), request.getfixturevalue(FITTED[request.param])


@pytest.fixture
def small(few_clips):
    """A fitted classifier that reads a part of the landmarks."""
    clf = EmotionClassifier("happiness", "randomized_bilstm", kept=[5, 2, 11, 20], hidden=8)
    return clf.fit(few_clips)


def load_script(path, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        return torch.jit.load(path, **options)


def test_torchscript_answers_as_the_classifier_does(pair, unseen_clips):
    clf, path = pair
    expected = clf.decision_function(unseen_clips)
    script, inputs = load_script(path), torch.from_numpy(unseen_clips.X)
    scale = np.abs(expected).max()
    for _ in range(3):  # TorchScript optimises itself after its first runs
        logits = script(inputs).numpy()
        assert logits.shape == expected.shape
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-6 * scale)


def test_the_core_answers_as_the_classifier_does(pair, unseen_clips):
    clf, path = pair
    expected = clf.decision_function(unseen_clips)
    logits = load_model(path).value(torch.from_numpy(unseen_clips.X)).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_loading_gives_the_classifier_back(pair, unseen_clips):
    clf, path = pair
    loaded = EmotionClassifier.load(path)
    for name, value in clf.network_.state_dict().items():
        assert torch.equal(loaded.network_.state_dict()[name], value), name
    np.testing.assert_array_equal(
        loaded.decision_function(unseen_clips), clf.decision_function(unseen_clips)
    )
    np.testing.assert_array_equal(loaded.predict(unseen_clips), clf.predict(unseen_clips))
    np.testing.assert_array_equal(loaded.prototypes_, clf.prototypes_)
    assert loaded.get_params() == clf.get_params()
    assert loaded.frames_ == clf.frames_
    assert not loaded.network_.training
    assert not any(p.requires_grad for p in loaded.network_.parameters())


def test_what_was_loaded_can_be_exported_again(small, few_clips, tmp_path):
    small.export(tmp_path / "one.pt")
    EmotionClassifier.load(tmp_path / "one.pt").export(tmp_path / "two.pt")
    one, other = (read_model(tmp_path / name) for name in ("one.pt", "two.pt"))
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1], other[1])
    again = EmotionClassifier.load(tmp_path / "two.pt")
    np.testing.assert_array_equal(
        again.decision_function(few_clips), small.decision_function(few_clips)
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("features", ["positions", "both"])
def test_every_architecture_answers_the_same_from_its_file(
    architecture, features, few_clips, tmp_path
):
    clf = EmotionClassifier(
        "happiness", architecture, features=features, hidden=8, max_epochs=2, kept=range(3, 20)
    )
    path = tmp_path / "model.pt"
    clf.fit(few_clips).export(path)
    expected = clf.decision_function(few_clips)
    tolerance = 1e-6 * max(1, np.abs(expected).max())
    script, inputs = load_script(path), torch.from_numpy(few_clips.X)
    for answer in (script(inputs), script(inputs), load_model(path).value(inputs)):
        np.testing.assert_allclose(answer, expected, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(
        EmotionClassifier.load(path).decision_function(few_clips), expected
    )


def test_every_parameter_comes_back(few_clips, tmp_path):
    clf = EmotionClassifier(
        "happiness",
        "randomized_conv",
        kept=np.arange(12),
        hidden=9,
        features="both",
        readout="logistic",
        augmentation=fx.Augmentation(jitter=0.01, time_warp=0.2, copies=2),
        threshold="balanced_accuracy",
        calibration="isotonic",
        max_epochs=3,
        patience=4,
        lr=0.5,
        batch_size=6,
        seed=np.int64(7),
    )
    clf.fit(few_clips).export(tmp_path / "model.pt")
    loaded = EmotionClassifier.load(tmp_path / "model.pt")
    assert loaded.get_params() == clf.get_params() | {"kept": list(range(12))}
    assert (loaded.threshold_, loaded.calibration_) == (clf.threshold_, clf.calibration_)
    np.testing.assert_array_equal(loaded.predict_proba(few_clips), clf.predict_proba(few_clips))
    np.testing.assert_array_equal(loaded.predict(few_clips), clf.predict(few_clips))
    np.testing.assert_array_equal(
        loaded.fit(few_clips).decision_function(few_clips), clf.decision_function(few_clips)
    )


_PROGRAM = """
#include <torch/script.h>

#include <iostream>

int main(int, char** argv) {
  auto model = torch::jit::load(argv[1]);
  const auto clips = torch::arange(2 * 5 * 24 * 3).to(torch::kFloat).mul(0.7).sin();
  const auto logits = model.forward({clips.view({2, 5, 24, 3})}).toTensor();
  std::cout.precision(9);
  for (int i = 0; i < 2; ++i) std::cout << logits[i].item<float>() << std::endl;
}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_program_that_knows_nothing_of_this_package_runs_the_file(few_clips, tmp_path):
    path, source, program = (tmp_path / name for name in ("model.pt", "main.cpp", "main"))
    clf = EmotionClassifier("happiness", "randomized_bilstm", hidden=8)
    clf.fit(few_clips.X[:, :5], few_clips.labels == "happiness").export(path)
    source.write_text(_PROGRAM)
    torch_folder = Path(torch.__file__).parent
    include, lib = torch_folder / "include", torch_folder / "lib"
    flags = [f"-I{include}", f"-I{include}/torch/csrc/api/include", f"-L{lib}", f"-Wl,-rpath,{lib}"]
    libraries = ["-Wl,--no-as-needed", "-ltorch_cpu", "-ltorch", "-lc10"]
    command = ["g++", "-std=c++20", "-O0", str(source), "-o", str(program), *flags, *libraries]
    subprocess.run(command, check=True)
    answer = subprocess.run([program, path], check=True, capture_output=True, text=True).stdout
    clips = torch.arange(2 * 5 * 24 * 3).to(torch.float32).mul(0.7).sin().view(2, 5, 24, 3)
    expected = clf.decision_function(clips.numpy())
    np.testing.assert_allclose(np.array(answer.split(), float), expected, rtol=1e-5, atol=1e-6)


def test_loading_needs_no_torchscript(small, few_clips, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("TorchScript was asked")

    small.export(tmp_path / "model.pt")
    for name in ("load", "script", "trace"):
        monkeypatch.setattr(torch.jit, name, refuse)
    loaded = EmotionClassifier.load(str(tmp_path / "model.pt"))
    np.testing.assert_array_equal(
        loaded.decision_function(few_clips), small.decision_function(few_clips)
    )


def test_a_classifier_with_named_classes_keeps_their_names(few_clips, tmp_path):
    y = np.where(few_clips.labels == "happiness", "yes", "no")
    clf = EmotionClassifier("happiness", "randomized_bilstm", hidden=8).fit(few_clips.X, y)
    clf.export(tmp_path / "model.pt")
    loaded = EmotionClassifier.load(tmp_path / "model.pt")
    np.testing.assert_array_equal(loaded.predict(few_clips), clf.predict(few_clips))


def test_metadata_says_what_the_model_is(small, few_clips, tmp_path):
    small.export(tmp_path / "model.pt")
    metadata, baselines, weights = read_model(tmp_path / "model.pt")
    assert metadata.emotion == "happiness"
    assert metadata.parameters["architecture"] == "randomized_bilstm"
    assert metadata.landmarks == 24
    assert metadata.frames == few_clips.X.shape[1]
    assert metadata.kept == [5, 2, 11, 20]
    assert metadata.parameters["hidden"] == 8
    assert metadata.versions["torch"] == torch.__version__
    assert set(metadata.versions) >= {"fastexai", "torch", "numpy"}
    np.testing.assert_array_equal(baselines, small.prototypes_)
    assert weights.keys() == small.network_.state_dict().keys()


def test_metadata_names_the_normalisation_of_the_training_clips(few_clips, exported, tmp_path):
    assert read_model(exported)[0].normalization == Normalization()
    own = Normalization("eyes", OneEuro(), 3)
    clf = fx.EmotionClassifier("happiness", "randomized_bilstm", hidden=4)
    clf.fit(replace(few_clips, normalization=own)).export(tmp_path / "own.pt")
    assert read_model(tmp_path / "own.pt")[0].normalization == own
    assert fx.EmotionClassifier.load(tmp_path / "own.pt").normalization_ == own
    with pytest.raises(
        ValueError, match=r"clips: expected the model's Normalization\(alignment='eyes'"
    ):
        fx.explain_dataset(tmp_path / "own.pt", few_clips)


def test_metadata_comes_back_as_it_was_given(tmp_path):
    metadata = ModelMetadata(
        emotion="Überraschung \N{GRINNING FACE}",
        landmarks=7,
        frames=3,
        kept=[6, 0],
        parameters={"hidden": 2, "augmentation": {"mirror": True}},
        classes=["no", "yes"],
        threshold=-0.5,
        calibration=Calibration(logits=(0.0, 1.0), probabilities=(0.1, 0.3)),
        normalization=Normalization("eyes", OneEuro(beta=0.5), 2),
        versions={"a": "1"},
    )
    network, baselines = nn.Linear(3, 1).eval(), np.ones((2, 3, 7, 3), np.float32)
    write_model(tmp_path / "model.pt", network, metadata, baselines)
    back, typical, weights = read_model(tmp_path / "model.pt")
    assert back == metadata
    np.testing.assert_array_equal(typical, baselines)
    np.testing.assert_array_equal(weights["weight"], network.weight.detach())


def test_any_libtorch_program_can_read_the_description(exported):
    extra = {"fastexai.json": "", "baselines.npy": "", "state_dict.npz": ""}
    load_script(exported, _extra_files=extra)
    assert json.loads(extra["fastexai.json"])["emotion"] == "happiness"
    assert all(extra.values())


def test_export_scripts_in_evaluation_mode_whatever_the_network_was_in(small, tmp_path):
    small.network_.train()
    small.export(tmp_path / "model.pt")
    assert not load_script(tmp_path / "model.pt").training


def test_export_needs_a_fit(tmp_path):
    with pytest.raises(ValueError, match="not fitted yet"):
        EmotionClassifier().export(tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_made_and_an_old_file_replaced_if_asked_for(small, tmp_path):
    path = tmp_path / "new" / "folder" / "model.pt"
    small.export(path)
    path.write_text("damaged")
    with pytest.raises(
        FileExistsError, match="^path: expected a new file, got .*model.pt, .* overwrite=True"
    ):
        small.export(path)
    assert path.read_text() == "damaged"
    small.export(path, overwrite=True)
    assert EmotionClassifier.load(path).emotion == "happiness"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, b"the old file"])
def test_an_interrupted_export_leaves_nothing_half_written(
    error, old, small, tmp_path, monkeypatch
):
    path = tmp_path / "model.pt"
    if old is not None:
        path.write_bytes(old)

    def save(script, file, **_):
        Path(file).write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch.jit, "save", save)
    with pytest.raises(type(error)):
        small.export(path, overwrite=True)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if old is None else [old])


# --- Other files -----------------------------------------------------------------------------------------


def copy_with(source, target, change):
    """Copy an archive; ``change`` maps a member's name and bytes to new bytes, or None to drop it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            content = change(Path(member).name, old.read(member))
            if content is not None:
                new.writestr(member, content)


def assert_refused(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        EmotionClassifier.load(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path / "missing.pt", tmp_path):
        with pytest.raises(FileNotFoundError, match="^model: expected a TorchScript file, got "):
            EmotionClassifier.load(path)


def test_files_of_other_kinds_are_refused(tmp_path):
    text, weights, foreign = (tmp_path / name for name in ("text.pt", "weights.pt", "foreign.pt"))
    text.write_text("not a model")
    torch.save(nn.Linear(2, 2).state_dict(), weights)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        torch.jit.save(torch.jit.script(nn.Linear(2, 1)), foreign)
    for path in (text, weights, foreign):
        assert_refused(path, rf"^model: expected a file written by export\(\), got .*{path.name}")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(share, exported, tmp_path):
    whole, path = exported.read_bytes(), tmp_path / "truncated.pt"
    path.write_bytes(whole[: int(share * len(whole))])
    assert_refused(path, r"^model: expected a file written by export\(\), got ")


@pytest.mark.parametrize("member", ["fastexai.json", "baselines.npy", "state_dict.npz"])
@pytest.mark.parametrize("damage", ["missing", "empty", "text"])
def test_a_damaged_description_is_refused(member, damage, exported, tmp_path):
    content = {"missing": None, "empty": b"", "text": b"hello"}[damage]
    path = tmp_path / "damaged.pt"
    copy_with(exported, path, lambda name, old: content if name == member else old)
    assert_refused(path, r"^model: expected a file written by export\(\), got ")


@pytest.mark.parametrize("format", [None, 1, 3])
def test_another_format_asks_for_a_new_export(format, exported, tmp_path):
    def change(name, old):
        if name != "fastexai.json":
            return old
        description = json.loads(old)
        assert description.pop("format") == 2
        return json.dumps(description if format is None else {"format": format} | description)

    copy_with(exported, tmp_path / "other.pt", change)
    assert_refused(tmp_path / "other.pt", "^model: expected format 2, got .*; export it again")


def test_a_copied_file_is_as_good(exported, unseen_clips, tmp_path):
    path = shutil.copy(exported, tmp_path / "another name.pt")
    np.testing.assert_array_equal(
        EmotionClassifier.load(path).decision_function(unseen_clips[:5]),
        EmotionClassifier.load(exported).decision_function(unseen_clips[:5]),
    )
