"""Networks that read ``[N, T, L, 3]`` clips and answer with one logit each.

Every network is affine up to its recurrence: pick the kept landmarks, subtract the clip's mean face,
project. What a landmark contributes is therefore known before the first nonlinearity.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["ARCHITECTURES", "Architecture", "BiLSTM", "build_network"]

Architecture = Literal["bilstm", "randomized_bilstm"]
ARCHITECTURES: tuple[str, ...] = ("bilstm", "randomized_bilstm")

_COMPONENTS = 32  # width of the projection
_MAX_GAIN = 4.0  # how much more than the leading principal component another may be amplified
_INPUT_SCALE = 0.5  # of random input weights: below saturation
_SPECTRAL_RADIUS = 0.9  # of random recurrent weights: activity neither dies out nor explodes


class BiLSTM(nn.Module):
    """Affine projection of every frame, bidirectional LSTM, mean over time, linear readout.

    Parameters
    ----------
    kept : Tensor, shape (K,), int64
        The landmarks that the network reads.
    landmarks : int
        Landmarks per frame of a full clip, L.
    components : int
        Width of the projection, at most 3 K.
    hidden : int
        Hidden units per direction.
    """

    def __init__(self, kept: Tensor, *, landmarks: int, components: int, hidden: int) -> None:
        super().__init__()
        self.landmarks = landmarks
        self.kept: Tensor
        self.register_buffer("kept", kept)
        self.projection = nn.Linear(3 * len(kept), components, bias=False)
        self.lstm = nn.LSTM(components, hidden, batch_first=True, bidirectional=True)
        self.readout = nn.Linear(2 * hidden, 1)

    @torch.no_grad()
    def fit_projection(self, clips: Tensor) -> None:
        """Set the projection to the principal components of training clips, (N, T, L, 3).

        The leading component gets unit variance; weaker ones are amplified towards it, up to a
        limit. A random projection would spread every landmark's noise over all units, and the
        attributions with it.
        """
        movement = self._movement(clips).flatten(0, 1)
        q = min(len(self.projection.weight), len(movement))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # of the range finder; the components do not depend on it
            _, spread, axes = torch.pca_lowrank(movement, q=q, center=False)
        scale = len(movement) ** 0.5 / spread.clamp_min(1e-12)
        scaled = axes * scale.clamp_max(_MAX_GAIN * float(scale.min()))
        self.projection.weight.zero_()
        self.projection.weight[:q].copy_(scaled.T)

    def _movement(self, clips: Tensor) -> Tensor:
        if self.kept.numel() != self.landmarks:
            clips = clips.index_select(2, self.kept)
        # Before the projection, although they commute: afterwards large numbers would cancel.
        return (clips - clips.mean(1, keepdim=True)).flatten(2)

    def features(self, clips: Tensor) -> Tensor:
        """Return what the readout reads: (N, T, L, 3) to (N, 2 * hidden)."""
        steps, _ = self.lstm(self.projection(self._movement(clips)))
        mean: Tensor = steps.mean(1)
        return mean

    def forward(self, clips: Tensor) -> Tensor:
        """Return one logit per clip: (N, T, L, 3) to (N,)."""
        logit: Tensor = self.readout(self.features(clips)).squeeze(-1)
        return logit


def build_network(
    architecture: str, *, kept: Tensor, landmarks: int, hidden: int, seed: int
) -> BiLSTM:
    """Draw a network's initial weights from ``seed``, leaving torch's global generator alone.

    ``randomized_bilstm`` draws its recurrent layer once and never trains it (Di Luzio et al., arXiv
    2407.14865).

    Raises
    ------
    ValueError
        If the architecture is unknown.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {architecture!r}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        components = min(_COMPONENTS, 3 * len(kept))
        network = BiLSTM(kept, landmarks=landmarks, components=components, hidden=hidden)
        if architecture == "randomized_bilstm":
            _randomize(network.lstm)
    return network


@torch.no_grad()
def _randomize(lstm: nn.LSTM) -> None:
    for name, weights in lstm.named_parameters():
        weights.requires_grad_(False)
        if name.startswith("weight_ih"):
            weights.normal_(std=_INPUT_SCALE * weights.shape[1] ** -0.5)
        elif name.startswith("weight_hh"):
            # A square Gaussian matrix of variance 1 / n has spectral radius 1 (Girko's circular law).
            weights.normal_(std=_SPECTRAL_RADIUS * weights.shape[1] ** -0.5)
        elif name.startswith("bias_ih"):
            weights.normal_(std=_INPUT_SCALE)  # units at different operating points
        else:
            weights.zero_()
