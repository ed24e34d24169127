"""Landmark selection as a step of a scikit-learn pipeline."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from fastexai.search import Strategy, search_landmarks
from fastexai.training import EmotionClassifier

__all__ = ["LandmarkSelector"]


class LandmarkSelector(MetaEstimatorMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Keep the landmarks that a classifier needs.

    Follows scikit-learn's feature-selection convention, except that clips are (N, T, L, 3) and the
    support is over landmarks.

    Parameters
    ----------
    estimator : EmotionClassifier
        Cloned and fitted to find out what matters.
    n_landmarks : int
        How many to keep, at most L.
    strategy : str
        See `fastexai.search_landmarks`.

    Attributes
    ----------
    estimator_ : EmotionClassifier
        Fitted to all landmarks.
    support_ : ndarray of bool, shape (L,)
        The landmarks that stay.
    ranking_ : ndarray of int, shape (L,)
        Landmarks by relevance to ``estimator_``, most relevant first.

    Examples
    --------
    >>> import fastexai as fx
    >>> from sklearn.pipeline import make_pipeline
    >>> clips = fx.datasets.simulate_expressions(60, emotions=("happiness",), frames=6, difficulty=0)
    >>> clf = fx.EmotionClassifier("happiness", "randomized_bilstm", hidden=8)
    >>> model = make_pipeline(fx.LandmarkSelector(clf, n_landmarks=32), clf)
    >>> model.fit(clips.X, clips.labels == "happiness")[0].get_support().sum()
    np.int64(32)
    """

    def __init__(
        self,
        estimator: EmotionClassifier,
        *,
        n_landmarks: int = 32,
        strategy: Strategy = "redundancy",
    ) -> None:
        self.estimator = estimator
        self.n_landmarks = n_landmarks
        self.strategy = strategy

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> LandmarkSelector:
        """Find the landmarks to keep.

        Parameters
        ----------
        X : array_like, shape (N, T, L, 3)
            Normalised clips, without NaN.
        y : array_like, shape (N,)
            Two classes, the larger of which means "yes".
        groups : array_like, shape (N,), optional
            Subjects.

        Raises
        ------
        ValueError
            If ``n_landmarks`` is not in [1, L], or as the estimator's own ``fit`` does.
        """
        X = np.asarray(X, dtype=np.float32)
        self.estimator_ = clone(self.estimator).fit(X, y, groups)
        found = search_landmarks(
            self.estimator_.network_,
            X,
            np.asarray(y) == self.estimator_.classes_[1],
            baselines=self.estimator_.prototypes_,
            sizes=(self.n_landmarks,),
            strategy=self.strategy,
        )
        self.support_ = np.isin(np.arange(X.shape[2]), found.kept[self.n_landmarks])
        self.ranking_ = np.argsort(-found.relevance[0], kind="stable")
        return self

    def get_support(self, indices: bool = False) -> NDArray[Any]:
        """Return the landmarks that stay: a mask of shape (L,), or their indices."""
        check_is_fitted(self)
        return np.flatnonzero(self.support_) if indices else self.support_

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return (N, T, L, 3) clips without the other landmarks: (N, T, K, 3)."""
        support = self.get_support()
        clips = np.asarray(X, dtype=np.float32)
        if clips.ndim != 4 or clips.shape[2] != len(support):
            raise ValueError(f"X: expected (N, T, {len(support)}, 3), got {clips.shape}")
        return clips[:, :, support]

    def inverse_transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return (N, T, K, 3) clips with zeros where landmarks were left out: (N, T, L, 3)."""
        support = self.get_support()
        clips = np.asarray(X, dtype=np.float32)
        if clips.ndim != 4 or clips.shape[2] != support.sum():
            raise ValueError(f"X: expected (N, T, {support.sum()}, 3), got {clips.shape}")
        full = np.zeros((*clips.shape[:2], len(support), 3), np.float32)
        full[:, :, support] = clips
        return full
