"""Several inputs and further arguments of a model as the rows of one tensor.

The core integrates along the path of one tensor. Everything that differs from sample to sample is
packed into that tensor's rows, and the model is wrapped so that it unpacks them again.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Packing"]

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Field:
    """A tensor argument: its shape without the samples, and its dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def width(self) -> int:
        """Entries in a packed row."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Constant:
    """An argument that is the same for all samples."""

    value: bool | int | float | str | None
    kind: type  # True == 1 == 1.0, but a model may tell them apart


@dataclass(frozen=True, slots=True)
class Packing:
    """Where each argument of a model's forward lies in a packed row.

    Attributes
    ----------
    arguments : tuple of Field or Constant
        One for each of forward's arguments, in order.
    inputs : int
        How many of them, the first ones, are to be attributed.
    """

    arguments: tuple[Field | Constant, ...]
    inputs: int

    @classmethod
    def of(cls, inputs: Sequence[Tensor], further: Sequence[object]) -> Packing:
        """Plan for these inputs (N, ...) and further arguments.

        Raises
        ------
        TypeError
            If inputs are not tensors of one floating dtype, or another argument is neither a
            tensor nor a number, a string or None.
        ValueError
            If a tensor has not one entry per sample.
        """
        arguments: list[Field | Constant] = []
        for i, tensor in enumerate(inputs):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"inputs: expected tensors, got {type(tensor).__name__} at {i}")
            if tensor.dtype != inputs[0].dtype or not tensor.dtype.is_floating_point:
                kinds = ", ".join(str(t.dtype).removeprefix("torch.") for t in inputs)
                raise TypeError(f"inputs: expected one floating dtype, got {kinds}")
            if tensor.ndim == 0 or len(tensor) != len(inputs[0]):
                shapes = ", ".join(str((*t.shape,)) for t in inputs)
                raise ValueError(f"inputs: expected as many samples in each, got {shapes}")
            arguments.append(Field(tuple(tensor.shape[1:]), tensor.dtype))
        for argument in further:
            if isinstance(argument, Tensor):
                _check_further(argument, inputs[0])
                arguments.append(Field(tuple(argument.shape[1:]), argument.dtype))
            elif isinstance(argument, bool | int | float | str | None):
                arguments.append(Constant(argument, type(argument)))
            else:
                raise TypeError(
                    "additional_forward_args: expected tensors, numbers, strings or None, "
                    f"got {type(argument).__name__}"
                )
        return cls(tuple(arguments), len(inputs))

    def pack(self, tensors: Sequence[Tensor]) -> Tensor:
        """Join the tensors among the arguments, (N, ...) each, to rows (N, D)."""
        dtype = tensors[0].dtype
        return torch.cat([t.reshape(len(t), -1).to(dtype) for t in tensors], dim=1)

    def unpack(self, rows: Tensor) -> tuple[Any, ...]:
        """Return forward's arguments again."""
        found: list[Any] = []
        start = 0
        for argument in self.arguments:
            if isinstance(argument, Field):
                part = rows[:, start : start + argument.width]
                found.append(part.reshape(-1, *argument.shape).to(argument.dtype))
                start += argument.width
            else:
                found.append(argument.value)
        return tuple(found)

    def unpack_inputs(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the inputs' share of rows (N, D), such as attributions."""
        return self.unpack(rows)[: self.inputs]

    def wrap(self, forward: Callable[..., object]) -> Callable[[Tensor], object]:
        """Let a callable take packed rows."""
        return lambda rows: forward(*self.unpack(rows))

    def wrap_script(self, module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
        """Let a TorchScript module take packed rows."""
        words = []
        start = 0
        for argument in self.arguments:
            if isinstance(argument, Field):
                part = f"rows[:, {start}:{start + argument.width}]"
                shape = ", ".join(map(str, (-1, *argument.shape)))
                words.append(f"{part}.reshape([{shape}]).to({argument.dtype})")
                start += argument.width
            else:
                words.append(repr(argument.value))
        wrapped = torch.jit.script(_Holder(module).eval())
        wrapped.define(f"def forward(self, rows):\n    return self.model({', '.join(words)})\n")
        return wrapped


class _Holder(nn.Module):
    """A place for a wrapped model. Alike modules share a type in TorchScript, and so their forward.

    A number of its own keeps them apart.
    """

    __constants__ = ("number",)

    def __init__(self, model: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.model = model
        self.number = next(_numbers)


def _check_further(argument: Tensor, inputs: Tensor) -> None:
    if argument.ndim == 0 or len(argument) != len(inputs):
        raise ValueError(
            f"additional_forward_args: expected tensors with {len(inputs)} rows, one per sample, "
            f"got {(*argument.shape,)}"
        )
    if not torch.equal(argument.to(inputs.dtype).to(argument.dtype), argument):
        kind = str(inputs.dtype).removeprefix("torch.")
        raise ValueError(f"additional_forward_args: expected numbers that {kind} holds exactly")
