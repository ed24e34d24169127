"""What makes clips of real life harder than posed ones; each effect from a random stream of its own."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fastexai.datasets.action_units import EMOTIONS, UNITS

Array = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Nuisances:
    """What simulated clips suffer beyond their difficulty; by default nothing.

    Each effect draws from a random stream of its own: switched on or off, it leaves everything
    else of a seed as it is. Shares are exact, up to rounding to whole clips.

    Attributes
    ----------
    mixture : float
        Share of the clips, 0 to 1, that show a second emotion at 20 to 50 % of a full one's
        strength, neutral clips among them. It is drawn from all emotions without a look at the
        label, and left out where it is the clip's own: landmarks that the label's emotion does
        not move are moved alike under every label.
    partial : float
        Chance, 0 to 1, that a unit of the label's emotion stays away. One always shows, and the
        difficulty's own chance, a quarter of it, is the least.
    asymmetry : float
        In every clip one half of the face, drawn by lot, shows its label's emotion more weakly,
        by a loss of 0 to this much, 0 to 1; on top of how uneven units are by themselves.
    occlusion : float
        Share of the clips, 0 to 1, in which a mask, sunglasses or, for a while, a hand hide
        landmarks. A detector of meshes guesses those, as the face at rest; see `occlusion`.
    profile : float
        Share of the clips, 0 to 1, with the head turned aside by 35 to 65 degrees. Landmarks that
        look away from the camera are guessed, and depth is less certain.
    label_noise : float
        Share of the clips, 0 to 1, with a wrong label, each of the others as likely.

    Raises
    ------
    ValueError
        If a number is not in [0, 1].

    See Also
    --------
    IN_THE_WILD : The shares that published data sets report.

    Examples
    --------
    >>> from fastexai.datasets import Nuisances, simulate_landmarks
    >>> simulated = simulate_landmarks(20, nuisances=Nuisances(label_noise=0.1))
    >>> labels = [clip.label for clip in simulated.clips]
    >>> sum(a != b for a, b in zip(labels, simulated.true_labels, strict=True))
    2
    """

    mixture: float = 0.0
    partial: float = 0.0
    asymmetry: float = 0.0
    occlusion: float = 0.0
    profile: float = 0.0
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise ValueError(f"{field.name}: expected a number from 0 to 1, got {value}")


#: Rates of photographs from the web. Mixture: 3,954 of RAF-DB's 19,293 published labels are compound
#: (Li, Deng & Du, CVPR 2017). Occlusion and profile: 736 and 326 of WFLW's 2,500 test faces (Wu et
#: al., CVPR 2018). Label noise: two annotators of AffectNet agree on 60.7 % (Mollahosseini, Hasani &
#: Mahoor, IEEE TAC 2019), as if each were right in 78 %. Asymmetry: halves of normal faces differ
#: by 7 to 9 % (Scriba et al., Ann Otol Rhinol Laryngol 108, 1999), less than units do anyway: none.
IN_THE_WILD = Nuisances(mixture=0.2, occlusion=0.29, profile=0.13, label_noise=0.22)


def draw_chosen(rng: Rng, share: float, n: int) -> NDArray[np.bool_]:
    """Draw a share of ``n`` clips, (N,); with a greater share, the same ones and more."""
    return np.asarray(rng.permutation(n) < round(share * n), np.bool_)


def draw_second_emotions(rng: Rng, share: float, labels: Sequence[str]) -> tuple[str, ...]:
    """Draw the second emotion of each clip, "" where there is none; see `Nuisances`."""
    mixed, drawn = draw_chosen(rng, share, len(labels)), rng.integers(0, len(EMOTIONS), len(labels))
    seconds = (EMOTIONS[i] if is_mixed else "" for i, is_mixed in zip(drawn, mixed, strict=True))
    return tuple("" if b == a else b for a, b in zip(labels, seconds, strict=True))


def draw_halves(rng: Rng, asymmetry: float, n: int) -> NDArray[np.float64]:
    """Draw what is left of each unit, (N, 2 U): right halves, then left ones."""
    loss = asymmetry * rng.random((n, 1)) * rng.permuted(np.tile([1.0, 0.0], (n, 1)), axis=1)
    return np.repeat(1 - loss, len(UNITS), axis=1)


def draw_labels(
    rng: Rng, share: float, true_labels: Sequence[str], choice: Sequence[str]
) -> tuple[str, ...]:
    """Draw the labels as given: a share of them is another one of ``choice``."""
    n = len(true_labels)
    wrong, steps = draw_chosen(rng, share, n), rng.integers(1, len(choice), n)
    true = np.array([choice.index(label) for label in true_labels])
    return tuple(choice[i] for i in (true + wrong * steps) % len(choice))
