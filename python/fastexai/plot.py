"""A still picture of relevance for papers."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastexai import mesh
from fastexai.aside import written_aside
from fastexai.explanation import DatasetExplanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_relevance"]

# Without the date and the program's version that matplotlib would write: equal in, equal out.
_METADATA: dict[str, dict[str, None]] = {
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
}
_STYLE: Any = {  # Any: the stubs know every key of matplotlib's by name
    "font.family": "sans-serif",
    "font.size": 8,
    "pdf.fonttype": 42,  # TrueType, embedded; journals refuse Type 3
    "svg.fonttype": "path",  # letters as outlines: no font is needed to read them
    "svg.hashsalt": "fastexai",
}
_STRONGEST = 10  # relevance has a long tail: so many landmarks share the last colour
_ROW = 4  # faces beside each other
_FACE = mesh.CANONICAL_FACE[:, :2]  # from the front: x to the subject's left, y up
_LINE, _EDGE, _SKIN, _KEPT = "#8d8a99", "#dedce3", "#f6f5f8", "#d6247f"


def plot_relevance(
    explanations: DatasetExplanation | Iterable[DatasetExplanation],
    path: str | os.PathLike[str],
    *,
    kept: ArrayLike | Mapping[str, ArrayLike] | None = None,
    face_inches: float = 2.2,
    dpi: float = 300,
) -> Path:
    """Draw the relevance of every landmark on a face seen from the front.

    Colour and size of a dot are the landmark's share of the relevance of all landmarks, in per
    cent, on one scale for all faces; the strongest ones of the most concentrated face share the
    last colour, as the arrow at the scale's end says. The same explanations give the same file,
    byte for byte, with the same version of matplotlib.

    Parameters
    ----------
    explanations : DatasetExplanation, or iterable of them
        Each becomes a face, four in a row.
    path : path-like
        Ends in ``.pdf`` or ``.svg``, which are vector graphics with fonts embedded, or in ``.png``.
        The file appears whole or not at all.
    kept : array_like of int, or dict of str to array_like, optional
        Landmarks to ring, such as ``path.kept[path.best]`` of a `PruningPath`: on every face, or by
        emotion.
    face_inches : float
        Width of one face with its margins.
    dpi : float
        Dots per inch of a ``.png``.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If ``explanations`` holds anything else.
    ValueError
        If there is none, one is not of 468 landmarks or not finite, ``path`` ends otherwise,
        ``kept`` holds what is no landmark or an emotion that is not drawn, or a size is not
        positive.

    Examples
    --------
    >>> import fastexai as fx
    >>> clips = fx.datasets.simulate_expressions(40, emotions=("happiness",), seed=0)
    >>> _ = fx.EmotionClassifier("happiness", "randomized_bilstm").fit(clips).export("happy.pt")
    >>> explanation = fx.explain_dataset("happy.pt", clips)
    >>> fx.plot_relevance(explanation, "relevance.pdf", kept=explanation.ranking[:24]).name
    'relevance.pdf'
    """
    path = Path(path)
    shown = _checked(explanations)
    if path.suffix.lower() not in _METADATA:
        raise ValueError(f"path: expected a name that ends in .pdf, .png or .svg, got {path}")
    for name, value in (("face_inches", face_inches), ("dpi", dpi)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name}: expected a positive number, got {value}")
    rings = _rings(kept, shown)
    try:
        from matplotlib import rc_context
    except ImportError:
        raise ImportError(
            "plot_relevance: matplotlib is missing; install it with `pip install 'fastexai[plot]'`"
        ) from None
    with rc_context(_STYLE), written_aside(path) as aside:
        figure = _draw(shown, rings, face_inches)
        figure.savefig(
            aside,
            dpi=dpi,
            metadata=_METADATA[path.suffix.lower()],
            bbox_inches="tight",
            pad_inches=0.03,
        )
    return path


def _checked(
    explanations: DatasetExplanation | Iterable[DatasetExplanation],
) -> list[DatasetExplanation]:
    shown = [explanations] if isinstance(explanations, DatasetExplanation) else [*explanations]
    if not shown:
        raise ValueError("explanations: expected at least one DatasetExplanation, got none")
    for explanation in shown:
        if not isinstance(explanation, DatasetExplanation):
            raise TypeError(
                f"explanations: expected DatasetExplanation, got {type(explanation).__name__}"
            )
        relevance = explanation.relevance
        if relevance.shape != (mesh.LANDMARKS,):
            raise ValueError(f"explanations: expected 468 landmarks, got {len(relevance)}")
        if not np.isfinite(relevance).all():
            raise ValueError(
                f"explanations: expected finite relevance, got NaN or Inf in {explanation.emotion!r}"
            )
    return shown


def _rings(
    kept: ArrayLike | Mapping[str, ArrayLike] | None, shown: list[DatasetExplanation]
) -> list[NDArray[np.intp]]:
    """Return the landmarks to ring on each face."""
    emotions = [explanation.emotion for explanation in shown]
    if not isinstance(kept, Mapping):
        kept = dict.fromkeys(emotions, () if kept is None else kept)
    if unknown := [emotion for emotion in kept if emotion not in emotions]:
        raise ValueError(f"kept: expected emotions among {emotions}, got {unknown[0]!r}")
    for landmarks in map(np.asarray, kept.values()):
        if not np.isin(landmarks, np.arange(mesh.LANDMARKS)).all():
            raise ValueError(f"kept: expected landmarks from 0 to 467, got {landmarks}")
    return [np.asarray(kept.get(emotion, ()), dtype=np.intp) for emotion in emotions]


def _draw(shown: list[DatasetExplanation], rings: list[NDArray[np.intp]], inches: float) -> Figure:
    """Lay out the faces and their one colour bar."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    shares = [100 * e.relevance / (e.relevance.sum() or 1) for e in shown]
    top = max(float(np.sort(share)[-_STRONGEST]) for share in shares) or 1.0
    columns = min(len(shown), _ROW)
    rows = -(-len(shown) // columns)
    figure = Figure((columns * inches, (1.27 * rows + 0.3) * inches), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False)
    for cell in cells.flat:
        cell.set_axis_off()
    for cell, explanation, share, ring in zip(cells.flat, shown, shares, rings, strict=False):
        level = np.clip(share / top, 0, 1)
        _draw_skin(cell, level, inches / 2.2)
        _draw_dots(cell, level, ring, inches / 2.2)
        cell.set(aspect="equal")
        cell.margins(0.04)
        cell.set_title(explanation.emotion, fontsize=9, parse_math=False)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, top), "viridis"),
        ax=cells,
        location="bottom",
        extend="max",
        fraction=0.05,
        pad=0.03,
        shrink=max(0.8 / columns, 0.45),
        aspect=25,
    )
    bar.set_label("share of the face's relevance (%)")
    bar.outline.set_visible(False)
    return figure


