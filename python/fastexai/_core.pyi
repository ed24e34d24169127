from collections.abc import Callable, Sequence

from torch import Tensor

def align_eyes(landmarks: Tensor) -> Tensor: ...
def align_to_reference(landmarks: Tensor, *, reference: Tensor, basis: Tensor) -> Tensor: ...
def resample(
    landmarks: Tensor, timestamps: Tensor, *, frames: int, max_gap: int | None = None
) -> Tensor: ...
def fill_gaps(landmarks: Tensor, timestamps: Tensor, *, max_gap: int) -> Tensor: ...
def smooth(
    landmarks: Tensor,
    timestamps: Tensor,
    *,
    min_cutoff: float,
    beta: float,
    derivative_cutoff: float,
) -> Tensor: ...
def normalize_clips(
    clips: Sequence[Tensor],
    timestamps: Sequence[Tensor],
    *,
    frames: int,
    procrustes: tuple[Tensor, Tensor] | None = None,
    smoothing: tuple[float, float, float] | None = None,
    neutral_frames: int = 0,
) -> tuple[Tensor, Tensor, Tensor]: ...

class Model:
    def value(self, inputs: Tensor) -> Tensor: ...

class CallableModel(Model):
    def __init__(self, forward: Callable[..., object], target: Sequence[int] = ...) -> None: ...

class ScriptModel(Model):
    @staticmethod
    def from_file(path: str) -> ScriptModel: ...
    @staticmethod
    def from_buffer(buffer: bytes) -> ScriptModel: ...
    def with_target(self, target: Sequence[int]) -> ScriptModel: ...

def gauss_legendre(n: int) -> tuple[list[float], list[float]]: ...

class PathPlan:
    @property
    def description(self) -> str: ...

def plan_paths(model: Model, example: Tensor, *, use_structure: bool = True) -> PathPlan: ...
def integrate_path(
    plan: PathPlan,
    inputs: Tensor,
    baselines: Tensor,
    *,
    nodes: Sequence[float],
    weights: Sequence[float],
    max_rows: int = 0,
    max_bytes: int = 0,
    multiply_by_inputs: bool = True,
    mean_over_baselines: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
def integrate_path_adaptively(
    plan: PathPlan,
    inputs: Tensor,
    baselines: Tensor,
    *,
    tol: float,
    max_nodes: int,
    max_rows: int = 0,
    max_bytes: int = 0,
    multiply_by_inputs: bool = True,
    mean_over_baselines: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
def masked_scores(
    model: ScriptModel, clips: Tensor, *, baseline: Tensor, kept: Tensor
) -> Tensor: ...

class Score:
    @property
    def balanced_accuracy(self) -> float: ...
    @property
    def roc_auc(self) -> float: ...
    @property
    def log_loss(self) -> float: ...

def search_landmarks(
    plan: PathPlan,
    clips: Tensor,
    labels: Tensor,
    *,
    validation: Tensor,
    neutral: Tensor,
    baselines: Tensor,
    sizes: Sequence[int],
    strategy: str,
    objective: str,
    groups: Tensor,
    fixed: Tensor,
    excluded: Tensor,
    positions: Tensor,
    min_spacing: float,
    candidates: int,
    beam_width: int,
    redundancy: float,
    nodes: int,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[list[Tensor], list[Score], Tensor, str]: ...
