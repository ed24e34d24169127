"""A plain scikit-learn anchor beside the networks: logistic regression with recursive elimination."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fastexai.landmarks import ClipSet

__all__ = ["anchor_decisions"]


def anchor_decisions(
    training: ClipSet, test: ClipSet, emotion: str, sizes: Sequence[int], *, seed: int = 0
) -> Iterator[NDArray[np.float64]]:
    """Yield the anchor's logits on other clips, each (M,), one array per size.

    Guyon's recursive feature elimination with whole landmarks as its features: fit, drop the
    landmarks whose coefficients have the least norm, fit again. It sees what the networks see:
    coordinates without the clip's mean face, scaled as one by their standard deviation.

    References
    ----------
    I. Guyon et al., "Gene selection for cancer classification using support vector machines",
    Machine Learning 46, 2002.
    """
    seen, unseen = _movement(training.X), _movement(test.X)
    scale = seen.std() + 1e-12
    kept = np.arange(training.X.shape[2])
    norms = np.zeros(len(kept))
    for size in sizes:
        kept = kept[np.argsort(-norms, kind="stable")[:size]]
        # The dual problem has one variable per clip, and there are far fewer clips than coordinates.
        model = LogisticRegression(
            solver="liblinear", dual=True, class_weight="balanced", max_iter=2000, random_state=seed
        )
        model.fit(_flat(seen, kept) / scale, training.labels == emotion)
        coefficients = model.coef_.reshape(seen.shape[1], len(kept), 3)
        norms = np.sqrt(np.square(coefficients).sum(axis=(0, 2)))
        yield model.decision_function(_flat(unseen, kept) / scale)


def _movement(X: NDArray[np.float32]) -> NDArray[np.float32]:
    moved: NDArray[np.float32] = X - X.mean(axis=1, keepdims=True)
    return moved


def _flat(X: NDArray[np.float32], kept: NDArray[np.intp]) -> NDArray[np.float32]:
    return X[:, :, kept].reshape(len(X), -1)
