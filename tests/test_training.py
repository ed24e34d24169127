"""The scikit-learn contract; seeds; and scores that are honest about people never seen."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score

from fastexai import training
from fastexai.models import build_network
from fastexai.training import EmotionClassifier

ARCHITECTURES = ("bilstm", "randomized_bilstm")
architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)


def small(architecture="randomized_bilstm", **parameters):
    """A classifier that fits in a moment."""
    return EmotionClassifier(
        "happiness", architecture, **{"hidden": 8, "max_epochs": 3} | parameters
    )


def weights_of(classifier):
    return {name: value.clone() for name, value in classifier.network_.state_dict().items()}


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# --- scikit-learn ----------------------------------------------------------------------------------


def test_parameters_can_be_read_set_and_cloned():
    clf = EmotionClassifier("fear", "randomized_bilstm", kept=[1, 2], hidden=7, seed=3)
    copy = clone(clf)
    assert copy is not clf
    assert copy.get_params() == clf.get_params()
    assert copy.get_params()["emotion"] == "fear"
    assert copy.set_params(hidden=9) is copy
    assert (copy.hidden, clf.hidden) == (9, 7)
    with pytest.raises(ValueError, match="nonsense"):
        clf.set_params(nonsense=1)


def test_fit_changes_no_parameter_and_a_clone_is_not_fitted(few_clips):
    clf = small()
    before = clf.get_params()
    assert clf.fit(few_clips) is clf
    assert clf.get_params() == before
    assert not hasattr(clone(clf), "network_")


@architectures
def test_a_pickle_answers_the_same(architecture, few_clips):
    clf = small(architecture).fit(few_clips)
    copy = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(
        copy.decision_function(few_clips), clf.decision_function(few_clips)
    )


def test_answers_have_scikit_learns_shapes_and_agree(randomized, unseen_clips):
    n = len(unseen_clips)
    logits = randomized.decision_function(unseen_clips)
    chances = randomized.predict_proba(unseen_clips)
    answers = randomized.predict(unseen_clips)
    assert logits.shape == answers.shape == (n,)
    assert chances.shape == (n, 2)
    np.testing.assert_allclose(chances.sum(1), 1)
    np.testing.assert_allclose(chances[:, 1], 1 / (1 + np.exp(-logits.astype(float))), rtol=1e-12)
    np.testing.assert_array_equal(answers, logits > 0)
    np.testing.assert_array_equal(answers, randomized.classes_[chances.argmax(1)])
    assert randomized.classes_.tolist() == [False, True]
    truth = unseen_clips.labels == "happiness"
    assert randomized.score(unseen_clips) == balanced_accuracy_score(truth, answers)
    assert randomized.score(unseen_clips.X, truth) == randomized.score(unseen_clips)


def test_arrays_and_clip_sets_are_the_same(few_clips):
    one = small().fit(few_clips)
    other = small().fit(few_clips.X, few_clips.labels == "happiness", few_clips.subjects)
    assert_same_weights(weights_of(one), weights_of(other))
    np.testing.assert_array_equal(
        one.decision_function(few_clips), one.decision_function(few_clips.X)
    )


def test_classes_keep_their_names(few_clips):
    y = np.where(few_clips.labels == "happiness", "yes", "no")
    clf = small().fit(few_clips.X, y)
    assert clf.classes_.tolist() == ["no", "yes"]
    assert set(clf.predict(few_clips)) == {"no", "yes"}
    assert clf.score(few_clips.X, y) > 0.7


def test_fitted_networks_are_in_evaluation_mode_and_frozen(randomized, bilstm):
    for clf in (randomized, bilstm):
        assert not clf.network_.training
        assert not any(p.requires_grad for p in clf.network_.parameters())


def test_many_clips_answer_as_few_do(few_clips, monkeypatch):
    clf = small().fit(few_clips)
    expected = clf.decision_function(few_clips)
    monkeypatch.setattr(training, "_FORWARD_CLIPS", 7)
    np.testing.assert_allclose(clf.decision_function(few_clips), expected, rtol=1e-4, atol=1e-4)


def test_prototypes_are_training_clips_without_the_emotion(randomized, clips):
    without = {clip.tobytes() for clip in clips.X[clips.labels != "happiness"]}
    assert len(randomized.prototypes_) == 5
    assert {clip.tobytes() for clip in randomized.prototypes_} <= without


def test_few_clips_without_the_emotion_give_few_prototypes(few_clips):
    positive = np.flatnonzero(few_clips.labels == "happiness")
    rest = np.flatnonzero(few_clips.labels != "happiness")[:3]
    assert len(small().fit(few_clips[np.concatenate([positive, rest])]).prototypes_) == 3


# --- Seeds -------------------------------------------------------------------------------------------


@architectures
def test_a_seed_gives_the_same_network_bit_for_bit(architecture, few_clips):
    torch.manual_seed(1)
    np.random.seed(1)
    one = weights_of(small(architecture, seed=5).fit(few_clips))
    torch.manual_seed(2)
    np.random.seed(2)
    assert_same_weights(one, weights_of(small(architecture, seed=5).fit(few_clips)))


@architectures
def test_another_seed_gives_another_network(architecture, few_clips):
    one, other = (small(architecture, seed=seed).fit(few_clips) for seed in (0, 1))
    assert not torch.equal(one.network_.lstm.weight_hh_l0, other.network_.lstm.weight_hh_l0)


def test_drawing_a_network_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    build_network("bilstm", kept=torch.arange(4), landmarks=9, hidden=3, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_randomised_layer_is_drawn_once_and_never_trained(few_clips, clips):
    """The same weights before any fit, and after fits to different clips."""
    shape = {"kept": torch.arange(24), "landmarks": 24, "hidden": 8, "seed": 0}
    drawn = build_network("randomized_bilstm", **shape).lstm.state_dict()
    assert not any(
        p.requires_grad for p in build_network("randomized_bilstm", **shape).lstm.parameters()
    )
    fits = [small().fit(few_clips), small().fit(few_clips[:60])]
    for clf in fits:
        assert_same_weights(drawn, clf.network_.lstm.state_dict())
    assert not torch.equal(fits[0].network_.readout.weight, fits[1].network_.readout.weight)


def test_the_trained_layer_is_trained(few_clips):
    shape = {"kept": torch.arange(24), "landmarks": 24, "hidden": 8, "seed": 0}
    drawn = build_network("bilstm", **shape).lstm.state_dict()
    fitted = small("bilstm").fit(few_clips).network_.lstm.state_dict()
    assert not any(torch.equal(drawn[name], value) for name, value in fitted.items())


def test_random_recurrent_weights_have_the_stated_spectral_radius():
    network = build_network(
        "randomized_bilstm", kept=torch.arange(20), landmarks=20, hidden=256, seed=0
    )
    for block in network.lstm.weight_hh_l0.split(256):
        radius = torch.linalg.eigvals(block).abs().max()
        assert float(radius) == pytest.approx(0.9, abs=0.1)  # Girko's law, at a finite size


# --- Accuracy, and none where there is none ------------------------------------------------------------


def test_both_architectures_know_happiness_in_strangers(randomized, bilstm, unseen_clips):
    """Chance is 0.5; the standard deviation of guessing on 160 clips is 0.04."""
    assert randomized.score(unseen_clips) > 0.85
    assert bilstm.score(unseen_clips) > 0.85


def test_early_stopping_looks_at_strangers(few_clips, monkeypatch):
    subject = {
        clip.tobytes(): who for clip, who in zip(few_clips.X, few_clips.subjects, strict=True)
    }
    seen = {}
    predefined_split, fit = training.predefined_split, skorch.NeuralNetBinaryClassifier.fit

    def record_validation(dataset):
        seen["validation"] = {subject[clip.tobytes()] for clip in dataset.X}
        return predefined_split(dataset)

    def record_training(self, X, y):
        seen["training"] = {subject[clip.tobytes()] for clip in X}
        return fit(self, X, y)

    monkeypatch.setattr(training, "predefined_split", record_validation)
    monkeypatch.setattr(skorch.NeuralNetBinaryClassifier, "fit", record_training)
    small("bilstm").fit(few_clips)
    assert not seen["training"] & seen["validation"]
    assert seen["training"] | seen["validation"] == set(few_clips.subjects)


# --- What a network reads --------------------------------------------------------------------------------


@architectures
def test_landmarks_that_are_not_kept_do_not_matter(architecture, few_clips):
    kept = [3, 17, 8]
    clf = small(architecture, kept=kept).fit(few_clips)
    other = few_clips.X.copy()
    rest = np.setdiff1d(np.arange(24), kept)
    other[:, :, rest] = np.random.default_rng(0).normal(size=other[:, :, rest].shape)
    np.testing.assert_array_equal(clf.decision_function(other), clf.decision_function(few_clips))
    other[:, 0, 17] += 1
    assert (clf.decision_function(other) != clf.decision_function(few_clips)).all()


@architectures
def test_a_face_that_never_moves_is_no_evidence(architecture, few_clips):
    """The clip's mean face is subtracted: only movement counts."""
    clf = small(architecture).fit(few_clips)
    still = np.repeat(few_clips.X[:, :1], few_clips.X.shape[1], axis=1)
    logits = clf.decision_function(still)
    np.testing.assert_allclose(logits, logits[0], atol=1e-3)
    assert np.ptp(clf.decision_function(few_clips)) > 0.1


