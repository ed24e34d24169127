"""The most probable of several emotions, in one object and in one folder."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.validation import check_is_fitted

import fastexai as fx
from fastexai.training import EmotionClassifier


@pytest.fixture(scope="module")
def emotional_clips():
    """Three labels, a third of the frames and an eighth of the landmarks; 20 people."""
    clips = fx.datasets.simulate_expressions(
        200, emotions=("happiness", "surprise"), seed=0, difficulty=0.1
    )
    X = np.ascontiguousarray(clips.X[:, ::3, ::8])
    return fx.ClipSet(X, clips.labels, clips.subjects, clips.ids)


def small():
    return EmotionClassifier(architecture="randomized_bilstm", hidden=8)


@pytest.fixture(scope="module")
def halves(emotional_clips):
    first = np.isin(emotional_clips.subjects, np.unique(emotional_clips.subjects)[:10])
    return emotional_clips[first], emotional_clips[~first]


@pytest.fixture(scope="module")
def ensemble(halves):
    return fx.EmotionEnsemble(estimator=small()).fit(halves[0])


@pytest.fixture
def folder(ensemble, tmp_path):
    ensemble.export(tmp_path / "emotions")
    return tmp_path / "emotions"


def test_it_tells_the_emotions_of_strangers_apart(ensemble, halves):
    _, strangers = halves
    assert ensemble.classes_.tolist() == ["happiness", "neutral", "surprise"]
    assert ensemble.score(strangers) > 0.75
    answer = ensemble.predict(strangers)
    assert ensemble.score(strangers) == balanced_accuracy_score(strangers.labels, answer)


def test_frozen_layers_are_asked_once(halves, monkeypatch):
    asked, ask = [], EmotionClassifier._frozen
    monkeypatch.setattr(
        EmotionClassifier,
        "_frozen",
        lambda clf, clips: asked.append(clf.emotion) or ask(clf, clips),
    )
    several = fx.EmotionEnsemble(estimator=small()).fit(halves[0])
    assert asked == ["happiness"]
    networks = [clf.network_ for clf in several.classifiers_]
    assert len({network.readout.weight.data_ptr() for network in networks}) == 3


def saying(*probabilities):
    """An ensemble whose classifiers say these, whatever the clip."""

    class Told(EmotionClassifier):
        def predict_proba(self, X):
            return np.tile([1 - self.seed / 1000, self.seed / 1000], (len(X), 1))

    told = fx.EmotionEnsemble()
    told.classes_ = np.array(["a", "b", "c", "d"][: len(probabilities)])
    told.classifiers_ = [Told(seed=round(1000 * p)) for p in probabilities]
    return told


def test_probabilities_are_those_of_the_classifiers_alone(ensemble, halves):
    """With half of their log-odds in the softmax."""
    _, strangers = halves
    share = ensemble.predict_proba(strangers)
    odds = np.empty(share.shape)
    for column, emotion in enumerate(ensemble.classes_):
        alone = small().set_params(emotion=emotion).fit(halves[0])
        no, yes = alone.predict_proba(strangers).T
        odds[:, column] = np.clip(yes, 1e-6, 1 - 1e-6) / np.clip(no, 1e-6, 1 - 1e-6)
    halved = np.sqrt(odds)
    np.testing.assert_allclose(share, halved / halved.sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(
        ensemble.predict(strangers), ensemble.classes_[share.argmax(axis=1)]
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((0.9, 0.1), [0.9, 0.1]),
        ((0.0, 0.0, 0.0), [1 / 3, 1 / 3, 1 / 3]),
        ((1.0, 1.0), [0.5, 0.5]),
        ((0.5, 0.5, 0.2, 0.2), [1 / 3, 1 / 3, 1 / 6, 1 / 6]),
        ((1.0, 0.0), [1 - 1e-6, 1e-6]),
    ],
)
def test_classifiers_that_agree_keep_their_probabilities(said, expected):
    probability = saying(*said).predict_proba(np.zeros((2, 1, 1, 3), np.float32))
    np.testing.assert_allclose(probability, [expected, expected], rtol=1e-6)


def test_arrays_are_fitted_as_clips_are(ensemble, halves):
    training, strangers = halves
    same = fx.EmotionEnsemble(estimator=small()).fit(training.X, training.labels, training.subjects)
    np.testing.assert_array_equal(
        same.predict_proba(strangers.X), ensemble.predict_proba(strangers)
    )
    assert same.score(strangers.X, strangers.labels) == ensemble.score(strangers)


def test_without_neutral_every_clip_gets_an_emotion(halves):
    training, strangers = halves
    chosen = fx.EmotionEnsemble(["surprise", "happiness"], small()).fit(training)
    assert chosen.classes_.tolist() == ["happiness", "surprise"]
    assert set(chosen.predict(strangers)) == {"happiness", "surprise"}
    emotional = strangers.labels != "neutral"
    recalls = [chosen.score(strangers[strangers.labels == label]) for label in chosen.classes_]
    assert min(recalls) > 0.75
    assert chosen.score(strangers[emotional]) == pytest.approx(np.mean(recalls))
    assert chosen.score(strangers) == pytest.approx(sum(recalls) / 3)  # neutral is never recognised


def test_it_is_a_scikit_learn_estimator(ensemble, halves):
    copy = clone(ensemble)
    assert not hasattr(copy, "classes_")
    assert copy.get_params()["estimator__hidden"] == 8
    assert copy.set_params(estimator__hidden=4).estimator.hidden == 4
    assert ensemble.estimator.hidden == 8
    check_is_fitted(ensemble)
    twin = pickle.loads(pickle.dumps(ensemble))
    np.testing.assert_array_equal(twin.predict_proba(halves[1]), ensemble.predict_proba(halves[1]))


def test_the_default_is_a_randomized_network(halves):
    pair = fx.EmotionEnsemble(["happiness", "neutral"]).fit(halves[0])
    assert [clf.architecture for clf in pair.classifiers_] == ["randomized_bilstm"] * 2
    assert [clf.emotion for clf in pair.classifiers_] == ["happiness", "neutral"]


def test_a_folder_comes_back_as_it_was(ensemble, halves, folder):
    assert {path.name for path in folder.iterdir()} == {
        *("ensemble.json", "happiness.pt", "neutral.pt", "surprise.pt")
    }
    loaded = fx.EmotionEnsemble.load(folder)
    np.testing.assert_array_equal(loaded.classes_, ensemble.classes_)
    np.testing.assert_allclose(
        loaded.predict_proba(halves[1]), ensemble.predict_proba(halves[1]), atol=1e-6
    )
    assert clone(loaded).fit(halves[0]).score(halves[1]) == ensemble.score(halves[1])


def test_any_label_makes_a_file_name(halves, tmp_path):
    training, _ = halves
    labels = np.where(training.labels == "neutral", "../n/a", training.labels)
    strange = fx.EmotionEnsemble(estimator=small()).fit(training.X, labels)
    strange.export(tmp_path / "deep" / "strange")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["strange"]
    loaded = fx.EmotionEnsemble.load(tmp_path / "deep" / "strange")
    assert loaded.classes_.tolist() == ["../n/a", "happiness", "surprise"]


def test_a_folder_is_replaced_only_if_told_and_only_if_an_ensemble_wrote_it(
    ensemble, folder, tmp_path
):
    (folder / "old").touch()
    with pytest.raises(FileExistsError, match=r"^folder: expected none \(or overwrite=True\)"):
        ensemble.export(folder)
    ensemble.export(folder, overwrite=True)
    assert not (folder / "old").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match=r"^folder: expected an ensemble's folder or none"):
        ensemble.export(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"emotions", "mine"}


@pytest.mark.parametrize("existed", [True, False])
def test_a_folder_appears_whole_or_not_at_all(ensemble, folder, monkeypatch, existed):
    if not existed:
        shutil.rmtree(folder)
    export, calls = EmotionClassifier.export, []

    def stopped(self, path, **options):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        export(self, path, **options)

    monkeypatch.setattr(EmotionClassifier, "export", stopped)
    with pytest.raises(KeyboardInterrupt):
        ensemble.export(folder, overwrite=True)
    assert list(folder.parent.iterdir()) == ([folder] if existed else [])
    if existed:
        assert fx.EmotionEnsemble.load(folder).classes_.tolist() == ensemble.classes_.tolist()


def test_an_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    ensemble, folder, monkeypatch
):
    rename, old = type(folder).rename, (folder / "ensemble.json").stat().st_ino

    def refused(self, target):
        if target == folder and not self.name.endswith("-old"):
            raise PermissionError("not allowed")
        return rename(self, target)

    monkeypatch.setattr(type(folder), "rename", refused)
    with pytest.raises(PermissionError, match="not allowed"):
        ensemble.export(folder, overwrite=True)
    assert (folder / "ensemble.json").stat().st_ino == old
    assert list(folder.parent.iterdir()) == [folder]


def test_folders_that_are_no_ensembles_are_refused(folder, tmp_path):
    manifest = folder / "ensemble.json"
    for path in (tmp_path / "nowhere", folder / "happiness.pt"):
        with pytest.raises(FileNotFoundError, match=r"^folder: expected one written by Emotion"):
            fx.EmotionEnsemble.load(path)
    good = json.loads(manifest.read_text())
    for text, message in [
        ("{", "folder: expected JSON in"),
        ("[]", "folder: expected format 1, got another"),
        (json.dumps(good | {"format": 2}), "folder: expected format 1, got another"),
        (
            json.dumps(good | {"files": good["files"] | {"neutral": "happiness.pt"}}),
            "folder: expected a classifier of 'neutral' in happiness.pt, got 'happiness'",
        ),
    ]:
        manifest.write_text(text)
        with pytest.raises(ValueError, match=f"^{message}"):
            fx.EmotionEnsemble.load(folder)
    manifest.write_text(json.dumps(good))
    (folder / "neutral.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"neutral\.pt, which does not exist"):
        fx.EmotionEnsemble.load(folder)


@pytest.mark.parametrize(
    ("emotions", "message"),
    [
        (["happiness"], r"emotions: expected two or more different labels, got \['happiness'\]"),
        (["happiness", "happiness"], "emotions: expected two or more different labels"),
        ("happiness", "emotions: expected two or more different labels, got happiness"),
        (["joy", "happiness"], r"emotions: .* \('happiness', 'neutral', 'surprise'\), got 'joy'"),
    ],
)
def test_wrong_emotions_are_refused(halves, emotions, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        fx.EmotionEnsemble(emotions, small()).fit(halves[0])


def test_labels_are_needed_once(halves):
    training, _ = halves
    with pytest.raises(ValueError, match=r"^y: expected none beside a ClipSet"):
        fx.EmotionEnsemble().fit(training, training.labels)
    with pytest.raises(ValueError, match=r"^y: expected one label per clip, got none"):
        fx.EmotionEnsemble().fit(training.X)
