"""Integrated Gradients of PyTorch models, computed by the C++ core."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

from fastexai import _core
from fastexai.model_loading import Model, load_eager_model, load_model
from fastexai.packing import Packing
from fastexai.quadrature import quadrature

__all__ = ["Attribution", "IntegratedGradients", "integrated_gradients"]

Progress = Callable[[int, int], object]
Parts = tuple[Tensor, Tensor, Tensor, Tensor]  # values, delta, nodes, converged
Start = Tensor | float | None
Index = tuple[int, ...]  # of one output among those of a row
Target = int | Index | list[int] | list[Index] | Tensor | None

_TOL = 1e-3
_MAX_NODES = 15 * 256

_P = ParamSpec("_P")
_R = TypeVar("_R")


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


def _wrapped_as_in_captum(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Give a method the ``__wrapped__`` by which Captum's ``NoiseTunnel`` calls it."""

    @functools.wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return method(*args, **kwargs)

    return call


class IntegratedGradients:
    """Integrated Gradients (Sundararajan, Taly & Yan, ICML 2017) with Captum's call signature.

    Parameters
    ----------
    model : path, bytes, ScriptModule, nn.Module or callable
        A TorchScript file or its bytes; a module in evaluation mode, which is scripted as it is. Its
        forward returns one row of outputs per row of inputs.
    multiply_by_inputs : bool
        False returns the mean gradient along the path instead of its product with
        ``inputs - baselines``.
    use_structure : bool
        False evaluates the whole model at every node: the same numbers, slowly.
    engine : {"script", "eager"}
        "eager" runs the whole model in Python at every node: for modules that cannot be scripted,
        and for plain callables.
    """

    def __init__(
        self,
        model: Model,
        multiply_by_inputs: bool = True,
        *,
        use_structure: bool = True,
        engine: Literal["script", "eager"] = "script",
    ) -> None:
        if engine not in ("script", "eager"):
            raise ValueError(f"engine: expected 'script' or 'eager', got {engine!r}")
        self._source = model
        self._engine = engine
        self.model: _core.Model = (
            load_model(model) if engine == "script" else load_eager_model(model)
        )
        self._multiply_by_inputs = multiply_by_inputs
        self._use_structure = use_structure
        self._models: dict[tuple[Packing | None, Index], _core.Model] = {(None, ()): self.model}
        self._plans: dict[tuple[object, ...], _core.PathPlan] = {}

    @property
    def forward_func(self) -> Callable[[Tensor], Tensor]:
        """The model's values, under Captum's name."""
        return self.model.value

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

    @_wrapped_as_in_captum
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Start | tuple[Start, ...] = None,
        target: Target = None,
        additional_forward_args: object = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
        max_memory: int | str | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Attribute the model's output to every input, as Captum's method of this name does.

        Parameters
        ----------
        inputs : Tensor, shape (N, ...), float32 or float64, or tuple of them
            The samples.
        baselines : Tensor, float or None, or tuple of them
            (N, ...), one row that serves all, one number, or None for zeros.
        target : int, tuple of int, list of either, or Tensor, optional
            The output to explain, where a row has several: its index (a tuple where outputs have
            more than two dimensions), or one index for each sample.
        additional_forward_args : any, or tuple, optional
            What forward takes after the inputs: tensors with one row per sample, which are not
            attributed, numbers, strings or None.
        n_steps : int
            Number of nodes.
        method : str
            One of ``fastexai.quadrature.METHODS``. All weights sum to 1; Captum's of the trapezoid
            rule do not.
        internal_batch_size : int, optional
            At most so many rows (samples x nodes) in one forward pass.
        return_convergence_delta : bool
            Return the completeness error with its sign as well.
        max_memory : int or str, optional
            See `integrated_gradients`.
        progress : callable, optional
            Called with (samples done, samples in all).

        Returns
        -------
        Tensor or tuple of Tensor; with delta, shape (N,), if asked for
            Attributions, of the inputs' shapes.

        Raises
        ------
        ValueError
            If shapes do not match, or an input, baseline or output is not finite.
        TypeError
            If the inputs are not tensors of float32 or float64.
        """
        packing, rows = self._pack(inputs, additional_forward_args)
        result = self._integrate(
            rows,
            self._pack_start(packing, inputs, baselines, rows),
            packing=packing,
            target=target,
            n_steps=n_steps,
            method=method,
            max_rows=internal_batch_size,
            max_memory=max_memory,
            progress=progress,
        )
        parts = (result.values,) if packing is None else packing.unpack_inputs(result.values)
        values = parts if isinstance(inputs, tuple) else parts[0]
        return (values, result.delta) if return_convergence_delta else values

    def compute_convergence_delta(
        self,
        attributions: Tensor | tuple[Tensor, ...],
        start_point: Start | tuple[Start, ...],
        end_point: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
    ) -> Tensor:
        """Return the sum of attributions minus (F(end) - F(start)), shape (N,)."""
        packing, end = self._pack(end_point, additional_forward_args)
        start = self._pack_start(packing, end_point, start_point, end)
        values = torch.cat([a.flatten(1) for a in _as_tuple(attributions)], dim=1)
        change = torch.empty_like(values[:, 0])
        for index, chosen in _by_index(target, len(end)):
            model = self._model(packing, index)
            own = start if len(start) == 1 else start[chosen]
            change[chosen] = model.value(end[chosen]) - model.value(own)
        return values.sum(1) - change

    def _pack(
        self, inputs: Tensor | tuple[Tensor, ...], further: object
    ) -> tuple[Packing | None, Tensor]:
        """Rows to integrate over; as they are, without packing, where there is just one tensor."""
        if isinstance(inputs, tuple) and not inputs:
            raise ValueError("inputs: expected at least one tensor, got an empty tuple")
        several = _as_tuple(inputs)
        arguments = () if further is None else _as_tuple(further)
        if len(several) == 1 and not arguments:
            return None, several[0]
        packing = Packing.of(several, arguments)
        tensors = [t for t in (*several, *arguments) if isinstance(t, Tensor)]
        return packing, packing.pack(tensors)

    def _pack_start(
        self,
        packing: Packing | None,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Start | tuple[Start, ...],
        rows: Tensor,
    ) -> Tensor:
        """Baselines of `rows`. Arguments that are not attributed stay where they are."""
        several = _as_tuple(inputs)
        starts = baselines if isinstance(baselines, tuple) else (baselines,)
        if baselines is None:
            starts = (None,) * len(several)
        if len(starts) != len(several):
            raise ValueError(
                f"baselines: expected {len(several)}, one per input, got {len(starts)}"
            )
        found = [_baseline_rows(b, x) for b, x in zip(starts, several, strict=True)]
        if packing is None:
            return found[0]
        for start, tensor in zip(found, several, strict=True):
            if start.shape[1:] != tensor.shape[1:] or len(start) not in (1, len(tensor)):
                raise ValueError(
                    f"baselines: expected {(*tensor.shape,)} or one row of it, "
                    f"got {(*start.shape,)}"
                )
        joined = packing.pack([start.expand_as(x) for start, x in zip(found, several, strict=True)])
        return torch.cat([joined, rows[:, joined.shape[1] :]], dim=1)

    def _integrate(
        self,
        inputs: Tensor,
        start: Tensor,
        *,
        packing: Packing | None = None,
        target: Target = None,
        tol: float = _TOL,
        max_nodes: int = _MAX_NODES,
        n_steps: int | None = None,
        method: str = "gausslegendre",
        max_rows: int | None = None,
        max_memory: int | str | None = None,
        mean_over_baselines: bool = False,
        progress: Progress | None = None,
    ) -> Attribution:
        if not isinstance(inputs, Tensor):
            raise TypeError(f"inputs: expected a Tensor, got {type(inputs).__name__}")
        if inputs.dtype not in (torch.float32, torch.float64):
            kind = str(inputs.dtype).removeprefix("torch.")
            raise TypeError(f"inputs: expected float32 or float64, got {kind}")
        if inputs.ndim == 0 or len(inputs) == 0:
            raise ValueError(
                f"inputs: expected a batch of at least one sample, got {(*inputs.shape,)}"
            )
        if max_rows is not None and max_rows < 1:
            raise ValueError(f"internal_batch_size: expected at least 1, got {max_rows}")
        options: dict[str, Any] = {
            "max_rows": max_rows or 0,
            "max_bytes": 0 if max_memory is None else _byte_count(max_memory),
            "multiply_by_inputs": self._multiply_by_inputs,
            "mean_over_baselines": mean_over_baselines,
            "progress": progress,
        }
        run: Callable[..., Parts]
        if n_steps is None:
            run = _core.integrate_path_adaptively
            options |= {"tol": tol, "max_nodes": max_nodes}
        else:
            run = _core.integrate_path
            options |= dict(zip(("nodes", "weights"), quadrature(method, n_steps), strict=True))
        shared = len(start) == 1 or mean_over_baselines
        found = []  # one run for each output that any sample asks for
        for index, chosen in _by_index(target, len(inputs)):
            plan = self._plan(packing, index, inputs)
            own = start if shared else start[chosen]
            found.append((chosen, run(plan, inputs[chosen], own, **options)))
        return Attribution(*_gathered(found, len(inputs)), plan.description)

    def _model(self, packing: Packing | None, index: Index) -> _core.Model:
        """Return the model that takes packed rows and returns one of its outputs."""
        key = (packing, index)
        if key not in self._models:
            if self._engine == "eager":
                self._models[key] = load_eager_model(self._source, packing, index)
            else:
                script = self.model if packing is None else load_model(self._source, packing)
                assert isinstance(script, _core.ScriptModel)
                self._models[key] = script.with_target(index)
        return self._models[key]

    def _plan(self, packing: Packing | None, index: Index, inputs: Tensor) -> _core.PathPlan:
        key = (packing, index, inputs.shape[1:], inputs.dtype, inputs.device)
        if key not in self._plans:
            self._plans[key] = _core.plan_paths(
                self._model(packing, index),
                inputs[:1].detach(),
                use_structure=self._use_structure,
            )
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
    baseline_mode: Literal["paired", "mean"] = "paired",
    lengths: Tensor | Sequence[int] | None = None,
    max_rows: int | None = None,
    max_memory: int | str | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Attribute a batch to a tolerance, or by a fixed rule.

    Parameters
    ----------
    model : path, bytes, ScriptModule, nn.Module, callable or IntegratedGradients
        See `IntegratedGradients`; an instance keeps what it found out about the model.
    inputs : Tensor, shape (N, ...), float32 or float64
        The samples.
    baselines : Tensor, float or None
        (N, ...), one row that serves all, one number, or None for zeros; with
        ``baseline_mode="mean"`` (K, ...).
    target, progress
        See `IntegratedGradients.attribute`.
    tol : float
        Spend nodes on each sample until the completeness error and the estimated error of its
        attributions are at most ``tol`` times |F(x) - F(baseline)|, or what rounding may cost: 64
        times the larger of one machine epsilon of the outputs (at least of 1) and what the output
        changes by when the numbers it is computed from change in the last place.
    max_nodes : int
        The most that one sample may spend under ``tol``; the rest is reported as not converged.
    n_steps : int, optional
        Instead of ``tol``: so many nodes for every sample, whatever the error.
    method : str
        Their rule; see `IntegratedGradients.attribute`.
    baseline_mode : {"paired", "mean"}
        "mean": every sample starts from each of K baselines, and its attributions are averaged
        (expected gradients; Erion et al., 2021).
    lengths : sequence of int, or Tensor, shape (N,), optional
        Frames (N, T, ...) from here on are padding: it stays as it is along the path and gets
        exactly zero attribution.
    max_rows : int, optional
        At most so many rows (samples x nodes) in one forward pass.
    max_memory : int or str, optional
        Bytes, or a size such as "1GiB" or "500 MB": what the run may need on top of the inputs and
        the result. What the model needs is measured first.

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
    if baseline_mode not in ("paired", "mean"):
        raise ValueError(f"baseline_mode: expected 'paired' or 'mean', got {baseline_mode!r}")
    ig = model if isinstance(model, IntegratedGradients) else IntegratedGradients(model)
    integrate = functools.partial(
        ig._integrate,
        target=target,
        tol=tol,
        max_nodes=max_nodes,
        n_steps=n_steps,
        method=method,
        max_rows=max_rows,
        max_memory=max_memory,
        progress=progress,
    )
    start = _baseline_rows(baselines, inputs)
    mean = baseline_mode == "mean"
    if lengths is None:
        return _warn(integrate(inputs, start, mean_over_baselines=mean))
    padding = _padding(inputs, lengths)
    each = len(start) if mean else 1
    ends = inputs.repeat_interleave(each, 0)
    starts = start.repeat(len(inputs), *[1] * (start.ndim - 1)) if mean else start.expand_as(ends)
    held = torch.where(padding.repeat_interleave(each, 0), ends, starts)
    return _warn(_average(integrate(ends, held), each))


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _baseline_rows(baselines: Start, inputs: Tensor) -> Tensor:
    if isinstance(baselines, Tensor):
        return baselines
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs: expected a Tensor, got {type(inputs).__name__}")
    row = inputs[:1]
    return torch.zeros_like(row) if baselines is None else torch.full_like(row, float(baselines))


def _by_index(target: Target, samples: int) -> list[tuple[Index, slice | Tensor]]:
    """Which samples ask for which of a row's outputs."""
    if target is None:
        return [((), slice(None))]
    if isinstance(target, int | tuple):
        return [(_as_tuple(target), slice(None))]
    wanted = target.reshape(-1) if isinstance(target, Tensor) else target
    if isinstance(wanted, Tensor) and wanted.dtype.is_floating_point:
        raise ValueError(f"target: expected whole numbers, got {wanted.dtype}")
    if len(wanted) not in (1, samples):
        raise ValueError(f"target: expected one column index, or {samples}, got {len(wanted)}")
    indices = [_as_tuple(i) for i in (wanted.tolist() if isinstance(wanted, Tensor) else wanted)]
    if len(set(indices)) == 1:
        return [(indices[0], slice(None))]
    return [
        (index, torch.tensor([i for i, own in enumerate(indices) if own == index]))
        for index in sorted(set(indices))
    ]


