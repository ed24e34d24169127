"""Many clips on disk: a folder of Parquet files, one per clip.

Note [Store format 2]: a store is a directory of ``*.parquet`` files that any Parquet reader opens
as one table. Each file has one row, one clip; its name is a hash of the clip's id. Files are
written next to the directory and renamed into it, so all that it holds is whole, whenever it is read
and whenever the writer was stopped. The schema's
metadata holds ``fastexai_format`` (2) and ``fastexai_version``. Format 1, which is read too, had no
columns for `EXTRA_SHAPES`; in format 2 these are null where a clip has none.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastexai.aside import remove_unfinished, written_aside
from fastexai.face_detector import LANDMARKS
from fastexai.video import EXTRA_SHAPES, LandmarkClip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd

__all__ = ["LandmarkStore"]

FORMAT = "2"
UNITS = "pixels"

_BATCH_ROWS = 128  # a row that is a table of its own, as parts are, takes 17 kB; among others, 0.2

_ARRAYS = {"timestamps": pa.list_(pa.float64()), "landmarks": pa.list_(pa.float32())}
_EXTRAS = {name: pa.list_(pa.float32()) for name in EXTRA_SHAPES}
_SCALARS = {
    "id": pa.string(),
    "source": pa.string(),
    "label": pa.string(),
    "subject": pa.string(),
    "frames": pa.int32(),
    "fps": pa.float64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "units": pa.string(),
    "detection_share": pa.float64(),
}


class LandmarkStore:
    """The clips of a store, read from disk one at a time; ordered by id.

    Parameters
    ----------
    path : path-like
        The store's directory, see Note [Store format 2]. `create` makes a new one.

    Attributes
    ----------
    path : Path
        That directory.
    failures : dict of str to str
        What `extract` could not read in the call that returned this store: source and reason.

    Raises
    ------
    FileNotFoundError
        If there is no such directory.
    ValueError
        If ``path`` is no directory or holds no clips. Reading raises ``ValueError`` with the
        file's name where a file is damaged or of another format.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        folder = Path(path)
        if not folder.exists():
            raise FileNotFoundError(
                f"path: expected a store of clips, got {path}, which is missing"
            )
        parts = _parts_in(folder)
        if not parts:
            raise ValueError(f"path: expected a store of clips, got {path}, which holds none")
        self._set(folder, parts)

    def _set(
        self,
        path: Path,
        parts: list[str],
        table: pd.DataFrame | None = None,
        selected: bool = False,
    ) -> Self:
        self.path, self._parts, self._table = path, parts, table
        self._is_selection = selected
        self.failures: dict[str, str] = {}
        return self

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Self:
        """Open a store to append to, making the directory where it is missing.

        Parameters
        ----------
        path : path-like
            The store's directory. Clips already in it stay.

        Returns
        -------
        LandmarkStore
            Without clips where the directory is new.

        Raises
        ------
        ValueError
            If ``path`` is a file.
        """
        folder = Path(path)
        parts = _parts_in(folder)
        folder.mkdir(parents=True, exist_ok=True)
        store = cls.__new__(cls)._set(folder, parts)
        store.remove_unfinished()
        return store

    def remove_unfinished(self) -> None:
        """Remove the files that killed writers left, see `fastexai.aside.remove_unfinished`."""
        remove_unfinished(_beside(self.path), ".parquet")

    @property
    def table(self) -> pd.DataFrame:
        """One row per clip, in order: all columns but the landmarks and timestamps.

        It is read on first use, without reading any landmarks.
        """
        return self._indexed().copy()

    def _indexed(self) -> pd.DataFrame:
        """Read the table once, and bring the parts into its order."""
        if self._table is None:
            table = _read_rows(self.path, self._parts)
            order = np.argsort(table["id"].to_numpy(str), kind="stable")
            self._table = table.iloc[order].reset_index(drop=True)
            self._parts = [self._parts[index] for index in order]
        return self._table

    def append(self, clip: LandmarkClip, *, id: str | None = None) -> str:
        """Write one more clip.

        Parameters
        ----------
        clip : LandmarkClip
        id : str, optional
            The clip's name in the store; by default the stem of its source and a short hash of the
            whole source, such as ``smile-1f3a9c2e``.

        Returns
        -------
        str
            The id.

        Raises
        ------
        ValueError
            If the store has a clip of that id, or is the result of `select`.
        """
        if self._is_selection:
            raise ValueError(f"append: expected the whole store {self.path}, got a selection of it")
        id = id if id is not None else default_id(clip.source)
        part = _part_name(id)
        if (self.path / part).exists():
            raise ValueError(f"id: expected one that is not in {self.path} yet, got {id!r}")
        _write_part(self.path / part, id, clip)
        self._parts.append(part)
        self._table = None
        return id

    def select(
        self,
        *,
        labels: str | Iterable[str] | None = None,
        subjects: str | Iterable[str] | None = None,
        min_detection_share: float = 0.0,
    ) -> Self:
        """Return a view with some of the clips; nothing is copied.

        Parameters
        ----------
        labels, subjects : str or iterable of str, optional
            Keep the clips with one of these; each must occur in the store.
        min_detection_share : float
            Keep the clips with a face in at least this share of frames, 0 to 1.

        Returns
        -------
        LandmarkStore
            May have no clip.

        Raises
        ------
        ValueError
            If a label or subject does not occur, or the share is not between 0 and 1.
        """
        if not 0 <= min_detection_share <= 1:
            raise ValueError(f"min_detection_share: expected 0 to 1, got {min_detection_share}")
        table = self._indexed()
        keep = table["detection_share"] >= min_detection_share
        for column, wanted in (("label", labels), ("subject", subjects)):
            if wanted is not None:
                keep &= table[column].isin(_known(table[column], f"{column}s", wanted))
        chosen = np.flatnonzero(keep.to_numpy())
        parts = [self._parts[index] for index in chosen]
        rows = table.iloc[chosen].reset_index(drop=True)
        return type(self).__new__(type(self))._set(self.path, parts, rows, selected=True)

    def __getitem__(self, key: int | str) -> LandmarkClip:
        """Read a clip, by position or by id."""
        if isinstance(key, str):
            if key not in self:
                raise KeyError(f"no clip of id {key!r} in {self.path}")
            return _read_clip(self.path / _part_name(key))
        self._indexed()
        return _read_clip(self.path / self._parts[key])

    def __iter__(self) -> Iterator[LandmarkClip]:
        """Read one clip after the other, in the order of `table`."""
        self._indexed()
        return (_read_clip(self.path / part) for part in self._parts)

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._parts)

    def __contains__(self, id: object) -> bool:
        """Tell whether there is a clip of this id."""
        return isinstance(id, str) and _part_name(id) in self._parts

    def __repr__(self) -> str:
        """Show the path and the number of clips."""
        return f"LandmarkStore({str(self.path)!r}, clips={len(self)})"


