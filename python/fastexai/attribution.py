"""Integrated Gradients of TorchScript models, computed by the C++ core."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastexai import _core

__all__ = ["Attribution", "IntegratedGradients", "integrated_gradients"]

Model = str | os.PathLike[str] | bytes | torch.jit.ScriptModule | nn.Module
Progress = Callable[[int, int], object]

_MAX_ROWS = 128  # 128 rows of 20 x 468 x 3 floats are 14 MB: small enough to stay near the caches


@dataclass(frozen=True, slots=True, eq=False)  # eq: tensors have no single truth value
class Attribution:
    """Integrated Gradients of one batch.

    Attributes
    ----------
    values : Tensor, shape (N, ...)
        Attributions, in units of the model's output.
    delta : Tensor, shape (N,)
        Sum of ``values`` minus (F(inputs) - F(baselines)).
    """

    values: Tensor
    delta: Tensor

    def __post_init__(self) -> None:
        if self.delta.shape != self.values.shape[:1]:
            raise ValueError(
                f"delta: expected {(*self.values.shape[:1],)}, got {(*self.delta.shape,)}"
            )

    @property
    def completeness_error(self) -> Tensor:
        """|delta|, shape (N,)."""
        return self.delta.abs()


class IntegratedGradients:
    """Integrated Gradients (Sundararajan, Taly & Yan, ICML 2017) with Captum's call signature.

    Parameters
    ----------
    model : path, bytes, ScriptModule or nn.Module
        A TorchScript file or its bytes; a module in evaluation mode, which is scripted as it is. Its
        forward takes one tensor and returns one row of outputs per row of inputs.
    """

    def __init__(self, model: Model) -> None:
        self.model = load_model(model)

    def attribute(
        self,
        inputs: Tensor,
        baselines: Tensor | float | None = None,
        target: int | None = None,
        *,
        n_steps: int = 50,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        progress: Progress | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attribute the model's output to every input.

        Parameters
        ----------
        inputs : Tensor, shape (N, ...), float32 or float64
            The samples.
        baselines : Tensor, float or None
            (N, ...), one row that serves all, one number, or None for zeros.
        target : int, optional
            The output column to explain, where there are several.
        n_steps : int
            Gauss-Legendre nodes.
        internal_batch_size : int, optional
            At most so many rows (samples x nodes) in one forward pass.
        return_convergence_delta : bool
            Return the completeness error with its sign as well.
        progress : callable, optional
            Called with (samples done, samples in all).

        Returns
        -------
        Tensor, or tuple of Tensor
            Attributions (N, ...), and delta (N,) if asked for.

        Raises
        ------
        ValueError
            If shapes do not match, or an input, baseline or output is not finite.
        TypeError
            If the inputs are not float32 or float64.
        """
        result = self._attribute(
            inputs,
            _expand_baseline(baselines, inputs),
            target,
            n_steps=n_steps,
            max_rows=_MAX_ROWS if internal_batch_size is None else internal_batch_size,
            progress=progress,
        )
        return (result.values, result.delta) if return_convergence_delta else result.values

    def _attribute(
        self, inputs: Tensor, baselines: Tensor, target: int | None, **options: Any
    ) -> Attribution:
        model = self.model if target is None else self.model.with_target(target)
        return Attribution(*_core.integrate_path(model, inputs, baselines, **options))


def integrated_gradients(
    model: Model | IntegratedGradients,
    inputs: Tensor,
    baselines: Tensor | float | None = None,
    *,
    target: int | None = None,
    n_steps: int = 50,
    progress: Progress | None = None,
) -> Attribution:
    """Attribute a batch; the arguments are those of `IntegratedGradients.attribute`."""
    ig = model if isinstance(model, IntegratedGradients) else IntegratedGradients(model)
    return ig._attribute(
        inputs,
        _expand_baseline(baselines, inputs),
        target,
        n_steps=n_steps,
        max_rows=_MAX_ROWS,
        progress=progress,
    )


def load_model(model: Model) -> _core.ScriptModel:
    """Hand a model to the C++ core: as a path, or as bytes, which every LibTorch can read."""
    if isinstance(model, bytes):
        return _core.ScriptModel.from_buffer(model)
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        if not path.is_file():
            raise FileNotFoundError(
                f"model: expected a TorchScript file, got {path}, which is not a file"
            )
        return _core.ScriptModel.from_file(str(path))
    if not isinstance(model, nn.Module):
        raise TypeError(
            "model: expected a path, bytes, a ScriptModule or an nn.Module, "
            f"got {type(model).__name__}"
        )
    return _core.ScriptModel.from_buffer(_script(model))


def _script(module: nn.Module) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def _expand_baseline(baselines: Tensor | float | None, inputs: Tensor) -> Tensor:
    if isinstance(baselines, Tensor):
        return baselines
    row = inputs[:1]
    return torch.zeros_like(row) if baselines is None else torch.full_like(row, float(baselines))
