"""Integrated Gradients of TorchScript models, computed by the C++ core."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fastexai import _core
from fastexai.quadrature import quadrature

__all__ = ["Attribution", "IntegratedGradients", "integrated_gradients"]

Model = str | os.PathLike[str] | bytes | torch.jit.ScriptModule | nn.Module
Progress = Callable[[int, int], object]
Parts = tuple[Tensor, Tensor, Tensor, Tensor]  # values, delta, nodes, converged
Target = int | Sequence[int] | Tensor | None

_TOL = 1e-3
_MAX_NODES = 15 * 256


@dataclass(frozen=True, slots=True, eq=False)  # eq: tensors have no single truth value
class Attribution:
    """Integrated Gradients of one batch.

    Attributes
    ----------
    values : Tensor, shape (N, ...)
        Attributions, in units of the model's output.
    delta : Tensor, shape (N,)
        Sum of ``values`` minus (F(inputs) - F(baselines)).
    nodes : Tensor, shape (N,), int64
        Gradient evaluations spent on each sample; 0 where the integral has a closed form.
    converged : Tensor, shape (N,), bool
        Whether each sample met ``tol``; all true for a fixed rule.
    plan : str
        How the model was evaluated, in words.
    """

    values: Tensor
    delta: Tensor
    nodes: Tensor
    converged: Tensor
    plan: str

    def __post_init__(self) -> None:
        for name in ("delta", "nodes", "converged"):
            shape = getattr(self, name).shape
            if shape != self.values.shape[:1]:
                raise ValueError(f"{name}: expected ({len(self.values)},), got {(*shape,)}")

    @property
    def completeness_error(self) -> Tensor:
        """|delta|, shape (N,)."""
        return self.delta.abs()

    def __repr__(self) -> str:
        return (
            f"Attribution(values: {(*self.values.shape,)}, completeness error <= "
            f"{float(self.completeness_error.max()):.1e}, {int(self.nodes.sum())} nodes, "
            f"{int(self.converged.sum())} of {len(self.converged)} converged; {self.plan})"
        )


class IntegratedGradients:
    """Integrated Gradients (Sundararajan, Taly & Yan, ICML 2017) with Captum's call signature.

    Parameters
    ----------
    model : path, bytes, ScriptModule or nn.Module
        A TorchScript file or its bytes; a module in evaluation mode, which is scripted as it is. Its
        forward takes one tensor and returns one row of outputs per row of inputs.
    multiply_by_inputs : bool
        False returns the mean gradient along the path instead of its product with
        ``inputs - baselines``.
    use_structure : bool
        False evaluates the whole model at every node: the same numbers, slowly.
    """

    def __init__(
        self, model: Model, multiply_by_inputs: bool = True, *, use_structure: bool = True
    ) -> None:
        self.model = load_model(model)
        self._multiply_by_inputs = multiply_by_inputs
        self._use_structure = use_structure
        self._plans: dict[tuple[object, ...], _core.PathPlan] = {}

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether attributions are the mean gradient times ``inputs - baselines``."""
        return self._multiply_by_inputs

    @property
    def plan(self) -> str:
        """How the model is evaluated, in words: one line per shape of input seen so far."""
        return "\n".join(plan.description for plan in self._plans.values()) or "no input seen yet"

    def has_convergence_delta(self) -> bool:
        """Integrated Gradients can say how incomplete they are."""
        return True

    def attribute(
        self,
        inputs: Tensor,
        baselines: Tensor | float | None = None,
        target: Target = None,
        additional_forward_args: None = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
        progress: Progress | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attribute the model's output to every input, as Captum's method of this name does.

        Parameters
        ----------
        inputs : Tensor, shape (N, ...), float32 or float64
            The samples.
        baselines : Tensor, float or None
            (N, ...), one row that serves all, one number, or None for zeros.
        target : int, or N of them, optional
            The output column to explain, where there are several.
        additional_forward_args : None
            Here for the signature's sake: forward takes one tensor.
        n_steps : int
            Number of nodes.
        method : str
            One of ``fastexai.quadrature.METHODS``.
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
            If the inputs are not a tensor of float32 or float64.
        """
        if additional_forward_args is not None:
            raise ValueError(
                "additional_forward_args: expected None, since forward takes one tensor; "
                "bind other arguments inside the model"
            )
        result = self.integrate(
            inputs,
            baselines,
            target=target,
            n_steps=n_steps,
            method=method,
            max_rows=internal_batch_size,
            progress=progress,
        )
        return (result.values, result.delta) if return_convergence_delta else result.values

    def compute_convergence_delta(
        self,
        attributions: Tensor,
        start_point: Tensor,
        end_point: Tensor,
        target: int | None = None,
        additional_forward_args: None = None,
    ) -> Tensor:
        """Return the sum of attributions minus (F(end) - F(start)), shape (N,)."""
        model = self.model if target is None else self.model.with_target(target)
        change = model.value(end_point) - model.value(start_point)
        return attributions.reshape(len(attributions), -1).sum(1) - change

    def integrate(
        self,
        inputs: Tensor,
        baselines: Tensor | float | None = None,
        *,
        target: Target = None,
        tol: float = _TOL,
        max_nodes: int = _MAX_NODES,
        n_steps: int | None = None,
        method: str = "gausslegendre",
        max_rows: int | None = None,
        progress: Progress | None = None,
    ) -> Attribution:
        """Attribute a batch; see `integrated_gradients`."""
        if not isinstance(inputs, Tensor):
            raise TypeError(f"inputs: expected a Tensor, got {type(inputs).__name__}")
        if inputs.dtype not in (torch.float32, torch.float64):
            kind = str(inputs.dtype).removeprefix("torch.")
            raise TypeError(f"inputs: expected float32 or float64, got {kind}")
        if max_rows is not None and max_rows < 1:
            raise ValueError(f"internal_batch_size: expected at least 1, got {max_rows}")
        start = _baseline_rows(baselines, inputs)
        rows = max_rows or 0
        rule = None if n_steps is None else quadrature(method, n_steps)

        def run(plan: _core.PathPlan, samples: Tensor, own: Tensor) -> Parts:
            if rule is not None:
                nodes, weights = rule
                return _core.integrate_path(
                    plan,
                    samples,
                    own,
                    nodes=nodes,
                    weights=weights,
                    max_rows=rows,
                    multiply_by_inputs=self._multiply_by_inputs,
                    progress=progress,
                )
            return _core.integrate_path_adaptively(
                plan,
                samples,
                own,
                tol=tol,
                max_nodes=max_nodes,
                max_rows=rows,
                multiply_by_inputs=self._multiply_by_inputs,
                progress=progress,
            )

        if target is None or isinstance(target, int):
            plan = self._plan(inputs, target)
            return _warn(Attribution(*run(plan, inputs, start), plan.description))
        return self._per_target(run, inputs, start, _target_columns(target, len(inputs)))

    def _per_target(
        self,
        run: Callable[[_core.PathPlan, Tensor, Tensor], Parts],
        inputs: Tensor,
        start: Tensor,
        columns: Tensor,
    ) -> Attribution:
        """One run for each output column that any sample asks for."""
        parts: Parts | None = None
        for column in sorted(set(columns.tolist())):
            chosen = columns == column
            plan = self._plan(inputs, column)
            found = run(plan, inputs[chosen], start if len(start) == 1 else start[chosen])
            if parts is None:
                values, delta, nodes, converged = (
                    f.new_empty((len(inputs), *f.shape[1:])) for f in found
                )
                parts = (values, delta, nodes, converged)
            for part, value in zip(parts, found, strict=True):
                part[chosen] = value
        assert parts is not None  # there is at least one sample, and so one column
        return _warn(Attribution(*parts, plan.description))

    def _plan(self, inputs: Tensor, target: int | None) -> _core.PathPlan:
        key = (inputs.shape[1:], inputs.dtype, inputs.device, target)
        if key not in self._plans:
            model = self.model if target is None else self.model.with_target(target)
            example = inputs[:1].detach()
            if len(example) == 0:
                raise ValueError(
                    f"inputs: expected a batch of at least one sample, got {(*inputs.shape,)}"
                )
            use = self._use_structure
            self._plans[key] = _core.plan_paths(model, example, use_structure=use)
        return self._plans[key]


def integrated_gradients(
    model: Model | IntegratedGradients,
    inputs: Tensor,
    baselines: Tensor | float | None = None,
    *,
    target: Target = None,
    tol: float = _TOL,
    max_nodes: int = _MAX_NODES,
    n_steps: int | None = None,
    method: str = "gausslegendre",
    max_rows: int | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Attribute a batch to a tolerance, or by a fixed rule.

    Parameters
    ----------
    model : path, bytes, ScriptModule, nn.Module or IntegratedGradients
        See `IntegratedGradients`; an instance keeps what it found out about the model.
    inputs, baselines, target, progress
        See `IntegratedGradients.attribute`.
    tol : float
        Spend nodes on each sample until the completeness error and the estimated error of its
        attributions are at most ``tol`` times |F(x) - F(baseline)|, or what rounding may cost: 16
        times the larger of one machine epsilon of the outputs (at least of 1) and what the output
        changes by when the numbers it is computed from change in the last place.
    max_nodes : int
        The most that one sample may spend under ``tol``; the rest is reported as not converged.
    n_steps : int, optional
        Instead of ``tol``: so many nodes for every sample, whatever the error.
    method : str
        Their rule; see `IntegratedGradients.attribute`.
    max_rows : int, optional
        At most so many rows (samples x nodes) in one forward pass.

    Returns
    -------
    Attribution
        With the completeness error, nodes and convergence of every sample.

    Raises
    ------
    ValueError
        If shapes do not match, a value is not finite, or an option is out of range.
    TypeError
        If the inputs are not a tensor of float32 or float64.

    Warns
    -----
    RuntimeWarning
        If samples have not converged.
    """
    ig = model if isinstance(model, IntegratedGradients) else IntegratedGradients(model)
    return ig.integrate(
        inputs,
        baselines,
        target=target,
        tol=tol,
        max_nodes=max_nodes,
        n_steps=n_steps,
        method=method,
        max_rows=max_rows,
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


def _baseline_rows(baselines: Tensor | float | None, inputs: Tensor) -> Tensor:
    if isinstance(baselines, Tensor):
        return baselines
    row = inputs[:1]
    return torch.zeros_like(row) if baselines is None else torch.full_like(row, float(baselines))


def _target_columns(target: Sequence[int] | Tensor, samples: int) -> Tensor:
    columns = torch.as_tensor(target).reshape(-1)
    if columns.dtype.is_floating_point or len(columns) not in (1, samples):
        raise ValueError(f"target: expected one column index, or {samples}, got {len(columns)}")
    return columns.expand(samples)


def _warn(attribution: Attribution) -> Attribution:
    missed = (~attribution.converged).nonzero().flatten().tolist()
    if missed:
        named = ", ".join(map(str, missed[:10])) + (", ..." if len(missed) > 10 else "")
        warnings.warn(
            f"integrated gradients: {len(missed)} of {len(attribution.converged)} samples have not "
            f"converged within max_nodes: {named}",
            RuntimeWarning,
            stacklevel=4,
        )
    return attribution
