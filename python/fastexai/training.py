"""Fit binary emotion classifiers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import EarlyStopping
from skorch.helper import predefined_split

from fastexai.export import ModelMetadata, read_model, write_model
from fastexai.folds import subject_folds
from fastexai.landmarks import ClipSet, Normalization, prototypes
from fastexai.models import build_network

__all__ = ["EmotionClassifier"]

_PROTOTYPES = 5  # as many baselines as in the paper
_FORWARD_CLIPS = 256  # clips per forward pass at prediction: 256 x 20 x 1404 floats are 29 MB


class EmotionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Answer one question about a clip: does it show ``emotion``.

    Follows scikit-learn's estimator API; ``fit`` also takes a `ClipSet`.

    Parameters
    ----------
    emotion : str
        The emotion to recognise; every other label means "no".
    architecture : {"bilstm", "randomized_bilstm"}
        ``bilstm`` trains everything by gradient descent. ``randomized_bilstm`` draws the recurrent
        layer once and fits only the readout, in closed form.
    kept : sequence of int, optional
        The landmarks to read; all by default.
    hidden : int
        Hidden units per direction.
    max_epochs, patience : int
        At most so many epochs; stop after ``patience`` epochs without a better validation loss.
    lr : float
        Learning rate of AdamW.
    batch_size : int
        Clips per gradient step.
    seed : int
        Of the initial weights, the order of batches, and the validation split.
    verbose : int
        1 prints a line per epoch.

    Attributes
    ----------
    classes_ : ndarray, shape (2,)
        "No" first.
    network_ : torch.nn.Module
        The fitted network, in evaluation mode.
    normalization_ : Normalization
        How the training clips were made comparable.
    prototypes_ : ndarray, shape (k, T, L, 3), float32
        Typical training clips without the emotion, the default baselines of an explanation: neutral
        ones where a `ClipSet` has at least five. From another emotion an explanation would also tell
        what that one moves.
    """

    def __init__(
        self,
        emotion: str = "happiness",
        architecture: str = "bilstm",
        *,
        kept: Sequence[int] | None = None,
        hidden: int = 64,
        max_epochs: int = 60,
        patience: int = 8,
        lr: float = 1e-3,
        batch_size: int = 64,
        seed: int = 0,
        verbose: int = 0,
    ) -> None:
        self.emotion = emotion
        self.architecture = architecture
        self.kept = kept
        self.hidden = hidden
        self.max_epochs = max_epochs
        self.patience = patience
        self.lr = lr
        self.batch_size = batch_size
        self.seed = seed
        self.verbose = verbose

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
            Subjects. With them, early stopping looks at people that training has not seen.

        Raises
        ------
        ValueError
            If shapes do not match, a clip holds NaN, or there are not exactly two classes.
        """
        clips, y, groups = _clips_and_labels(X, y, groups, self.emotion)
        self.normalization_ = X.normalization if isinstance(X, ClipSet) else Normalization()
        self.classes_ = np.unique(y)
        if len(self.classes_) != 2:
            raise ValueError(
                f"y: expected two classes ({self.emotion!r} and the rest), "
                f"got {len(self.classes_)}: {', '.join(map(repr, self.classes_.tolist()))}"
            )
        positive = y == self.classes_[1]
        self.network_ = self._build(clips.shape[2])
        self.network_.fit_projection(torch.from_numpy(clips))
        if self.architecture.startswith("randomized_"):
            self._fit_readout(clips, positive)
        else:
            self._train(clips, positive, groups)
        self.network_.eval().requires_grad_(False)
        self.frames_ = clips.shape[1]
        resting = X.labels == "neutral" if isinstance(X, ClipSet) else np.zeros_like(positive)
        resting = resting & ~positive
        candidates = clips[resting if resting.sum() >= _PROTOTYPES else ~positive]
        self.prototypes_ = prototypes(candidates, k=min(_PROTOTYPES, len(candidates)))
        return self

    def decision_function(self, X: ArrayLike | ClipSet) -> NDArray[np.float32]:
        """Return the logit of every clip, shape (N,); above 0 means "yes"."""
        check_is_fitted(self)
        clips = torch.from_numpy(_check_clips(X.X if isinstance(X, ClipSet) else X))
        if clips.shape[2] != self.network_.landmarks:
            raise ValueError(
                f"X: expected {self.network_.landmarks} landmarks per frame, got {clips.shape[2]}"
            )
        return _in_batches(self.network_, clips).numpy()

    def predict_proba(self, X: ArrayLike | ClipSet) -> NDArray[np.float64]:
        """Return the probabilities of "no" and "yes", shape (N, 2)."""
        yes = expit(self.decision_function(X).astype(np.float64))
        return np.stack([1 - yes, yes], axis=1)

    def predict(self, X: ArrayLike | ClipSet) -> NDArray[Any]:
        """Return the class of every clip, shape (N,)."""
        positive = self.decision_function(X) > 0
        answer: NDArray[Any] = self.classes_[positive.astype(int)]
        return answer

    def score(self, X: ArrayLike | ClipSet, y: ArrayLike | None = None) -> float:
        """Return the balanced accuracy: 0.5 is chance, however rare the emotion."""
        clips, y, _ = _clips_and_labels(X, y, None, self.emotion)
        if isinstance(X, ClipSet):
            y = self.classes_[np.asarray(y, dtype=int)]
        return float(balanced_accuracy_score(y, self.predict(clips)))

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted network as self-describing TorchScript (`fastexai.export`)."""
        check_is_fitted(self)
        metadata = ModelMetadata(
            emotion=self.emotion,
            architecture=self.architecture,
            landmarks=self.network_.landmarks,
            frames=self.frames_,
            kept=self.network_.kept.tolist(),
            hidden=self.hidden,
            classes=self.classes_.tolist(),
            normalization=self.normalization_,
            versions={name: version(name) for name in ("fastexai", "torch", "numpy")},
        )
        write_model(path, self.network_, metadata, self.prototypes_)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EmotionClassifier:
        """Rebuild a fitted classifier from an exported file's weights, without TorchScript."""
        metadata, baselines, weights = read_model(path)
        clf = cls(
            metadata.emotion, metadata.architecture, kept=metadata.kept, hidden=metadata.hidden
        )
        clf.classes_, clf.normalization_ = np.array(metadata.classes), metadata.normalization
        clf.network_ = clf._build(metadata.landmarks)
        clf.network_.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
        clf.network_.eval().requires_grad_(False)
        clf.frames_, clf.prototypes_ = metadata.frames, baselines
        return clf

    def _build(self, landmarks: int) -> Any:
        kept = np.arange(landmarks) if self.kept is None else np.asarray(self.kept)
        if not (kept.size and np.isin(kept, np.arange(landmarks)).all()):
            raise ValueError(f"kept: expected landmarks in [0, {landmarks}), got {self.kept!r}")
        return build_network(
            self.architecture,
            kept=torch.from_numpy(kept.astype(np.int64)),
            landmarks=landmarks,
            hidden=self.hidden,
            seed=self.seed,
        )

    def _fit_readout(self, clips: NDArray[np.float32], positive: NDArray[np.bool_]) -> None:
        """Ridge regression on the frozen features; the penalty is chosen by leave-one-out."""
        features = _in_batches(self.network_.features, torch.from_numpy(clips)).double().numpy()
        center, spread = features.mean(0), features.std(0) + 1e-12
        weight = np.where(positive, 0.5 / positive.mean(), 0.5 / (1 - positive.mean()))
        ridge = RidgeCV(
            np.logspace(-2, 4, 13), scoring="neg_mean_squared_error", store_cv_results=True
        )
        ridge.fit((features - center) / spread, 2.0 * positive - 1, sample_weight=weight)
        held_out = ridge.cv_results_[:, np.flatnonzero(ridge.alphas == ridge.alpha_)[0]]
        # Platt scaling on the leave-one-out answers turns the regression into a logit.
        platt = LogisticRegression(C=1e6).fit(
            held_out.reshape(-1, 1), positive, sample_weight=weight
        )
        slope = platt.coef_[0, 0]
        coefficients = slope * ridge.coef_ / spread
        bias = platt.intercept_[0] + slope * ridge.intercept_ - coefficients @ center
        with torch.no_grad():
            self.network_.readout.weight.copy_(torch.from_numpy(coefficients)[None])
            self.network_.readout.bias.fill_(float(bias))

    def _train(
        self,
        clips: NDArray[np.float32],
        positive: NDArray[np.bool_],
        groups: NDArray[Any] | None,
    ) -> None:
        """Gradient descent by skorch, stopped by the loss on a fifth of the subjects."""
        training, validation = next(iter(subject_folds(positive, groups, folds=5, seed=self.seed)))
        y = positive.astype(np.float32)
        stop = EarlyStopping(patience=self.patience, load_best=True)
        net = skorch.NeuralNetBinaryClassifier(
            self.network_,
            criterion__pos_weight=torch.tensor((1 - y[training].mean()) / y[training].mean()),
            optimizer=torch.optim.AdamW,
            lr=self.lr,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            iterator_train__shuffle=True,
            iterator_train__generator=torch.Generator().manual_seed(self.seed),
            train_split=predefined_split(skorch.dataset.Dataset(clips[validation], y[validation])),
            callbacks=[("early_stopping", stop)],
            verbose=self.verbose,
        )
        net.fit(clips[training], y[training])
        self.network_ = net.module_


