"""The model file: TorchScript that any LibTorch program can run, which also describes itself.

Beside the code, the ``.pt`` archive holds three extra files: ``fastexai.json`` (the metadata),
``baselines.npy`` (the training set's prototypes) and ``state_dict.npz`` (the plain weights, so that
the model outlives TorchScript).
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import os
import warnings
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastexai.aside import written_aside
from fastexai.calibration import Calibration
from fastexai.landmarks import Normalization

__all__ = ["ModelMetadata", "read_model", "write_model"]

_FORMAT = 2


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model file says about its model.

    Attributes
    ----------
    emotion : str
        The emotion whose presence a positive logit asserts.
    landmarks : int
        Landmarks per frame of the clips that the model takes, L.
    frames : int
        Frames per clip, T.
    kept : list of int
        The landmarks that the model reads.
    parameters : dict of str to any
        Those of `EmotionClassifier`, whose network the weights belong to.
    classes : list
        What ``predict`` answers with: "no" first.
    threshold : float
        What was taken off the logit, so that a positive one asserts the emotion.
    calibration : Calibration
        From logits to probabilities.
    normalization : Normalization
        How clips were made comparable.
    versions : dict of str to str
        The packages that made the file.
    """

    emotion: str
    landmarks: int
    frames: int
    kept: list[int]
    parameters: dict[str, Any] = field(default_factory=dict)
    classes: list[Any] = field(default_factory=lambda: [False, True])
    threshold: float = 0.0
    calibration: Calibration = field(default_factory=Calibration)
    normalization: Normalization = field(default_factory=Normalization)
    versions: dict[str, str] = field(default_factory=dict)


def write_model(
    path: str | os.PathLike[str],
    network: torch.nn.Module,
    metadata: ModelMetadata,
    baselines: NDArray[np.float32],
    *,
    overwrite: bool = False,
) -> None:
    """Write a network in evaluation mode with its description; the file appears whole or not at all.

    Parameters
    ----------
    path : path-like
        The ``.pt`` file.
    network : torch.nn.Module
        On the CPU; takes (N, T, L, 3) and returns (N,).
    metadata : ModelMetadata
        Becomes ``fastexai.json``.
    baselines : ndarray, shape (K, T, L, 3), float32
        Typical training clips, the default baselines of an explanation.
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    FileExistsError
        If the file exists and is not to be overwritten.
    """
    if Path(path).exists() and not overwrite:
        raise FileExistsError(
            f"path: expected a new file, got {path}, which exists; overwrite=True replaces it"
        )
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    extra = {
        "fastexai.json": json.dumps(
            {"format": _FORMAT, **asdict(metadata)}, default=lambda value: value.tolist()
        ),
        "baselines.npy": _to_bytes(np.save, baselines),
        "state_dict.npz": _to_bytes(np.savez, **weights),
    }
    with warnings.catch_warnings():
        # torch.jit is deprecated, yet the only road to gradients in C++; here alone that is no news.
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        script = torch.jit.script(network.eval())
        with written_aside(Path(path)) as aside:
            torch.jit.save(script, str(aside), _extra_files=extra)


def read_model(
    path: str | os.PathLike[str],
) -> tuple[ModelMetadata, NDArray[np.float32], dict[str, NDArray[Any]]]:
    """Read a model file's metadata, baselines and weights, without TorchScript.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no model file of this package, or of another format version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"model: expected a TorchScript file, got {path}, which does not exist"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            extra = {Path(n).name: n for n in archive.namelist() if "/extra/" in n}
            description = json.loads(archive.read(extra["fastexai.json"]))
            baselines = np.load(io.BytesIO(archive.read(extra["baselines.npy"])))
            weights = dict(np.load(io.BytesIO(archive.read(extra["state_dict.npz"]))))
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"model: expected a file written by export(), got {path} ({error})"
        ) from None
    if description.pop("format", None) != _FORMAT:
        raise ValueError(
            f"model: expected format {_FORMAT}, got another in {path}; export it again"
        )
    description["normalization"] = Normalization.from_dict(description["normalization"])
    description["calibration"] = Calibration.from_dict(description["calibration"])
    return ModelMetadata(**description), baselines, weights


def _to_bytes(save: Any, *arrays: Any, **named: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()