def _beside(folder: Path) -> Path:
    """Return what parts are written next to: the store, as polars and DuckDB read hidden files too.

    A file in the store, where the directory around cannot be written to or is on another disk.
    """
    folder = folder.resolve()
    around = folder.parent
    if os.access(around, os.W_OK) and around.stat().st_dev == folder.stat().st_dev:
        return folder
    return folder / folder.name


def _part_name(id: str) -> str:
    return f"{hashlib.sha256(id.encode()).hexdigest()[:32]}.parquet"


def _parts_in(folder: Path) -> list[str]:
    """Return the names of a store's files; paths take several times the memory."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"path: expected the directory of a store, got the file {folder}")
    # Hidden files are the unfinished ones of a writer that was killed.
    return [part.name for part in folder.glob("*.parquet") if not part.name.startswith(".")]


def default_id(source: str) -> str:
    """Return the id that a clip of this source gets: readable, and unique by a hash."""
    return f"{Path(source).stem}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def _known(column: pd.Series[str], name: str, wanted: str | Iterable[str]) -> set[str]:
    values = {wanted} if isinstance(wanted, str) else set(wanted)
    if unknown := values - (known := set(column.dropna())):
        raise ValueError(f"{name}: expected some of {sorted(known)}, got {sorted(unknown)}")
    return values


def _schema(columns: dict[str, pa.DataType]) -> pa.Schema:
    try:
        version = importlib.metadata.version("fastexai")
    except importlib.metadata.PackageNotFoundError:  # used from a source tree
        version = "unknown"
    metadata = {"fastexai_format": FORMAT, "fastexai_version": version}
    return pa.schema(list(columns.items()), metadata=metadata)


def _write_part(part: Path, id: str, clip: LandmarkClip) -> None:
    row = {
        "id": id,
        "source": clip.source,
        "label": clip.label,
        "subject": clip.subject,
        "frames": len(clip),
        "fps": clip.fps,
        "width": clip.image_size[0],
        "height": clip.image_size[1],
        "units": UNITS,
        "detection_share": clip.detection_share,
    }
    columns = [pa.array([row[name]], kind) for name, kind in _SCALARS.items()]
    for name, kind in (_ARRAYS | _EXTRAS).items():
        values = getattr(clip, name)
        columns.append(
            pa.array([None], kind)
            if values is None
            else pa.ListArray.from_arrays([0, values.size], values.ravel())
        )
    table = pa.Table.from_arrays(columns, schema=_schema(_SCALARS | _ARRAYS | _EXTRAS))
    with written_aside(part, beside=_beside(part.parent)) as aside:
        pq.write_table(
            table,
            aside,
            compression="zstd",
            # Neighbouring floats share their high bytes: 25 % smaller than zstd alone.
            use_dictionary=False,
            write_page_checksum=True,  # a flipped bit is then found, not taken for a landmark
            use_byte_stream_split=[f"{name}.list.element" for name in _ARRAYS | _EXTRAS],
        )


def _read_part(part: Path, columns: list[str]) -> pa.Table:
    """Read some columns of a part; ``ValueError`` with its name where that fails."""
    try:
        with pq.ParquetFile(part, page_checksum_verification=True) as file:
            metadata = file.schema_arrow.metadata or {}
            found = metadata.get(b"fastexai_format", b"none").decode()
            if found == "1":
                columns = [name for name in columns if name not in _EXTRAS]
            if found in ("1", FORMAT):
                table = file.read(columns).select(columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"{part}: this file of the store is damaged: {error}") from error
    if found not in ("1", FORMAT):
        raise ValueError(f"{part}: expected store format 1 to {FORMAT}, got {found}")
    if len(table) != 1:
        raise ValueError(f"{part}: this file of the store is damaged: {len(table)} rows, not 1")
    return table.replace_schema_metadata(None)


def _read_rows(folder: Path, parts: list[str]) -> pd.DataFrame:
    """Read all that is known of the clips, but the arrays; by the batch, see `_BATCH_ROWS`."""
    names = list(_SCALARS)
    tables = [_schema(_SCALARS).empty_table().replace_schema_metadata(None)]
    for start in range(0, len(parts), _BATCH_ROWS):
        rows = [_read_part(folder / part, names) for part in parts[start : start + _BATCH_ROWS]]
        tables.append(pa.concat_tables(rows).combine_chunks())
    table: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return table


def _read_clip(part: Path) -> LandmarkClip:
    table = _read_part(part, [*_SCALARS, *_ARRAYS, *_EXTRAS])
    row = {name: table[name][0].as_py() for name in _SCALARS}
    # Copies: Arrow's buffers are read-only, which torch.from_numpy warns about.
    arrays = {
        name: table[name][0].values.to_numpy().copy()
        for name in (_ARRAYS | _EXTRAS)
        if name in table.column_names and table[name][0].is_valid
    }
    shapes = {"landmarks": (LANDMARKS, 3), "timestamps": ()} | EXTRA_SHAPES
    try:
        return LandmarkClip(
            **{name: array.reshape(-1, *shapes[name]) for name, array in arrays.items()},
            fps=row["fps"],
            image_size=(row["width"], row["height"]),
            source=row["source"],
            label=row["label"],
            subject=row["subject"],
        )
    except (TypeError, ValueError) as error:  # TypeError: a column that must not be is null
        raise ValueError(f"{part}: this file of the store is damaged: {error}") from error
