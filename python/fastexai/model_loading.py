"""Models in every form that users have, handed to the C++ core."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from fastexai import _core
from fastexai.packing import Packing

__all__ = ["Model", "load_eager_model", "load_model"]

Model = str | os.PathLike[str] | bytes | torch.jit.ScriptModule | nn.Module | Callable[..., Tensor]


def load_model(model: Model, packing: Packing | None = None) -> _core.ScriptModel:
    """Load TorchScript: a path, or bytes, which every LibTorch can read; a module is scripted.

    With a ``packing``, the model is wrapped to take packed rows.
    """
    if packing is not None:
        with _without_deprecation():
            wrapped = packing.wrap_script(_scripted(model))
        return _core.ScriptModel.from_buffer(_saved(wrapped))
    if isinstance(model, bytes):
        return _core.ScriptModel.from_buffer(model)
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        if not path.is_file():
            raise FileNotFoundError(
                f"model: expected a TorchScript file, got {path}, which is not a file"
            )
        return _core.ScriptModel.from_file(str(path))
    return _core.ScriptModel.from_buffer(_saved(_scripted(model)))


def load_eager_model(
    model: Model, packing: Packing | None = None, target: tuple[int, ...] = ()
) -> _core.CallableModel:
    """Let Python run the model's forward, whatever the model is made of."""
    if not callable(model):
        raise TypeError(
            'model: expected an nn.Module or a callable for engine="eager", '
            f"got {type(model).__name__}"
        )
    if isinstance(model, nn.Module) and model.training:
        raise ValueError("model: expected evaluation mode, got training mode; call .eval() before")
    return _core.CallableModel(model if packing is None else packing.wrap(model), target)


def _scripted(model: Model) -> torch.jit.ScriptModule:
    with _without_deprecation():
        if isinstance(model, bytes):
            return _loaded(io.BytesIO(model))
        if isinstance(model, str | os.PathLike):
            return _loaded(os.fspath(model))
        if isinstance(model, nn.Module):
            return _script(model)
    hint = '; a plain callable needs engine="eager"' if callable(model) else ""
    raise TypeError(
        "model: expected a path, bytes, a ScriptModule or an nn.Module, "
        f"got {type(model).__name__}{hint}"
    )


def _loaded(source: str | io.BytesIO) -> torch.jit.ScriptModule:
    module: torch.jit.ScriptModule = torch.jit.load(source)  # type: ignore[no-untyped-call]  # torch's
    return module


def _script(module: nn.Module) -> torch.jit.ScriptModule:
    try:
        return torch.jit.script(module)
    except Exception as error:  # TorchScript's compiler raises whatever it meets
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            "model: expected an nn.Module that TorchScript can compile, "
            f'got {type(module).__name__} ({reason}); trace it, or use engine="eager"'
        ) from error


def _saved(module: torch.jit.ScriptModule) -> bytes:
    buffer = io.BytesIO()
    with _without_deprecation():
        torch.jit.save(module, buffer)
    return buffer.getvalue()


def _without_deprecation() -> warnings.catch_warnings[None]:
    """TorchScript is the only way to C++ with gradients, and deprecated all the same."""
    return warnings.catch_warnings(action="ignore", category=DeprecationWarning)