def _draw_skin(cell: Axes, level: NDArray[np.float64], line: float) -> None:
    """Draw the mesh, which takes the colour of what is relevant, and the contours."""
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.colors import to_rgb

    tint = level[mesh.TRIANGLES].mean(1)
    glow = 0.6 * tint[:, None]
    fill = glow * colormaps["viridis"](tint)[:, :3] + (1 - glow) * np.array(to_rgb(_SKIN))
    triangles = list(_FACE[mesh.TRIANGLES])
    cell.add_collection(
        PolyCollection(triangles, facecolors=fill, edgecolors=_EDGE, linewidths=0.25 * line)
    )
    contours = list(_FACE[np.concatenate(list(mesh.CONTOURS.values()))])
    cell.add_collection(
        LineCollection(contours, colors=_LINE, linewidths=0.7 * line, capstyle="round")
    )


def _draw_dots(cell: Axes, level: NDArray[np.float64], ring: NDArray[np.intp], line: float) -> None:
    """Draw the landmarks, the strongest on top and the kept ones ringed."""
    order = np.argsort(level, kind="stable")
    rest, kept = (order[np.isin(order, ring, invert=invert)] for invert in (True, False))
    for chosen, edge, width, label in (
        (rest, "white", 0.15, None),
        (kept, _KEPT, 0.7, f"{kept.size} kept"),
    ):
        x, y = _FACE[chosen].T
        cell.scatter(
            x,
            y,
            s=(1.6 + 9 * level[chosen]) * line**2,
            c=level[chosen],
            cmap="viridis",
            vmin=0,
            vmax=1,
            linewidths=width * line,
            edgecolors=edge,
            zorder=3,
            label=label,
        )
    if kept.size:
        cell.legend(loc="lower right", frameon=False, handletextpad=0, borderpad=0, fontsize=7)
