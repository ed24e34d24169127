"""The numbers that the page's figures are drawn from, small enough to embed."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from plotly.colors import diverging, sequential
from scipy.special import expit

from fastexai import mesh
from fastexai.explanation import DatasetExplanation
from fastexai.report.finding import IN_UNIT, REGION_OF, Finding, region_sums

__all__ = ["PLAYED_INSTANTS", "embed", "payload"]

PLAYED_INSTANTS = 20  # of longer clips so many are played: 468 points each cost 4 kB of page
_HISTOGRAM_BINS = 24


def embed(data: dict[str, Any]) -> str:
    """Write JSON that may stand in a ``<script>`` element, whatever its strings hold."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    # "<" is all that can end or change a script element; json.dumps has escaped all non-ASCII.
    return text.replace("<", "\\u003c")


def payload(findings: Iterable[Finding]) -> dict[str, Any]:
    """Gather the numbers of all figures."""
    contours = np.concatenate(list(mesh.CONTOURS.values()))
    return {
        "triangles": _base64(mesh.TRIANGLES, np.uint16),
        "contours": _base64(contours, np.uint16),
        "names": [mesh.name(i) for i in range(mesh.LANDMARKS)],
        "region": REGION_OF.tolist(),
        "regions": list(mesh.REGIONS),
        "regionSize": np.bincount(REGION_OF).tolist(),
        "units": [f"AU{unit} {name}" for unit, name in mesh.ACTION_UNITS.items()],
        "unitSize": IN_UNIT.sum(0).tolist(),
        "viridis": sequential.Viridis,
        "diverging": diverging.PuOr_r,
        "emotions": [
            {
                "name": finding.name,
                "explanation": _explanation(finding.explanation),
                "scores": _scores(finding),
                "reliability": None if finding.path is None else _reliability(*finding.answers()),
                "kept": None if finding.kept is None else np.sort(finding.kept).tolist(),
            }
            for finding in findings
        ],
    }


def _explanation(explanation: DatasetExplanation | None) -> dict[str, Any] | None:
    if explanation is None:
        return None
    count = len(explanation.mean)
    played = np.linspace(0, count - 1, min(count, PLAYED_INSTANTS)).round().astype(int)
    faces = explanation.expression[played]
    return {
        "instants": [_number(100 * i / max(count - 1, 1)) for i in played],
        "apex": int(np.square(faces - faces[0]).sum((1, 2)).argmax()),
        "faces": _quantized(_upright(faces), np.int16),
        "relevance": _measure(
            np.abs(explanation.contrast).sum(-1), explanation.relevance, played, np.uint8
        ),
        "absolute": _measure(
            explanation.mean_abs.sum(-1), explanation.mean_abs.sum((0, 2)), played, np.uint8
        ),
        "signed": _measure(
            explanation.contrast.sum(-1), explanation.contrast.sum((0, 2)), played, np.int8
        ),
        "histogram": _histogram(explanation.completeness_error),
        "nodes": _counts(explanation.nodes),
        "ranks": _ranks(explanation),
    }


def _measure(
    values: NDArray[np.float64], clip: NDArray[np.float64], played: NDArray[np.intp], dtype: type
) -> dict[str, Any]:
    """One quantity: of the whole clip (L,), at each instant (T, L), and both by region."""
    return {
        "clip": _numbers(clip),
        "instants": _quantized(values[played], dtype),
        "regions": _numbers(region_sums(clip)),
        "units": _numbers(clip @ IN_UNIT),
        "heat": [_numbers(row) for row in region_sums(values).T],
        "time": _numbers(100 * np.arange(len(values)) / max(len(values) - 1, 1)),
    }


def _upright(faces: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn image axes (y down, z away from the camera) into a right-handed scene with z up."""
    return np.stack([faces[..., 0], faces[..., 2], -faces[..., 1]], axis=-1)


def _scores(finding: Finding) -> list[dict[str, float | None]]:
    rows = []
    for score in finding.scores:
        row = {"landmarks": float(score.landmarks), "anchor": score.anchor, "masked": score.masked}
        for name, interval in (("chosen", score.chosen), ("random", score.random)):
            row |= {name: interval.value, f"{name}Low": interval.low, f"{name}High": interval.high}
        rows.append({name: _number(value) for name, value in row.items()})
    return rows


def _reliability(positive: NDArray[np.bool_], logits: NDArray[np.float64]) -> dict[str, Any]:
    """Observed against predicted probability in ten bins, both classes weighing the same."""
    bins = np.minimum((expit(logits) * 10).astype(int), 9)
    weight = np.where(positive, 0.5 / max(positive.sum(), 1), 0.5 / max((~positive).sum(), 1))
    total = np.bincount(bins, weight, 10)
    filled = total > 0
    observed = np.bincount(bins, weight * positive, 10)[filled] / total[filled]
    predicted = np.bincount(bins, weight * expit(logits), 10)[filled] / total[filled]
    return {
        "predicted": _numbers(predicted),
        "observed": _numbers(observed),
        "clips": np.bincount(bins, minlength=10)[filled].tolist(),
    }


def _histogram(errors: NDArray[np.float64]) -> dict[str, Any]:
    """Count clips per decade fraction; errors of exactly 0 join the lowest bin."""
    positive = errors[errors > 0]
    lowest = positive.min() if positive.size else 1e-12
    logs = np.log10(np.maximum(errors, lowest))
    span = max(float(np.ptp(logs)), 0.1)
    counts, edges = np.histogram(logs, _HISTOGRAM_BINS, (logs.min(), logs.min() + span))
    return {"edges": _numbers(edges, digits=5), "counts": counts.tolist()}


def _counts(nodes: NDArray[np.int64]) -> dict[str, Any]:
    """Count clips by the nodes that they took, in at most as many bins as the other histogram."""
    low, high = int(nodes.min()), int(nodes.max())
    width = max(1, -(-(high - low + 1) // _HISTOGRAM_BINS))
    edges = np.arange(low, high + width + 1, width)
    return {"edges": edges.tolist(), "counts": np.histogram(nodes, edges)[0].tolist()}


def _ranks(explanation: DatasetExplanation) -> list[list[int]]:
    """Rank, and the ends of its 95 % interval, of every landmark."""
    table = explanation.ranking_interval().sort_values("landmark")
    ranks: list[list[int]] = (
        table[["rank", "rank_low", "rank_high"]].astype(int).to_numpy().tolist()
    )
    return ranks


def _quantized(values: ArrayLike, dtype: type) -> dict[str, Any]:
    """Integers and the factor that turns them back; the error is below half a factor."""
    array = np.asarray(values, dtype=np.float64)
    factor = float(np.abs(array).max()) / np.iinfo(dtype).max or 1.0
    return {"factor": float(f"{factor:.9g}"), "data": _base64(np.rint(array / factor), dtype)}


def _base64(values: ArrayLike, dtype: type) -> str:
    little_endian = np.dtype(dtype).newbyteorder("<")
    return base64.b64encode(np.asarray(values).astype(little_endian).tobytes()).decode()


def _numbers(values: Iterable[float], *, digits: int = 3) -> list[float | None]:
    return [_number(value, digits=digits) for value in values]


def _number(value: float, *, digits: int = 4) -> float | None:
    """Round to significant digits; what is not finite becomes null."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