@torch.no_grad()
def _in_batches(
    function: Callable[[torch.Tensor], torch.Tensor], clips: torch.Tensor
) -> torch.Tensor:
    starts = range(0, len(clips), _FORWARD_CLIPS)
    return torch.cat([function(clips[i : i + _FORWARD_CLIPS]) for i in starts])


def _check_clips(X: ArrayLike) -> NDArray[np.float32]:
    clips = np.ascontiguousarray(X, dtype=np.float32)
    if clips.ndim != 4 or clips.shape[-1] != 3 or len(clips) == 0:
        raise ValueError(f"X: expected (N, T, L, 3) with N >= 1, got {clips.shape}")
    finite = np.isfinite(clips).all(axis=(1, 2, 3))
    if not finite.all():
        raise ValueError(f"X: expected finite values, got NaN or Inf in clip {np.argmin(finite)}")
    return clips


def _clips_and_labels(
    X: ArrayLike | ClipSet, y: ArrayLike | None, groups: ArrayLike | None, emotion: str
) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[Any] | None]:
    if isinstance(X, ClipSet):
        if y is not None or groups is not None:
            raise ValueError("y, groups: expected none beside a ClipSet, which has its own")
        return _clips_and_labels(X.X, X.labels == emotion, X.subjects, emotion)
    clips = _check_clips(X)
    if y is None:
        raise ValueError("y: expected one label per clip, got none")
    labels = np.asarray(y)
    if labels.shape != clips.shape[:1]:
        raise ValueError(f"y: expected {clips.shape[:1]}, got {labels.shape}")
    people = None if groups is None else np.asarray(groups)
    if people is not None and people.shape != labels.shape:
        raise ValueError(f"groups: expected {labels.shape}, got {people.shape}")
    return clips, labels, people
