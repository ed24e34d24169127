"""From face videos to explained, pruned emotion classifiers."""

from importlib.metadata import version as _version

import torch as _torch

try:
    from fastexai import _build
except ImportError as _error:  # a source tree on the path without the compiled core
    raise ImportError(
        "fastexai: its compiled core is missing; install the package with `pip install .`"
    ) from _error

# The C++ ABI moves with torch's minor version: another one would crash instead of failing.
if _torch.__version__.split(".")[:2] != _build.TORCH_VERSION.split(".")[:2]:
    raise ImportError(
        f"fastexai: its core was built for torch {_build.TORCH_VERSION}, but torch "
        f"{_torch.__version__} is installed; rebuild with `pip install --force-reinstall .`"
    )

from fastexai import datasets, mesh
from fastexai.attribution import Attribution, IntegratedGradients, integrated_gradients
from fastexai.cross_validation import CrossValidation, cross_validate
from fastexai.explanation import DatasetExplanation, explain_dataset
from fastexai.extraction import extract
from fastexai.face_model import face_model_path
from fastexai.landmarks import (
    ClipSet,
    Normalization,
    OneEuro,
    fill_gaps,
    normalize,
    prototypes,
    resample,
)
from fastexai.overlay import overlay
from fastexai.pruning import PruningPath, prune
from fastexai.report import report
from fastexai.store import LandmarkStore
from fastexai.training import EmotionClassifier
from fastexai.video import LandmarkClip, extract_landmarks

__version__ = _version("fastexai")

__all__ = [
    "Attribution",
    "ClipSet",
    "CrossValidation",
    "DatasetExplanation",
    "EmotionClassifier",
    "IntegratedGradients",
    "LandmarkClip",
    "LandmarkStore",
    "Normalization",
    "OneEuro",
    "PruningPath",
    "cross_validate",
    "datasets",
    "explain_dataset",
    "extract",
    "extract_landmarks",
    "face_model_path",
    "fill_gaps",
    "integrated_gradients",
    "mesh",
    "normalize",
    "overlay",
    "prototypes",
    "prune",
    "report",
    "resample",
]
