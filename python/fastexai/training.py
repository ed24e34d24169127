"""Fit binary emotion classifiers."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.validation import check_is_fitted

from fastexai.augmentation import Augmentation
from fastexai.calibration import CALIBRATIONS, Calibration, best_threshold, fit_calibration
from fastexai.clip_input import check_clips, clips_and_labels, neutral_clips
from fastexai.descent import Descent, check_device
from fastexai.export import ModelMetadata, read_model, write_model
from fastexai.folds import subject_folds
from fastexai.landmarks import ClipSet, Normalization, prototypes
from fastexai.models import build_network, is_randomized
from fastexai.readout import LinearReadout, fit_logistic, fit_ridge, fit_sgd

__all__ = ["READOUTS", "EmotionClassifier"]

READOUTS: tuple[str, ...] = ("ridge", "logistic", "sgd")

_PROTOTYPES = 5  # as many baselines as in the paper
_FORWARD_CLIPS = 256  # clips per forward pass: 256 x 20 x 1404 floats are 29 MB
_FOLDS = (
    5  # in which a network trained by gradient descent is fitted again, where that is asked for
)


class Frozen(NamedTuple):
    """A network that is to have its readout fitted, and what its frozen layers say.

    It depends on the clips and on no label: classifiers of several emotions can share it.
    """

    network: Any
    features: NDArray[np.float64]  #: ((1 + K) * N, P), of N clips and then of K altered copies


class EmotionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Answer one question about a clip: does it show ``emotion``.

    Follows scikit-learn's estimator API; ``fit`` also takes a `ClipSet`. Both classes weigh alike in
    training, however rare the emotion is.

    Parameters
    ----------
    emotion : str
        The emotion to recognise; every other label means "no".
    architecture : str
        ``bilstm``, ``gru``, ``tcn`` (dilated convolutions) and ``conv_bilstm`` are trained by
        gradient descent. ``randomized_bilstm`` and ``randomized_conv`` are drawn once; only their
        readout is fitted (Di Luzio et al., arXiv 2407.14865).
    kept : sequence of int, optional
        The landmarks to read; all by default.
    hidden : int, optional
        Units, per direction where there are two; by default the architecture's. Those of randomised
        ones shrink with the cube root of the share of landmarks that are read, down to half (64 for
        468 become 32 for 58 or fewer), so that few landmarks make a fast network.
    features : {"positions", "velocities", "both"}
        What the network reads: where landmarks are relative to the clip's mean face, how they move
        from frame to frame, or both.
    readout : {"ridge", "logistic", "sgd"}, optional
        How the readout of a randomised network is fitted: ridge regression in closed form (the
        default), logistic regression, or gradient descent, the only one for other networks.
    augmentation : Augmentation, optional
        Altered copies of the training clips that join the fit; none by default.
    threshold : float or "balanced_accuracy"
        The logit above which the answer is "yes". It is taken off the readout's bias, so that
        everywhere, exported files included, a logit above 0 means "yes". "balanced_accuracy" is
        the best one for training clips in subject-independent folds. 0, the default, lies where
        both classes, equally frequent, are as probable.
    calibration : {"platt", "isotonic"}, optional
        Make probabilities fit the frequency of the emotion in training; learnt from training clips
        in subject-independent folds. By default they are the logistic function of the logit, right
        where half of all clips show the emotion. ``predict`` follows the threshold either way.
    warm_start : bool
        Begin a further ``fit`` with the network that there is, instead of drawing a new one.
    max_epochs, patience : int
        At most so many epochs; stop after ``patience`` epochs without a better validation loss.
    lr : float
        Learning rate of AdamW.
    batch_size : int
        Clips per gradient step.
    device : str
        Where to fit, in PyTorch's words. The fitted network is on the CPU.
    seed : int
        Of the initial weights, the order of batches, the copies and the folds.
    verbose : int
        1 shows a bar of each epoch's progress and prints its losses.

    Attributes
    ----------
    classes_ : ndarray, shape (2,)
        "No" first.
    network_ : ClipNetwork
        The fitted network, in evaluation mode.
    threshold_ : float
        What was taken off the readout's bias.
    calibration_ : Calibration
        From logits to probabilities.
    frames_ : int
        Frames per clip.
    normalization_ : Normalization
        How the training clips were made comparable.
    prototypes_ : ndarray, shape (k, T, L, 3), float32
        Typical training clips without the emotion, the default baselines of an explanation: neutral
        ones where a `ClipSet` has at least five. From another emotion an explanation would also tell
        what that one moves.

    Notes
    -----
    The folds for ``threshold`` and ``calibration`` cost nothing with a ridge readout (each subject in
    turn is left out, in closed form), little with a logistic one, and five more fits with gradient
    descent.

    Examples
    --------
    >>> import fastexai as fx
    >>> clips = fx.datasets.simulate_expressions(120, emotions=["happiness"], frames=5, difficulty=0)
    >>> clf = fx.EmotionClassifier("happiness", "randomized_bilstm").fit(clips)
    >>> clf.predict(clips[clips.labels == "happiness"]).mean() > 0.9
    np.True_
    """

    def __init__(
        self,
        emotion: str = "happiness",
        architecture: str = "bilstm",
        *,
        kept: Sequence[int] | None = None,
        hidden: int | None = None,
        features: str = "positions",
        readout: str | None = None,
        augmentation: Augmentation | None = None,
        threshold: float | str = 0.0,
        calibration: str | None = None,
        warm_start: bool = False,
        max_epochs: int = 60,
        patience: int = 8,
        lr: float = 1e-3,
        batch_size: int = 64,
        device: str = "cpu",
        seed: int = 0,
        verbose: int = 0,
    ) -> None:
        self.emotion = emotion
        self.architecture = architecture
        self.kept = kept
        self.hidden = hidden
        self.features = features
        self.readout = readout
        self.augmentation = augmentation
        self.threshold = threshold
        self.calibration = calibration
        self.warm_start = warm_start
        self.max_epochs = max_epochs
        self.patience = patience
        self.lr = lr
        self.batch_size = batch_size
        self.device = device
        self.seed = seed
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.two_d_array = False
        return tags

    def fit(
        self, X: ArrayLike | ClipSet, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> EmotionClassifier:
        """Fit to clips.

        Parameters
        ----------
        X : ClipSet, or array_like of shape (N, T, L, 3)
            Normalised clips, without NaN. A `ClipSet` brings its own ``y`` and ``groups``.
        y : array_like, shape (N,), optional
            Two classes, the larger of which (as Python sorts them) is "yes".
        groups : array_like, shape (N,), optional
            Subjects. With them, all that is chosen on clips that training left out (when to stop,
            penalties, threshold, calibration) is chosen on people that it has not seen.

        Raises
        ------
        ValueError
            If a parameter is unknown or does not fit the architecture, shapes do not match, a clip
            holds NaN, there are not exactly two classes, or too few subjects for five folds where
            these are needed.
        """
        self.fit_sharing(X, y, groups)
        return self

    def fit_sharing(
        self,
        X: ArrayLike | ClipSet,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        frozen: Frozen | None = None,
    ) -> Frozen | None:
        """Fit as `fit` does, and hand on what the fit to another emotion can start from.

        Parameters
        ----------
        X, y, groups
            See `fit`.
        frozen : Frozen, optional
            What this method has returned for the same clips and parameters, but another emotion.

        Returns
        -------
        Frozen or None
            None for networks that are trained as a whole.
        """
        kind = self._check_parameters()
        clips, y, groups = clips_and_labels(X, y, groups, self.emotion)
        self.normalization_ = X.normalization if isinstance(X, ClipSet) else Normalization()
        self.classes_ = np.unique(y)
        if len(self.classes_) != 2:
            raise ValueError(
                f"y: expected two classes ({self.emotion!r} and the rest), "
                f"got {len(self.classes_)}: {', '.join(map(repr, self.classes_.tolist()))}"
            )
        positive = y == self.classes_[1]
        self.frames_ = clips.shape[1]
        descent = Descent(**{name: getattr(self, name) for name in Descent.__slots__})
        held_out = None
        if is_randomized(self.architecture):
            frozen = frozen or self._frozen(self._joined(clips))
            readout = _fit_readout(kind, frozen.features, positive, groups, descent)
            self.network_ = _answering(frozen.network, readout)
            held_out = readout.held_out
        else:
            joined = self._joined(clips)
            self.network_ = descent.fit(self._beginning(joined), joined, positive, groups)
        self.network_.cpu().eval().requires_grad_(False)
        self._decide(clips, positive, groups, held_out)
        neutral = neutral_clips(X, positive)
        candidates = clips[neutral if neutral.any() else ~positive]
        self.prototypes_ = prototypes(candidates, k=min(_PROTOTYPES, len(candidates)))
        return frozen

    def keep(self, landmarks: ArrayLike) -> EmotionClassifier:
        """Return a smaller classifier that answers as this one with all other landmarks at rest.

        They rest where the mean of ``prototypes_`` has them, and their share is folded into the
        first step. It takes whole clips and reads what it needs. Its ``fit`` goes on from there.

        Parameters
        ----------
        landmarks : array_like of int, shape (K,)
            Which to keep reading; this classifier reads them.

        Raises
        ------
        ValueError
            If this classifier does not read one of them, or none is given.

        Examples
        --------
        >>> import fastexai as fx
        >>> clips = fx.datasets.simulate_expressions(80, emotions=["happiness"], frames=5, difficulty=0)
        >>> clf = fx.EmotionClassifier("happiness", "randomized_bilstm", hidden=8).fit(clips)
        >>> clf.keep(fx.mesh.region_landmarks("lips")).network_.projection.in_features
        240
        """
        check_is_fitted(self)
        kept = np.unique(np.asarray(landmarks, dtype=np.int64))
        unread = np.setdiff1d(kept, self.network_.kept.numpy())
        if not kept.size or unread.size:
            raise ValueError(
                f"landmarks: expected some of the {len(self.network_.kept)} that are read, "
                f"got {unread.tolist() or 'none'}"
            )
        smaller: EmotionClassifier = clone(self).set_params(
            kept=kept.tolist(), hidden=self.network_.hidden, warm_start=True
        )
        for name in vars(self):
            if name.endswith("_"):
                setattr(smaller, name, getattr(self, name))
        baseline = torch.from_numpy(self.prototypes_.mean(0))
        smaller.network_ = self.network_.keep(torch.from_numpy(kept), baseline)
        return smaller

    def decision_function(self, X: ArrayLike | ClipSet) -> NDArray[np.float32]:
        """Return the logit of every clip, shape (N,); above 0 means "yes"."""
        check_is_fitted(self)
        clips = check_clips(X.X if isinstance(X, ClipSet) else X)
        expected = (self.frames_, self.network_.landmarks)
        words = ("frames per clip", "landmarks per frame")
        for what, had, got in zip(words, expected, clips.shape[1:3], strict=True):
            if got != had:
                raise ValueError(f"X: expected {had} {what}, got {got}")
        return _in_batches(self.network_, clips).numpy()

    def predict_proba(self, X: ArrayLike | ClipSet) -> NDArray[np.float64]:
        """Return the probabilities of "no" and "yes", shape (N, 2)."""
        logits = self.decision_function(X)
        yes = self.calibration_(logits)
        return np.stack([1 - yes, yes], axis=1)

    def predict(self, X: ArrayLike | ClipSet) -> NDArray[Any]:
        """Return the class of every clip, shape (N,)."""
        positive = self.decision_function(X) > 0
        answer: NDArray[Any] = self.classes_[positive.astype(int)]
        return answer

    def score(self, X: ArrayLike | ClipSet, y: ArrayLike | None = None) -> float:
        """Return the balanced accuracy: 0.5 is chance, however rare the emotion."""
        clips, y, _ = clips_and_labels(X, y, None, self.emotion)
        if isinstance(X, ClipSet):
            y = self.classes_[np.asarray(y, dtype=int)]
        return float(balanced_accuracy_score(y, self.predict(clips)))

    def export(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the fitted network as self-describing TorchScript (`fastexai.export`).

        Raises
        ------
        FileExistsError
            If the file exists and is not to be overwritten.
        """
        check_is_fitted(self)
        parameters = self.get_params(deep=False)
        if self.kept is not None:
            parameters["kept"] = self.network_.kept.tolist()
        if self.augmentation is not None:
            parameters["augmentation"] = asdict(self.augmentation)
        metadata = ModelMetadata(
            emotion=self.emotion,
            landmarks=self.network_.landmarks,
            frames=self.frames_,
            kept=self.network_.kept.tolist(),
            parameters=parameters,
            classes=self.classes_.tolist(),
            threshold=self.threshold_,
            calibration=self.calibration_,
            normalization=self.normalization_,
            versions={name: version(name) for name in ("fastexai", "torch", "numpy")},
        )
        write_model(path, self.network_, metadata, self.prototypes_, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EmotionClassifier:
        """Rebuild a fitted classifier from an exported file's weights, without TorchScript."""
        metadata, baselines, weights = read_model(path)
        augmentation = metadata.parameters["augmentation"]
        clf = cls(**metadata.parameters)
        if augmentation is not None:
            clf.augmentation = Augmentation(**augmentation)
        clf.classes_, clf.normalization_ = np.array(metadata.classes), metadata.normalization
        streams = 2 if clf.features == "both" else 1
        components = len(weights["projection.weight"]) // streams
        clf.network_ = clf._build(metadata.landmarks, components)
        clf.network_.held = torch.from_numpy(weights["held"])  # of one time step or of all
        clf.network_.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
        clf.network_.eval().requires_grad_(False)
        clf.threshold_, clf.calibration_ = metadata.threshold, metadata.calibration
        clf.frames_, clf.prototypes_ = metadata.frames, baselines
        return clf

    def _check_parameters(self) -> str:
        """Return how the readout is fitted."""
        randomized = is_randomized(self.architecture)
        kind = self.readout or ("ridge" if randomized else "sgd")
        if kind not in READOUTS:
            raise ValueError(f"readout: expected one of {', '.join(READOUTS)}, got {kind!r}")
        if kind != "sgd" and not randomized:
            raise ValueError(
                f"readout: expected 'sgd' for {self.architecture}, whose layers are trained, "
                f"got {kind!r}; it is for randomized architectures"
            )
        if self.calibration is not None and self.calibration not in CALIBRATIONS:
            raise ValueError(
                f"calibration: expected None or one of {', '.join(CALIBRATIONS)}, "
                f"got {self.calibration!r}"
            )
        if self.threshold != "balanced_accuracy" and not isinstance(self.threshold, Real):
            raise ValueError(
                f"threshold: expected a number or 'balanced_accuracy', got {self.threshold!r}"
            )
        check_device(self.device)
        return kind

    def _beginning(self, clips: NDArray[np.float32]) -> Any:
        """Return the network that training begins with."""
        if self.warm_start and hasattr(self, "network_"):
            begun = copy.deepcopy(self.network_)
            return begun if is_randomized(self.architecture) else begun.requires_grad_(True)
        network = self._build(clips.shape[2])
        network.fit_projection(torch.from_numpy(clips))
        return network

    def _build(self, landmarks: int, components: int | None = None) -> Any:
        kept = np.arange(landmarks) if self.kept is None else np.asarray(self.kept)
        if not (kept.size and np.isin(kept, np.arange(landmarks)).all()):
            raise ValueError(f"kept: expected landmarks in [0, {landmarks}), got {self.kept!r}")
        return build_network(
            self.architecture,
            kept=torch.from_numpy(kept.astype(np.int64)),
            landmarks=landmarks,
            hidden=self.hidden,
            features=self.features,
            components=components,
            seed=self.seed,
        )

    def _joined(self, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the clips and their altered copies."""
        if self.augmentation is None:
            return clips
        return self.augmentation.join(clips, seed=self.seed)

    def _frozen(self, clips: NDArray[np.float32]) -> Frozen:
        network = self._beginning(clips).to(self.device)
        return Frozen(network, _in_batches(network.features, clips, self.device).double().numpy())

    def _decide(
        self,
        clips: NDArray[np.float32],
        positive: NDArray[np.bool_],
        groups: NDArray[Any] | None,
        held_out: NDArray[np.float64] | None,
    ) -> None:
        """Set threshold and calibration, which only clips that training left out may choose."""
        tuned = isinstance(self.threshold, str)
        self.threshold_, self.calibration_ = 0.0 if tuned else float(self.threshold), Calibration()
        if tuned or self.calibration is not None:
            if held_out is None:
                held_out = self._held_out(clips, positive, groups)
            if tuned:
                self.threshold_ = best_threshold(held_out, positive)
            if self.calibration is not None:
                logits = held_out - self.threshold_
                self.calibration_ = fit_calibration(self.calibration, logits, positive)
        self.network_.readout.bias -= self.threshold_

    def _held_out(
        self,
        clips: NDArray[np.float32],
        positive: NDArray[np.bool_],
        groups: NDArray[Any] | None,
    ) -> NDArray[np.float64]:
        """Return every clip's logit from a fit that has not seen its subject."""
        logits = np.empty(len(clips))
        for training, test in subject_folds(positive, groups, folds=_FOLDS, seed=self.seed):
            inner = clone(self).set_params(threshold=0.0, calibration=None)
            people = None if groups is None else groups[training]
            inner.fit(clips[training], positive[training], people)
            logits[test] = inner.decision_function(clips[test])
        return logits


@torch.no_grad()
def _answering(network: Any, readout: LinearReadout) -> Any:
    """Return a copy of the network, on the CPU, with a fitted readout."""
    answering = copy.deepcopy(network).cpu()
    answering.readout.weight.copy_(torch.from_numpy(readout.weight)[None])
    answering.readout.bias.fill_(readout.bias)
    return answering


def _fit_readout(
    kind: str,
    features: NDArray[np.float64],
    positive: NDArray[np.bool_],
    groups: NDArray[Any] | None,
    descent: Descent,
) -> LinearReadout:
    if kind == "ridge":
        return fit_ridge(features, positive, groups)
    if kind == "logistic":
        return fit_logistic(features, positive, groups, seed=descent.seed)
    return fit_sgd(features, positive, groups, descent)


@torch.no_grad()
def _in_batches(
    function: Callable[[torch.Tensor], torch.Tensor],
    clips: NDArray[np.float32],
    device: str = "cpu",
) -> torch.Tensor:
    starts = range(0, len(clips), _FORWARD_CLIPS)
    batches = (torch.from_numpy(clips[i : i + _FORWARD_CLIPS]).to(device) for i in starts)
    return torch.cat([function(batch).cpu() for batch in batches])