def _gathered(found: list[tuple[slice | Tensor, Parts]], samples: int) -> Parts:
    """Put the results of some samples each back into the order of all."""
    if len(found) == 1:
        return found[0][1]
    values, delta, nodes, converged = (f.new_empty((samples, *f.shape[1:])) for f in found[0][1])
    for chosen, parts in found:
        for whole, part in zip((values, delta, nodes, converged), parts, strict=True):
            whole[chosen] = part
    return values, delta, nodes, converged


def _byte_count(size: int | str) -> int:
    """Read a number of bytes, or one with a unit."""
    units = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
    found = re.fullmatch(r"([0-9.]+)\s*([kmgt]?)(i?)b?", str(size).strip().lower())
    try:
        assert found is not None
        count = int(float(found[1]) * (1024 if found[3] else 1000) ** units[found[2]])
    except (AssertionError, ValueError):
        count = 0
    if count < 1:
        raise ValueError(f'max_memory: expected bytes or a size such as "1GiB", got {size!r}')
    return count


def _padding(inputs: Tensor, lengths: Tensor | Sequence[int]) -> Tensor:
    """Which entries of (N, T, ...) lie in frames beyond each sample's length."""
    frames = torch.as_tensor(lengths, device=inputs.device)
    if inputs.ndim < 2 or frames.shape != inputs.shape[:1] or frames.dtype.is_floating_point:
        raise ValueError(
            f"lengths: expected {len(inputs)} whole numbers for inputs (N, T, ...), "
            f"got {(*frames.shape,)} for {(*inputs.shape,)}"
        )
    if not ((frames >= 1) & (frames <= inputs.shape[1])).all():
        raise ValueError(f"lengths: expected 1 to {inputs.shape[1]} frames, got {frames.tolist()}")
    beyond = torch.arange(inputs.shape[1], device=inputs.device) >= frames[:, None]
    return beyond.reshape(*beyond.shape, *[1] * (inputs.ndim - 2)).expand_as(inputs)


def _average(attribution: Attribution, each: int) -> Attribution:
    """Average over each sample's baselines, whose results lie together."""
    values = attribution.values
    return replace(
        attribution,
        values=values.reshape(-1, each, *values.shape[1:]).mean(1),
        delta=attribution.delta.reshape(-1, each).mean(1),
        nodes=attribution.nodes.reshape(-1, each).sum(1),
        converged=attribution.converged.reshape(-1, each).all(1),
    )


def _warn(attribution: Attribution) -> Attribution:
    missed = (~attribution.converged).nonzero().flatten().tolist()
    if missed:
        named = ", ".join(map(str, missed[:10])) + (", ..." if len(missed) > 10 else "")
        warnings.warn(
            f"integrated gradients: {len(missed)} of {len(attribution.converged)} samples have not "
            f"converged within max_nodes: {named}",
            RuntimeWarning,
            stacklevel=3,
        )
    return attribution
