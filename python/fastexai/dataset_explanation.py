"""What the attributions of a data set say: means, spreads, a ranking, and how far to trust it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from fastexai.aside import written_aside
from fastexai.moments import Level, Moments, row_names

__all__ = ["DatasetExplanation"]

Floats = NDArray[np.float64]

_FORMAT = "2"
_PER_CLIP = ("shown", "output", "completeness_error", "nodes")
_PARTS = ("face", "weights", "drawn")  # of Moments, besides its sums


@dataclass(frozen=True, slots=True, eq=False)  # eq: arrays have no single truth value
class DatasetExplanation:
    """Attributions of a data set, averaged over baselines and summed over clips.

    ``a + b`` explains the union of two disjoint data sets. Per-element statistics of shape (T, L, 3)
    are attributes; those per landmark, frame, coordinate or region come from `statistics`.

    Attributes
    ----------
    emotion : str
        What the model recognises.
    present, absent : Moments
        Sums over the clips that show the emotion, and over the others.
    shown : ndarray, shape (N,), bool
        Whether each clip shows the emotion: its label says so or, where clips have no labels, the
        model's output is positive.
    output : ndarray, shape (N,), float64
        The model's output for every clip.
    completeness_error : ndarray, shape (N,), float64
        |sum of attributions - (F(x) - mean of F(baseline))|.
    nodes : ndarray, shape (N,), int64
        Gauss-Legendre nodes that each clip took, on the paths from all baselines together.
    baselines : ndarray, shape (K, T, L, 3), float32
        Where the paths began.
    baseline_output : ndarray, shape (K,), float64
        The model's output there.
    n_steps : int or None
        Gauss-Legendre nodes per path, where so many were asked for.
    tol : float or None
        The relative error, where that was asked for.
    """

    emotion: str
    present: Moments
    absent: Moments
    shown: NDArray[np.bool_]
    output: Floats
    completeness_error: Floats
    nodes: NDArray[np.int64]
    baselines: NDArray[np.float32]
    baseline_output: Floats
    n_steps: int | None
    tol: float | None = None

    @classmethod
    def from_attributions(
        cls,
        clips: NDArray[np.float32],
        attributions: NDArray[np.floating[Any]],
        baselines: NDArray[np.float32],
        *,
        output: ArrayLike,
        baseline_output: ArrayLike,
        completeness_error: ArrayLike,
        nodes: ArrayLike | None = None,
        n_steps: int | None = None,
        tol: float | None = None,
        shown: ArrayLike | None = None,
        emotion: str = "",
    ) -> Self:
        """Summarise attributions that were computed elsewhere.

        Parameters
        ----------
        clips, attributions : ndarray, shape (N, T, L, 3)
            Normalised landmarks, and their attributions averaged over baselines.
        nodes : array_like, shape (N,), optional
            By default, ``n_steps`` on every path.
        shown : array_like, shape (N,), optional
            By default, where the output is positive.

        The others are the attributes of that name.

        Raises
        ------
        ValueError
            If shapes do not match.
        """
        outputs = np.asarray(output, dtype=np.float64)
        errors = np.asarray(completeness_error, dtype=np.float64)
        values = np.asarray(attributions, dtype=np.float64)
        _check_shape("attributions", values, clips.shape)
        _check_shape("baselines", baselines, (len(baselines), *clips.shape[1:]))
        _check_shape("output", outputs, (len(clips),))
        _check_shape("completeness_error", errors, (len(clips),))
        if nodes is None:
            nodes = np.full(len(clips), (n_steps or 0) * len(baselines))
        taken = np.asarray(nodes, dtype=np.int64)
        _check_shape("nodes", taken, (len(clips),))
        present = outputs > 0 if shown is None else np.asarray(shown, dtype=bool)
        _check_shape("shown", present, (len(clips),))
        return cls(
            emotion=emotion,
            present=Moments.of(clips[present], values[present]),
            absent=Moments.of(clips[~present], values[~present]),
            shown=present,
            output=outputs,
            completeness_error=errors,
            nodes=taken,
            baselines=baselines,
            baseline_output=np.asarray(baseline_output, dtype=np.float64),
            n_steps=n_steps,
            tol=tol,
        )

    @classmethod
    def combine(cls, explanations: Iterable[DatasetExplanation]) -> DatasetExplanation:
        """Explain the union of disjoint data sets; the clips are in the order given.

        Memory is that of one explanation and the result.

        Raises
        ------
        ValueError
            If there is none, or emotion, clip shape, baselines or n_steps differ.
        """
        parts = iter(explanations)
        first = next(parts, None)
        if first is None:
            raise ValueError("explanations: expected at least one, got none")
        present, absent = first.present, first.absent
        per_clip = [first._per_clip()]
        for part in parts:
            _check_alike(first, part)
            present, absent = present + part.present, absent + part.absent
            per_clip.append(part._per_clip())
        joined: dict[str, Any] = {
            name: np.concatenate([arrays[name] for arrays in per_clip]) for name in _PER_CLIP
        }
        return replace(first, present=present, absent=absent, **joined)

    def _per_clip(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in _PER_CLIP}

    def __add__(self, other: DatasetExplanation) -> DatasetExplanation:
        return DatasetExplanation.combine([self, other])

    @property
    def _shown(self) -> Moments:
        """The clips that show the emotion; all, where none does."""
        return self.present if self.present.count else self.absent

    @property
    def mean(self) -> Floats:
        """Mean attribution, signed, (T, L, 3), over the clips that show the emotion.

        Over all clips, where none does.
        """
        return self._shown.mean("cell")

    @property
    def std(self) -> Floats:
        """Standard deviation over the clips of `mean`, (T, L, 3); NaN of a single clip."""
        return self._shown.std("cell")

    @property
    def standard_error(self) -> Floats:
        """Standard error of `mean`, (T, L, 3); NaN of a single clip."""
        return self._shown.standard_error("cell")

    @property
    def mean_abs(self) -> Floats:
        """Mean absolute attribution over all clips, (T, L, 3)."""
        return (self.present + self.absent).mean_abs("cell")

    @property
    def expression(self) -> NDArray[np.float32]:
        """Mean of the clips of `mean`, (T, L, 3)."""
        return (self._shown.face / self._shown.count).astype(np.float32)

    @property
    def contrast(self) -> Floats:
        """Mean attribution of clips that show the emotion minus that of the others, (T, L, 3).

        It sums to the difference of their mean outputs. What both have in common, such as how
        lively any face is beside the baselines, cancels. Where there is only one kind: `mean`.
        """
        if self.present.count and self.absent.count:
            return self.present.mean("cell") - self.absent.mean("cell")
        return self.mean

    @property
    def relevance(self) -> Floats:
        """One non-negative number per landmark, shape (L,), in units of the model's output.

        What sets the emotion apart for the model: `contrast` summed over time with its sign, then
        the coordinates' absolute values added. Individual faces and the moment of the apex average
        out.
        """
        total: Floats = np.abs(self.contrast.sum(axis=0)).sum(axis=1)
        return total

    @property
    def ranking(self) -> NDArray[np.intp]:
        """Landmarks from the most to the least relevant, shape (L,)."""
        return np.argsort(-self.relevance, kind="stable")

    @property
    def error_statistics(self) -> pd.DataFrame:
        """Mean, median, 95th percentile and maximum of the completeness error over clips.

        The row "relative" divides by |F(x) - mean F(baseline)|, which the attributions sum to.
        """
        absolute = self.completeness_error
        change = np.abs(self.output - self.baseline_output.mean())
        unknown = np.where(absolute > 0, np.inf, 0.0)  # the output does not change at all
        relative = np.divide(absolute, change, out=unknown, where=change > 0)
        rows = [
            [e.mean(), np.median(e), np.quantile(e, 0.95, method="higher"), e.max()]
            for e in (absolute, relative)
        ]
        return pd.DataFrame(rows, ["absolute", "relative"], ["mean", "median", "p95", "max"])

    def statistics(self, by: Level, *, of: Literal["present", "all"] = "present") -> pd.DataFrame:
        """Average over clips what each one's attributions sum to, per landmark, frame and so on.

        Parameters
        ----------
        by : {"landmark", "frame", "coordinate", "region"}
            What one row is about. Regions are those of 468 landmarks.
        of : {"present", "all"}
            The clips that show the emotion (all, where none does), or all clips.

        Returns
        -------
        DataFrame
            Columns that name the row, then mean, mean_abs, std and standard_error. At every level
            the means sum to the mean of F(x) - F(baseline), up to the completeness error.

        Raises
        ------
        ValueError
            If ``by`` or ``of`` is unknown, or regions are asked for that these landmarks lack.
        """
        if of not in ("present", "all"):
            raise ValueError(f"of: expected 'present' or 'all', got {of!r}")
        known = [level for level in self.present.sums if level != "cell"]
        if by not in known:
            raise ValueError(f"by: expected one of {', '.join(known)}, got {by!r}")
        group = self._shown if of == "present" else self.present + self.absent
        table = row_names(by, *self.baselines.shape[1:3])
        for column in (Moments.mean, Moments.mean_abs, Moments.std, Moments.standard_error):
            table[column.__name__] = column(group, by)
        return table

    def ranking_interval(self, *, level: float = 0.95) -> pd.DataFrame:
        """Say how far the ranking depends on the clips at hand, by the bootstrap over clips.

        Parameters
        ----------
        level : float
            Share of the replicates that the interval covers, 0 to 1.

        Returns
        -------
        DataFrame
            One row per landmark, the most relevant first: landmark, name, region, relevance, rank
            (from 1), rank_low, rank_high. The interval is widened to hold the rank itself.

        Raises
        ------
        ValueError
            If ``level`` is out of range.
        """
        if not 0 < level < 1:
            raise ValueError(f"level: expected a number between 0 and 1, got {level}")
        groups = [group for group in (self.present, self.absent) if group.count]
        full = np.all([group.weights > 0 for group in groups], axis=0)  # drew of every kind
        means = [group.drawn[full] / group.weights[full, None, None] for group in groups]
        contrasts = means[0] - means[1] if len(means) == 2 else means[0]
        drawn = np.stack([_ranks(relevance) for relevance in np.abs(contrasts).sum(2)])
        tail = (1 - level) / 2
        rank = _ranks(self.relevance)
        low = np.quantile(drawn, tail, axis=0, method="lower")
        high = np.quantile(drawn, 1 - tail, axis=0, method="higher")
        table = row_names("landmark", *self.baselines.shape[1:3]).assign(
            relevance=self.relevance,
            rank=rank,
            rank_low=np.minimum(low, rank),
            rank_high=np.maximum(high, rank),
        )
        return table.sort_values("rank").reset_index(drop=True)

    @property
    def quadrature(self) -> str:
        """How each path was integrated, in words."""
        if self.tol is None:
            return f"{self.n_steps} nodes"
        return f"as many nodes as a relative error of {self.tol:g} needs"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one Parquet file, with one row and a column per array; whole or not at all."""
        arrays = self._arrays()
        about = {
            "emotion": self.emotion,
            "n_steps": self.n_steps,
            "tol": self.tol,
            "counts": {"present": self.present.count, "absent": self.absent.count},
            "shapes": {name: array.shape for name, array in arrays.items()},
        }
        columns = {
            n: pa.LargeListArray.from_arrays([0, a.size], a.ravel()) for n, a in arrays.items()
        }
        metadata = {
            "fastexai_explanation": _FORMAT,
            "fastexai_version": version("fastexai"),
            "about": json.dumps(about),
        }
        with written_aside(Path(path)) as aside:
            table = pa.table(columns).replace_schema_metadata(metadata)
            pq.write_table(table, aside, compression="zstd", use_dictionary=False)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {
            name: getattr(self, name) for name in (*_PER_CLIP, "baselines", "baseline_output")
        }
        for name, group in (("present", self.present), ("absent", self.absent)):
            for part in _PARTS:
                arrays[f"{name}.{part}"] = getattr(group, part)
            arrays |= {f"{name}.{level}": sums for level, sums in group.sums.items()}
        return arrays

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no explanation, damaged, or of another format version.
        """
        table = _read(Path(path))
        about = json.loads(table.schema.metadata[b"about"])
        # Copies: Arrow's buffers are read-only, which torch.from_numpy warns about.
        arrays = {
            name: table[name][0].values.to_numpy(zero_copy_only=False).copy().reshape(shape)
            for name, shape in about["shapes"].items()
        }
        groups = {}
        for group, count in about["counts"].items():
            names = [name for name in arrays if name.startswith(f"{group}.")]
            sums = {name.removeprefix(f"{group}."): arrays.pop(name) for name in names}
            parts = {part: sums.pop(part) for part in _PARTS}
            groups[group] = Moments(count, sums=sums, **parts)
        return cls(
            emotion=about["emotion"],
            n_steps=about["n_steps"],
            tol=about["tol"],
            present=groups["present"],
            absent=groups["absent"],
            **arrays,
        )

    def __repr__(self) -> str:
        _, frames, landmarks, _ = self.baselines.shape
        return (
            f"DatasetExplanation({self.emotion!r}: {len(self.output)} clips of {frames} frames x "
            f"{landmarks} landmarks, {len(self.baselines)} baselines, {self.quadrature}, "
            f"completeness error <= {self.completeness_error.max():.1e})"
        )


def _ranks(relevance: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """Rank of each landmark, from 1; ties by index, as in `DatasetExplanation.ranking`."""
    ranks = np.empty(len(relevance), dtype=np.intp)
    ranks[np.argsort(-relevance, kind="stable")] = np.arange(1, len(relevance) + 1)
    return ranks


def _read(path: Path) -> pa.Table:
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a saved explanation, got {path}, which is missing")
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.schema_arrow.metadata or {}
            found = metadata.get(b"fastexai_explanation", b"none").decode()
            if found == _FORMAT:
                return file.read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"path: expected a saved explanation, got {path} ({error})") from error
    raise ValueError(f"path: expected an explanation of format {_FORMAT}, got {found} in {path}")


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name}: expected {shape}, got {array.shape}")


def _check_alike(one: DatasetExplanation, other: DatasetExplanation) -> None:
    for name, a, b in (
        ("emotion", one.emotion, other.emotion),
        ("clip shape", one.baselines.shape[1:], other.baselines.shape[1:]),
        ("n_steps", one.n_steps, other.n_steps),
        ("tol", one.tol, other.tol),
    ):
        if a != b:
            raise ValueError(f"explanations: expected one {name}, got {a!r} and {b!r}")
    if not np.array_equal(one.baselines, other.baselines):
        raise ValueError("explanations: expected the same baselines, got different ones")
