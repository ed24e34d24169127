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
from fastexai.augmentation import Augmentation
from fastexai.clip_explanation import ClipExplanation, explain_clips
from fastexai.cross_validation import CrossValidation, cross_validate
from fastexai.ensemble import EmotionEnsemble
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
from fastexai.live import live
from fastexai.metrics import Interval, paired_difference, subject_bootstrap
from fastexai.overlay import overlay
from fastexai.plot import plot_relevance
from fastexai.pruning import LandmarkSelector, PruningPath, prune
from fastexai.report import report
from fastexai.search import LandmarkSearch, search_landmarks
from fastexai.store import LandmarkStore
from fastexai.training import EmotionClassifier
from fastexai.video import LandmarkClip, extract_faces, extract_landmarks

__version__ = _version("fastexai")

__all__ = [
    "Attribution",
    "Augmentation",
    "ClipExplanation",
    "ClipSet",
    "CrossValidation",
    "DatasetExplanation",
    "EmotionClassifier",
    "EmotionEnsemble",
    "IntegratedGradients",
    "Interval",
    "LandmarkClip",
    "LandmarkSearch",
    "LandmarkSelector",
    "LandmarkStore",
    "Normalization",
    "OneEuro",
    "PruningPath",
    "cross_validate",
    "datasets",
    "explain_clips",
    "explain_dataset",
    "extract",
    "extract_faces",
    "extract_landmarks",
    "face_model_path",
    "fill_gaps",
    "integrated_gradients",
    "live",
    "mesh",
    "normalize",
    "overlay",
    "paired_difference",
    "plot_relevance",
    "prototypes",
    "prune",
    "report",
    "resample",
    "search_landmarks",
    "subject_bootstrap",
]
