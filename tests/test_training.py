"""The scikit-learn contract; seeds; and scores that are honest about people never seen."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import skorch
import torch
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_no_attributes_set_in_init,
    check_parameters_default_constructible,
)

import fastexai as fx
from fastexai import descent, training
from fastexai.calibration import Calibration, best_threshold, fit_calibration
from fastexai.clip_input import check_clips
from fastexai.folds import subject_folds
from fastexai.models import ARCHITECTURES, ClipNetwork, build_network
from fastexai.readout import fit_logistic, fit_ridge
from fastexai.training import EmotionClassifier

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


# --- In scikit-learn's hands ---------------------------------------------------------------------------


def test_a_grid_search_finds_the_better_parameter(few_clips):
    X, y = few_clips.X, few_clips.labels == "happiness"
    search = GridSearchCV(
        small(), {"kept": [[13], list(range(12))], "seed": [0, 1]}, cv=GroupKFold(3)
    )
    search.fit(X, y, groups=few_clips.subjects)
    assert search.best_params_["kept"] == list(range(12))  # the landmarks that move
    assert search.best_score_ > 0.7
    assert search.predict(X[:3]).shape == (3,)


def test_it_can_be_the_last_step_of_a_pipeline(few_clips):
    X, y = few_clips.X, few_clips.labels == "happiness"
    pipeline = make_pipeline(FunctionTransformer(lambda clips: clips[:, ::2]), small())
    pipeline.fit(X, y, emotionclassifier__groups=few_clips.subjects)
    expected = small().fit(X[:, ::2], y, few_clips.subjects)
    np.testing.assert_array_equal(
        pipeline.decision_function(X), expected.decision_function(X[:, ::2])
    )
    assert pipeline.set_params(emotionclassifier__hidden=3)[-1].hidden == 3


def test_cross_val_predict_gives_every_clip_a_strangers_answer(few_clips):
    X, y, people = few_clips.X, few_clips.labels == "happiness", few_clips.subjects
    logits = cross_val_predict(
        small(),
        X,
        y,
        groups=people,
        cv=GroupKFold(4),
        method="decision_function",
        params={"groups": people},
    )
    training, test = next(GroupKFold(4).split(X, y, people))
    expected = small().fit(X[training], y[training], people[training]).decision_function(X[test])
    np.testing.assert_array_equal(logits[test], expected)


def test_subjects_can_be_routed_as_metadata(few_clips):
    X, y, people = few_clips.X, few_clips.labels == "happiness", few_clips.subjects
    with config_context(enable_metadata_routing=True):
        clf = small().set_fit_request(groups=True)
        routed = cross_val_predict(clf, X, y, params={"groups": people}, cv=GroupKFold(4))
    plain = cross_val_predict(
        small(), X, y, groups=people, cv=GroupKFold(4), params={"groups": people}
    )
    np.testing.assert_array_equal(routed, plain)


def test_scikit_learn_takes_it_for_a_binary_classifier_of_clips():
    tags = get_tags(EmotionClassifier())
    assert is_classifier(EmotionClassifier())
    assert not tags.classifier_tags.multi_class
    assert not tags.input_tags.two_d_array
    for check in (check_no_attributes_set_in_init, check_parameters_default_constructible):
        check("EmotionClassifier", EmotionClassifier())


# --- Readouts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", ["ridge", "logistic", "sgd"])
def test_every_readout_of_frozen_layers_knows_strangers(readout, clips, unseen_clips):
    clf = EmotionClassifier("happiness", "randomized_conv", readout=readout, hidden=32, lr=1e-2)
    assert clf.fit(clips).score(unseen_clips) > 0.85


@pytest.mark.parametrize("readout", ["ridge", "logistic", "sgd"])
def test_features_of_frozen_layers_are_computed_once(readout, few_clips, monkeypatch):
    seen = []
    features = ClipNetwork.features
    monkeypatch.setattr(
        ClipNetwork, "features", lambda self, X: seen.append(len(X)) or features(self, X)
    )
    small(readout=readout, max_epochs=5).fit(few_clips)
    assert sum(seen) == len(few_clips)


def test_trained_layers_need_gradient_descent(few_clips):
    message = "^readout: expected 'sgd' for gru, whose layers are trained, got 'ridge'"
    with pytest.raises(ValueError, match=message):
        small("gru", readout="ridge").fit(few_clips)
    assert small("gru", readout="sgd", max_epochs=1).fit(few_clips)


@pytest.mark.parametrize("features", ["velocities", "both"])
def test_velocities_know_strangers_too(features, clips, unseen_clips):
    clf = EmotionClassifier("happiness", "randomized_bilstm", features=features)
    assert clf.fit(clips).score(unseen_clips) > 0.85


# --- Augmentation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["randomized_conv", "tcn"])
def test_copies_join_the_fit_and_nothing_else(architecture, few_clips, monkeypatch):
    joined = []
    join = fx.Augmentation.join

    def record(self, X, *, seed):
        joined.append(len(X))
        return join(self, X, seed=seed)

    monkeypatch.setattr(fx.Augmentation, "join", record)
    plain = small(architecture).fit(few_clips)
    clf = small(architecture, augmentation=fx.Augmentation(jitter=0.05, copies=2)).fit(few_clips)
    assert joined == [len(few_clips)]
    assert not torch.equal(plain.network_.readout.weight, clf.network_.readout.weight)
    before = clf.decision_function(few_clips)
    np.testing.assert_array_equal(before, clf.decision_function(few_clips))
    assert joined == [len(few_clips)]
    np.testing.assert_array_equal(clf.prototypes_, plain.prototypes_)


def test_mirror_images_make_both_sides_alike(clips, unseen_clips):
    plain = EmotionClassifier("happiness", "randomized_conv").fit(clips)
    both = clone(plain).set_params(augmentation=fx.Augmentation(mirror=True)).fit(clips)
    some, mirrored = unseen_clips.X[:40], fx.augmentation.mirrored(unseen_clips.X[:40])

    def difference(clf):  # in standard deviations: the two do not answer on the same scale
        logits = clf.decision_function(some)
        return np.abs(logits - clf.decision_function(mirrored)).mean() / logits.std()

    assert difference(both) < 0.8 * difference(plain)


def test_copies_of_people_who_say_when_to_stop_are_not_trained_on(few_clips, monkeypatch):
    seen = []
    fit = skorch.NeuralNetBinaryClassifier.fit
    monkeypatch.setattr(
        skorch.NeuralNetBinaryClassifier,
        "fit",
        lambda self, X, y: seen.append((X, y)) or fit(self, X, y),
    )
    small("tcn", max_epochs=1).fit(few_clips)
    small("tcn", max_epochs=1, augmentation=fx.Augmentation(jitter=1e-6, copies=2)).fit(few_clips)
    (alone, y), (joined, joined_y) = seen
    np.testing.assert_allclose(joined, np.concatenate([alone] * 3), atol=1e-5)
    np.testing.assert_array_equal(joined_y, np.tile(y, 3))


# --- Threshold and calibration ---------------------------------------------------------------------------


def test_a_threshold_moves_the_readouts_bias(few_clips, unseen_clips):
    plain = small().fit(few_clips)
    moved = small(threshold=1.5).fit(few_clips)
    np.testing.assert_allclose(
        moved.decision_function(few_clips), plain.decision_function(few_clips) - 1.5, atol=1e-5
    )
    assert (plain.threshold_, moved.threshold_) == (0, 1.5)
    np.testing.assert_array_equal(
        moved.predict(few_clips), plain.decision_function(few_clips) > 1.5
    )


@pytest.mark.parametrize("readout", ["ridge", "logistic"])
def test_the_threshold_is_chosen_on_held_out_logits(readout, few_clips):
    positive = few_clips.labels == "happiness"
    chosen = small(readout=readout, threshold="balanced_accuracy").fit(few_clips)
    plain = small(readout=readout).fit(few_clips)
    kind, features = readout, torch.from_numpy(few_clips.X)
    data = (plain.network_.features(features).double().numpy(), positive, few_clips.subjects)
    fit = {"ridge": fit_ridge, "logistic": lambda *d: fit_logistic(*d, seed=0)}[kind]
    assert chosen.threshold_ == best_threshold(fit(*data).held_out, positive)


def test_gradient_descent_is_repeated_for_held_out_logits(few_clips):
    positive, people = few_clips.labels == "happiness", few_clips.subjects
    chosen = small("tcn", threshold="balanced_accuracy", calibration="platt").fit(few_clips)
    logits = np.empty(len(few_clips))
    for others, test in subject_folds(positive, people, folds=5, seed=0):
        part = few_clips[others]
        logits[test] = small("tcn").fit(part).decision_function(few_clips[test])
    assert chosen.threshold_ == pytest.approx(best_threshold(logits, positive))
    assert chosen.calibration_ == fit_calibration("platt", logits - chosen.threshold_, positive)


@pytest.mark.parametrize("calibration", ["platt", "isotonic"])
def test_calibrated_probabilities_know_how_rare_the_emotion_is(calibration, clips, unseen_clips):
    rare = np.flatnonzero((clips.labels != "happiness") | (np.arange(len(clips)) % 4 == 0))
    unseen = np.flatnonzero(
        (unseen_clips.labels != "happiness") | (np.arange(len(unseen_clips)) % 4 == 0)
    )
    clf = EmotionClassifier("happiness", "randomized_conv", calibration=calibration)
    chances = clf.fit(clips[rare]).predict_proba(unseen_clips[unseen])
    np.testing.assert_allclose(chances.sum(1), 1)
    share = np.mean(unseen_clips.labels[unseen] == "happiness")
    assert chances[:, 1].mean() == pytest.approx(share, abs=0.06)
    plain = clone(clf).set_params(calibration=None).fit(clips[rare])
    np.testing.assert_array_equal(  # the decision stays
        plain.predict(unseen_clips), clf.predict(unseen_clips)
    )


def test_without_calibration_there_is_none(randomized):
    assert randomized.calibration_ == Calibration()


# --- Where and how it runs -------------------------------------------------------------------------------


def test_progress_is_shown_if_asked_for(few_clips, capsys):
    small("tcn", max_epochs=2).fit(few_clips)
    out, err = capsys.readouterr()
    assert out == err == ""
    small("tcn", max_epochs=2, verbose=1).fit(few_clips)
    out, err = capsys.readouterr()
    assert "train_loss" in out
    assert "it/s" in out + err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@architectures
def test_a_gpu_fits_what_the_cpu_then_runs(architecture, few_clips):
    clf = small(architecture, device="cuda", max_epochs=30, lr=1e-2).fit(few_clips)
    assert not next(clf.network_.parameters()).is_cuda
    assert clf.score(few_clips) > 0.7


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_missed(few_clips):
    message = "^device: expected one that is there, got 'cuda', but torch sees no GPU"
    with pytest.raises(ValueError, match=message):
        small(device="cuda").fit(few_clips)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"readout": "lasso"}, "readout: expected one of ridge, logistic, sgd, got 'lasso'"),
        ({"features": "angles"}, "features: expected one of positions, velocities, both, got"),
        (
            {"calibration": "beta"},
            "calibration: expected None or one of platt, isotonic, got 'beta'",
        ),
        ({"threshold": "f1"}, "threshold: expected a number or 'balanced_accuracy', got 'f1'"),
        ({"threshold": None}, "threshold: expected a number or 'balanced_accuracy', got None"),
        ({"device": "quantum"}, "device: expected a device of PyTorch, such as cpu, got 'quantum'"),
        ({"hidden": 0}, "hidden: expected at least 1, got 0"),
    ],
)
def test_parameters_are_checked(parameters, message, few_clips):
    with pytest.raises(ValueError, match=f"^{message}"):
        small(**parameters).fit(few_clips)


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
    assert not torch.equal(*(next(clf.network_.body.parameters()) for clf in (one, other)))


def test_the_randomised_layer_is_drawn_once_and_never_trained(few_clips, clips):
    """The same weights before any fit, and after fits to different clips."""
    shape = {"kept": torch.arange(24), "landmarks": 24, "hidden": 8, "seed": 0}
    drawn = build_network("randomized_bilstm", **shape).body.state_dict()
    fits = [small().fit(few_clips), small().fit(few_clips[:60])]
    for clf in fits:
        assert_same_weights(drawn, clf.network_.body.state_dict())
    assert not torch.equal(fits[0].network_.readout.weight, fits[1].network_.readout.weight)


def test_the_trained_layer_is_trained(few_clips):
    shape = {"kept": torch.arange(24), "landmarks": 24, "hidden": 8, "seed": 0}
    drawn = build_network("bilstm", **shape).body.state_dict()
    fitted = small("bilstm").fit(few_clips).network_.body.state_dict()
    assert not any(torch.equal(drawn[name], value) for name, value in fitted.items())


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
    predefined_split, fit = descent.predefined_split, skorch.NeuralNetBinaryClassifier.fit

    def record_validation(dataset):
        seen["validation"] = {subject[clip.tobytes()] for clip in dataset.X}
        return predefined_split(dataset)

    def record_training(self, X, y):
        seen["training"] = {subject[clip.tobytes()] for clip in X}
        return fit(self, X, y)

    monkeypatch.setattr(descent, "predefined_split", record_validation)
    monkeypatch.setattr(skorch.NeuralNetBinaryClassifier, "fit", record_training)
    small("bilstm").fit(few_clips)
    assert not seen["training"] & seen["validation"]
    assert seen["training"] | seen["validation"] == set(few_clips.subjects)


# --- What a network reads --------------------------------------------------------------------------------


def test_huge_numbers_are_finite():
    """Their squares are not."""
    huge = np.full((2, 1, 1, 3), 1e30, np.float32)
    np.testing.assert_array_equal(check_clips(huge), huge)


@architectures
def test_a_face_that_never_moves_is_no_evidence(architecture, few_clips):
    """The clip's mean face is subtracted: only movement counts."""
    clf = small(architecture).fit(few_clips)
    still = np.repeat(few_clips.X[:, :1], few_clips.X.shape[1], axis=1)
    logits = clf.decision_function(still)
    np.testing.assert_allclose(logits, logits[0], atol=1e-3)
    assert np.ptp(clf.decision_function(few_clips)) > 0.02


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
    message = f"^architecture: expected one of {', '.join(ARCHITECTURES)}, got 'transformer'"
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
    with pytest.raises(ValueError, match="^X: expected 7 frames per clip, got 6"):
        clf.predict(few_clips.X[:, 1:])
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
