"""Gradient descent, by skorch."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import skorch
import torch
from numpy.typing import NDArray
from skorch.callbacks import EarlyStopping, ProgressBar
from skorch.helper import predefined_split

from fastexai.augmentation import copies_of
from fastexai.folds import subject_folds

__all__ = ["Descent", "check_device"]

_FOLDS = 5  # one of them says when to stop


@dataclass(frozen=True, slots=True)
class Descent:
    """How to descend; see `EmotionClassifier` for what the names mean."""

    max_epochs: int
    patience: int
    lr: float
    batch_size: int
    seed: int
    device: str
    verbose: int

    def fit(
        self,
        module: torch.nn.Module,
        inputs: NDArray[np.float32],
        positive: NDArray[np.bool_],
        groups: NDArray[Any] | None,
    ) -> torch.nn.Module:
        """Train a module on four fifths of the subjects; the rest say when it is at its best.

        Parameters
        ----------
        module : torch.nn.Module
            From a batch of inputs to logits, (N,).
        inputs : ndarray, shape ((1 + K) * N, ...), float32
            One row per clip, then those of K altered copies. Only clips that are trained on have
            copies that are.
        positive : ndarray of bool, shape (N,)
            What to answer.
        groups : ndarray, shape (N,), optional
            Subjects; without them, every clip counts as a person of its own.

        Raises
        ------
        ValueError
            If there are fewer subjects, or fewer clips of one class, than 5.
        """
        folds = subject_folds(positive, groups, folds=_FOLDS, seed=self.seed)
        training, validation = folds[0]
        y = positive.astype(np.float32)
        net = self._net(module, y[training].mean(), (inputs[validation], y[validation]))
        rows = copies_of(training, len(y), len(inputs))
        net.fit(inputs[rows], y[rows % len(y)])
        fitted: torch.nn.Module = net.module_
        return fitted.cpu()

    def _net(
        self, module: torch.nn.Module, share: float, validation: tuple[Any, Any]
    ) -> skorch.NeuralNetBinaryClassifier:
        callbacks = [("early_stopping", EarlyStopping(patience=self.patience, load_best=True))]
        if self.verbose:
            callbacks.append(("progress_bar", ProgressBar()))
        return skorch.NeuralNetBinaryClassifier(
            module,
            criterion__pos_weight=torch.tensor((1 - share) / share),
            optimizer=torch.optim.AdamW,
            lr=self.lr,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            iterator_train__shuffle=True,
            iterator_train__generator=torch.Generator().manual_seed(self.seed),
            train_split=predefined_split(skorch.dataset.Dataset(*validation)),
            callbacks=callbacks,
            device=self.device,
            verbose=self.verbose,
        )


def check_device(device: str) -> None:
    """Refuse a device that PyTorch does not know, or that is not there."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(
            f"device: expected a device of PyTorch, such as cpu, got {device!r}"
        ) from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device: expected one that is there, got {device!r}, but torch sees no GPU"
        )