def test_extreme_evidence_is_a_probability(few_clips):
    clf = small().fit(few_clips)
    with torch.no_grad():
        clf.network_.readout.weight.zero_()
        clf.network_.readout.bias.fill_(-2000)
    np.testing.assert_array_equal(clf.predict_proba(few_clips)[:, 1], 0)


# --- Errors ------------------------------------------------------------------------------------------------


def nan_in(X, clip):
    X = X.copy()
    X[clip, 0, 0, 0] = np.nan
    return X


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"X": lambda X: X[..., :2]},
            r"X: expected \(N, T, L, 3\) with N >= 1, got \(40, 7, 24, 2",
        ),
        ({"X": lambda X: X[0]}, r"X: expected \(N, T, L, 3\) with N >= 1, got \(7, 24, 3\)"),
        ({"X": lambda X: X[:0]}, r"X: expected \(N, T, L, 3\) with N >= 1, got \(0, 7, 24, 3\)"),
        ({"X": lambda X: nan_in(X, 7)}, "X: expected finite values, got NaN or Inf in clip 7"),
        ({"y": lambda y: None}, "y: expected one label per clip, got none"),
        ({"y": lambda y: y[:5]}, r"y: expected \(40,\), got \(5,\)"),
        ({"y": lambda y: np.ones(40)}, r"y: expected two classes .* got 1: 1\.0"),
        ({"y": lambda y: np.arange(40) % 3}, "y: expected two classes .* got 3: 0, 1, 2"),
        ({"groups": lambda g: g[:5]}, r"groups: expected \(40,\), got \(5,\)"),
    ],
)
def test_fit_says_what_it_takes(change, message, few_clips):
    few = few_clips[:40]
    arguments = {"X": few.X, "y": few.labels == "happiness", "groups": few.subjects}
    for name, alter in change.items():
        arguments[name] = alter(arguments[name])
    with pytest.raises(ValueError, match=f"^{message}"):
        small().fit(**arguments)


