"""What all architectures share: an affine first step, a body over time, and a linear readout."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fastexai.models.bodies import Body

__all__ = ["FEATURES", "ClipNetwork"]

FEATURES: tuple[str, ...] = ("positions", "velocities", "both")

_COMPONENTS = 48  # principal components that the body reads
_MAX_GAIN = 2.0  # how much more than the leading principal component another may be amplified
_CLIPS = 128  # of training, drawn at random: enough to see what moves together
_FRAMES = 1024  # of these clips, evenly spread; fewer than twice as many


class ClipNetwork(nn.Module):
    """Affine projection of every frame, a body, means over both halves of the clip, linear readout.

    Parameters
    ----------
    make_body : callable
        From the number of inputs to a body.
    kept : Tensor, shape (K,), int64
        The landmarks that the network reads.
    landmarks : int
        Landmarks per frame of a full clip, L.
    features : {"positions", "velocities", "both"}
        What is projected: positions relative to the clip's mean face; their changes from frame to
        frame; or both. The latter two have one time step less than the clip.
    components : int, optional
        Width of the projection, for each of the features; 48, or fewer for few landmarks.

    Attributes
    ----------
    held : Tensor, shape (1 or T, projection.out_features)
        What landmarks that are no longer read add to the projection (`keep`); zeros at first.
    hidden : int
        Units of the body, per direction where it has two.
    random_parameters : int
        How many of the parameters were drawn and are never trained.
    """

    def __init__(
        self,
        make_body: Callable[[int], Body],
        kept: Tensor,
        *,
        landmarks: int,
        features: str = "positions",
        components: int | None = None,
    ) -> None:
        super().__init__()
        if features not in FEATURES:
            raise ValueError(f"features: expected one of {', '.join(FEATURES)}, got {features!r}")
        self.landmarks = landmarks
        self.has_positions = features != "velocities"
        self.has_velocities = features != "positions"
        self.hidden = 0
        self.random_parameters = 0
        self.kept: Tensor
        self.register_buffer("kept", kept)
        streams, coordinates = self.has_positions + self.has_velocities, 3 * len(kept)
        width = streams * (components or min(_COMPONENTS, coordinates))
        self.projection = nn.Linear(streams * coordinates, width, bias=False)
        self.held: Tensor
        self.register_buffer("held", torch.zeros(1, width))
        self.body = make_body(width)
        self.readout = nn.Linear(2 * self.body.width, 1)

    @torch.no_grad()
    def fit_projection(self, clips: Tensor) -> None:
        """Set the projection to the principal components of training clips, (N, T, L, 3).

        Positions and velocities have components of their own. A sample of the clips is enough.
        """
        self.held.zero_()
        weight = self.projection.weight.zero_()
        chosen = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0))[:_CLIPS]
        motion = self._motion(clips[chosen]).flatten(0, 1)
        motion = motion[:: max(1, len(motion) // _FRAMES)]
        streams = self.has_positions + self.has_velocities
        blocks = zip(weight.chunk(streams, 0), motion.chunk(streams, 1), strict=True)
        for k, (rows, stream) in enumerate(blocks):
            axes = _principal_axes(stream, len(rows))
            rows.chunk(streams, 1)[k][: len(axes)].copy_(axes)

    @torch.no_grad()
    def keep(self, kept: Tensor, baseline: Tensor) -> ClipNetwork:
        """Return a network that reads fewer landmarks and answers as this one if the others rest.

        The first step is affine: what a resting landmark adds to it is one vector per time step,
        whatever the clip, and the columns that read it can go.

        Parameters
        ----------
        kept : Tensor, shape (K,), int64
            Landmarks that are read now and go on being read.
        baseline : Tensor, shape (T, L, 3)
            Where the others rest.
        """
        smaller = copy.deepcopy(self)
        resting = baseline.clone()
        resting[:, kept] = 0
        smaller.held = self.held + self.projection(self._motion(resting[None]))[0]
        column = torch.empty(self.landmarks, dtype=torch.int64)
        column[self.kept] = torch.arange(self.kept.numel())
        weight = self.projection.weight.view(len(self.projection.weight), -1, self.kept.numel(), 3)
        weight = weight[:, :, column[kept]].flatten(1)
        smaller.projection = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        smaller.projection.weight.copy_(weight)
        smaller.projection.requires_grad_(self.projection.weight.requires_grad)
        smaller.kept = kept
        return smaller

    def _motion(self, clips: Tensor) -> Tensor:
        """(N, T, L, 3) to (N, T, coordinates), or to T - 1 steps where there are velocities."""
        if self.kept.numel() != self.landmarks:
            # Of (N * T, L, 3): four times as fast as of four dimensions.
            kept = clips.flatten(0, 1).index_select(1, self.kept)
            clips = kept.view(clips.shape[0], clips.shape[1], -1, 3)
        # Before the projection, although they commute: afterwards large numbers would cancel.
        positions = (clips - clips.mean(1, keepdim=True)).flatten(2)
        if not self.has_velocities:
            return positions
        velocities = positions[:, 1:] - positions[:, :-1]
        return torch.cat([positions[:, 1:], velocities], 2) if self.has_positions else velocities

    def features(self, clips: Tensor) -> Tensor:
        """Return what the readout reads: (N, T, L, 3) to (N, readout.in_features)."""
        steps = self.body(self.projection(self._motion(clips)) + self.held)
        half = (steps.shape[1] + 1) // 2  # both have the middle one of an odd number of steps
        means = [steps[:, :half].mean(1), steps[:, -half:].mean(1)]
        return torch.stack(means, 2).flatten(1)

    def forward(self, clips: Tensor) -> Tensor:
        """Return one logit per clip: (N, T, L, 3) to (N,)."""
        logit: Tensor = self.readout(self.features(clips)).squeeze(-1)
        return logit


def _principal_axes(motion: Tensor, components: int) -> Tensor:
    """Scaled principal axes of centred rows, at most as many as there are rows: (components, K).

    The leading component gets unit variance; weaker ones are amplified towards it, up to a limit. A
    random projection would spread every landmark's noise over all units, and the attributions with
    it.
    """
    q = min(components, len(motion))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the range finder; the components do not depend on it
        _, spread, axes = torch.pca_lowrank(motion, q=q, center=False)
    scale = len(motion) ** 0.5 / spread.clamp_min(1e-12)
    scaled: Tensor = axes * scale.clamp_max(_MAX_GAIN * float(scale.min()))
    return scaled.T