def test_labels_beside_a_clip_set_are_refused(few_clips):
    for extra in ({"y": few_clips.labels}, {"groups": few_clips.subjects}):
        with pytest.raises(ValueError, match="^y, groups: expected none beside a ClipSet"):
            small().fit(few_clips, **extra)


def test_an_emotion_that_nobody_shows_is_named(few_clips):
    with pytest.raises(ValueError, match="^y: expected two classes .'joy' and the rest., got 1"):
        EmotionClassifier("joy").fit(few_clips)


@pytest.mark.parametrize("kept", [[], [24], [-1], [0, 99]])
def test_kept_landmarks_must_exist(kept, few_clips):
    with pytest.raises(ValueError, match=r"^kept: expected landmarks in \[0, 24\), got \["):
        small(kept=kept).fit(few_clips)


def test_an_unknown_architecture_names_those_known(few_clips):
    message = "^architecture: expected one of bilstm, randomized_bilstm, got 'transformer'"
    with pytest.raises(ValueError, match=message):
        small("transformer").fit(few_clips)


def test_too_few_people_to_stop_early_are_refused(few_clips):
    three = few_clips[np.isin(few_clips.subjects, np.unique(few_clips.subjects)[:3])]
    with pytest.raises(ValueError, match="number of subjects, 3, got 5"):
        small("bilstm").fit(three)


def test_answers_need_a_fit_and_as_many_landmarks(few_clips):
    with pytest.raises(ValueError, match="not fitted yet"):
        small().predict(few_clips)
    clf = small().fit(few_clips)
    with pytest.raises(ValueError, match="^X: expected 24 landmarks per frame, got 23"):
        clf.predict(few_clips.X[:, :, :23])
    with pytest.raises(ValueError, match="^X: expected finite values, got NaN or Inf in clip 2"):
        clf.predict(nan_in(few_clips.X, 2))


def test_prototypes_are_neutral_training_clips_where_there_are_enough(clips):
    fitted = EmotionClassifier("happiness", "randomized_bilstm").fit(clips)
    neutral = clips.X[clips.labels == "neutral"]
    for prototype in fitted.prototypes_:
        assert (neutral == prototype).all(axis=(1, 2, 3)).any()
    labels = np.where(clips.labels == "neutral", "anger", clips.labels)
    fitted = EmotionClassifier("happiness", "randomized_bilstm").fit(replace(clips, labels=labels))
    rest = clips.X[labels != "happiness"]
    for prototype in fitted.prototypes_:
        assert (rest == prototype).all(axis=(1, 2, 3)).any()
