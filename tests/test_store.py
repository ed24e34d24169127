"""Clips in, the same clips out; and what is said of stores that are missing or damaged."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastexai.store import LandmarkStore, _part_name, default_id
from fastexai.video import EXTRA_SHAPES, LandmarkClip


def clip_of(source="a.mp4", *, frames=4, missing=(), seed=0, **values):
    landmarks = np.random.default_rng(seed).normal(300, 90, (frames, 468, 3)).astype(np.float32)
    landmarks[list(missing)] = np.nan
    given = {"timestamps": np.arange(frames) / 25, "fps": 25.0, "image_size": (640, 480)} | values
    return LandmarkClip(landmarks=landmarks, source=source, **given)


def assert_same(one, other):
    assert one.landmarks.tobytes() == other.landmarks.tobytes()
    assert one.timestamps.tobytes() == other.timestamps.tobytes()
    for name in ("fps", "image_size", "source", "label", "subject"):
        assert getattr(one, name) == getattr(other, name)
    for name in EXTRA_SHAPES:
        mine, others = getattr(one, name), getattr(other, name)
        assert (mine is None) == (others is None)
        if mine is not None:
            assert (mine.shape, mine.tobytes()) == (others.shape, others.tobytes())


@pytest.fixture
def store(tmp_path):
    store = LandmarkStore.create(tmp_path / "clips.parquet")
    store.append(clip_of("c.mp4", label="anger", subject="s1", seed=1), id="c")
    store.append(clip_of("a.mp4", label="joy", subject="s1", seed=2, frames=7), id="a")
    store.append(clip_of("b.mp4", subject="s2", seed=3, missing=(0, 1, 2)), id="b")
    return store


@st.composite
def clips(draw):
    frames = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def bits(*shape):  # any bits: every NaN, infinity and negative zero too
        return rng.integers(0, 2**32, (frames, *shape), dtype=np.uint32).view(np.float32)

    extras = draw(st.sets(st.sampled_from(sorted(EXTRA_SHAPES))))
    steps = draw(st.lists(st.floats(1e-3, 1e3), min_size=frames, max_size=frames))
    names = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    return LandmarkClip(
        landmarks=bits(468, 3),
        timestamps=np.cumsum(steps),
        fps=draw(st.floats(1e-3, 1e4)),
        image_size=draw(st.tuples(st.integers(1, 2**15), st.integers(1, 2**15))),
        source=draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)),
        label=draw(names),
        subject=draw(names),
        **{name: bits(*EXTRA_SHAPES[name]) for name in extras},
    )


@settings(max_examples=40, deadline=None)
@given(clips())
def test_a_clip_comes_back_bit_for_bit(clip):
    with tempfile.TemporaryDirectory() as folder:
        id = LandmarkStore.create(folder).append(clip)
        opened = LandmarkStore(folder)
        assert_same(opened[id], clip)
        assert_same(opened[0], clip)


def test_a_store_opens_again_with_all_clips_in_order_of_id(store):
    opened = LandmarkStore(store.path)
    assert len(opened) == len(store) == 3
    assert list(opened.table["id"]) == list(store.table["id"]) == ["a", "b", "c"]
    assert [clip.source for clip in opened] == ["a.mp4", "b.mp4", "c.mp4"]
    assert_same(opened[-1], opened["c"])
    assert "a" in opened
    assert "d" not in opened
    assert 0 not in opened
    assert repr(opened) == f"LandmarkStore({str(store.path)!r}, clips=3)"


def test_a_clip_read_back_can_be_written_to(store):
    assert store["a"].landmarks.flags.writeable
    assert store["a"].timestamps.flags.writeable


def test_the_table_holds_all_but_the_arrays(store):
    row = store.table.set_index("id").loc["b"]
    assert pd.isna(row["label"])
    assert row["subject"] == "s2"
    assert row["detection_share"] == 0.25
    assert (row["frames"], row["fps"], row["width"], row["height"]) == (4, 25.0, 640, 480)
    assert row["units"] == "pixels"
    assert not {"landmarks", "timestamps"} & set(store.table.columns)


def test_changing_the_table_changes_no_store(store):
    table = store.table
    table.loc[0, "id"] = "x"
    assert list(store.table["id"]) == ["a", "b", "c"]


def test_the_table_is_read_without_the_landmarks(store, monkeypatch):
    asked = []
    read = pq.ParquetFile.read
    monkeypatch.setattr(
        pq.ParquetFile, "read", lambda self, columns: asked.extend(columns) or read(self, columns)
    )
    assert len(LandmarkStore(store.path).table) == 3
    assert asked
    assert not {"landmarks", "timestamps"} & set(asked)


def test_a_store_of_format_1_is_read(store):
    """Format 1 had no columns for extras."""
    for part in store.path.iterdir():
        table = pq.read_table(part).drop_columns(list(EXTRA_SHAPES))
        pq.write_table(table.replace_schema_metadata({"fastexai_format": "1"}), part)
    opened = LandmarkStore.create(store.path)
    assert opened["a"].iris is None
    extra = clip_of("d.mp4", iris=np.ones((4, 10, 3), np.float32))
    opened.append(extra, id="d")
    assert_same(LandmarkStore(store.path)["d"], extra)
    assert list(LandmarkStore(store.path).table["id"]) == ["a", "b", "c", "d"]


def test_a_flipped_bit_is_found(store):
    part = store.path / _part_name("a")
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 4  # somewhere in the landmarks
    part.write_bytes(data)
    with pytest.raises(ValueError, match=f"{part.name}: this file of the store is damaged"):
        store["a"]


def test_polars_opens_the_folder(store):
    polars = pytest.importorskip("polars")
    store.append(clip_of("d.mp4", iris=np.ones((4, 10, 3), np.float32)), id="d")
    table = polars.read_parquet(store.path).sort("id")
    assert table["id"].to_list() == ["a", "b", "c", "d"]
    assert table["landmarks"][0].to_numpy().tobytes() == store["a"].landmarks.tobytes()
    assert table["iris"].is_null().to_list() == [True, True, True, False]


def test_duckdb_opens_the_folder(store):
    duckdb = pytest.importorskip("duckdb")
    store.append(clip_of("d.mp4", iris=np.ones((4, 10, 3), np.float32)), id="d")
    rows = duckdb.sql(
        f"select id, len(landmarks), len(iris) from '{store.path}/*.parquet' order by id"
    ).fetchall()
    shapes = [(id, 1404 * len(store[id]), 120 if id == "d" else None) for id in "abcd"]
    assert rows == shapes


def test_pandas_opens_the_folder(store):
    table = pd.read_parquet(store.path).set_index("id")
    assert len(table) == 3
    landmarks = table.loc["a", "landmarks"].reshape(-1, 468, 3)
    assert landmarks.tobytes() == store["a"].landmarks.tobytes()


def test_parts_are_compressed_and_say_their_format(store):
    part = next(store.path.glob("*.parquet"))
    metadata = pq.read_metadata(part)
    columns = [metadata.row_group(0).column(index) for index in range(metadata.num_columns)]
    split = {c.path_in_schema for c in columns if "BYTE_STREAM_SPLIT" in c.encodings}
    assert split == {f"{name}.list.element" for name in ("timestamps", "landmarks", *EXTRA_SHAPES)}
    assert {column.compression for column in columns} == {"ZSTD"}
    assert metadata.metadata[b"fastexai_format"] == b"2"
    assert b"fastexai_version" in metadata.metadata


def test_select_is_a_view(store):
    assert [clip.source for clip in store.select(labels="joy")] == ["a.mp4"]
    assert list(store.select(labels=["joy", "anger"]).table["id"]) == ["a", "c"]
    assert list(store.select(subjects="s1", min_detection_share=0.5).table["id"]) == ["a", "c"]
    assert list(store.select(min_detection_share=0.5).select(labels="joy").table["id"]) == ["a"]
    assert len(store.select(subjects=["s2"], labels=["joy"])) == 0
    assert "b" not in store.select(labels="joy")
    with pytest.raises(KeyError, match="no clip of id 'b'"):
        store.select(labels="joy")["b"]


def test_select_names_what_is_not_there(store):
    with pytest.raises(
        ValueError, match=r"^labels: expected some of \['anger', 'joy'\], got \['x'\]"
    ):
        store.select(labels=["x", "joy"])
    with pytest.raises(
        ValueError, match=r"^subjects: expected some of \['s1', 's2'\], got \['s'\]"
    ):
        store.select(subjects="s")
    with pytest.raises(ValueError, match=r"^min_detection_share: expected 0 to 1, got 50"):
        store.select(min_detection_share=50)


def test_a_selection_takes_no_clips(store):
    with pytest.raises(ValueError, match=r"^append: expected the whole store .*, got a selection"):
        store.select(labels="joy").append(clip_of("z.mp4"))


def test_an_id_is_given_once(store):
    other = LandmarkStore.create(store.path)
    store.append(clip_of("/x/smile.mp4"))
    assert default_id("/x/smile.mp4") in store
    assert default_id("/x/smile.mp4") != default_id("/y/smile.mp4")
    assert default_id("/x/smile.mp4").startswith("smile-")
    for again in (store, other, LandmarkStore(store.path)):
        with pytest.raises(ValueError, match=r"^id: expected one that is not in .* got 'smile-"):
            again.append(clip_of("/x/smile.mp4"))
    assert len(LandmarkStore(store.path)) == 4


def test_positions_beyond_the_end_are_refused(store):
    with pytest.raises(IndexError):
        store[3]


def test_a_missing_store_is_not_made(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^path: expected a store of clips, got .*none, which"
    ):
        LandmarkStore(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_empty_folder_is_no_store(tmp_path):
    with pytest.raises(
        ValueError, match=r"^path: expected a store of clips, got .*which holds none"
    ):
        LandmarkStore(tmp_path)
    assert len(LandmarkStore.create(tmp_path)) == 0
    assert LandmarkStore.create(tmp_path).table.empty
    assert "detection_share" in LandmarkStore.create(tmp_path).table


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"")
    for opening in (LandmarkStore, LandmarkStore.create):
        with pytest.raises(
            ValueError, match=r"^path: expected the directory of .* file .*a\.parquet"
        ):
            opening(tmp_path / "a.parquet")


@pytest.mark.parametrize("keep", [0, 3, 100, -9])
def test_a_damaged_part_is_named(store, keep):
    part = store.path / _part_name("b")
    part.write_bytes(part.read_bytes()[:keep])
    opened = LandmarkStore(store.path)
    for reading in (lambda: opened["b"], lambda: opened.table, lambda: list(opened)):
        with pytest.raises(ValueError, match=f"{part.name}: this file of the store is damaged"):
            reading()
    assert len(opened["a"]) == 7


def rewrite(part, change):
    pq.write_table(change(pq.read_table(part)), part)


def test_another_format_is_refused(store):
    part = store.path / _part_name("b")
    rewrite(part, lambda table: table.replace_schema_metadata({"fastexai_format": "3"}))
    with pytest.raises(ValueError, match=f"{part.name}: expected store format 1 to 2, got 3"):
        store["b"]
    rewrite(part, lambda table: table.replace_schema_metadata(None))
    with pytest.raises(ValueError, match=f"{part.name}: expected store format 1 to 2, got none"):
        store["b"]


def test_parts_with_wrong_contents_are_named(store):
    part = store.path / _part_name("b")
    good = pq.read_table(part)
    short = pa.array([[1.0, 2.0]], pa.list_(pa.float64()))
    for table, message in (
        (good.slice(0, 0), "0 rows, not 1"),
        (good.set_column(10, "timestamps", short), r"timestamps: expected \(4,\)"),
        (good.drop_columns(["landmarks"]), "landmarks"),
        (good.set_column(11, "landmarks", pa.array([None], good["landmarks"].type)), "landmarks"),
    ):
        pq.write_table(table, part)
        with pytest.raises(ValueError, match=f"{part.name}: this file .* damaged: .*{message}"):
            store["b"]


KILLED = """
import sys, time
import pyarrow.parquet as pq
from fastexai.store import LandmarkStore

def half(table, path, **options):
    path.write_bytes(b"half")
    print("half", flush=True)
    time.sleep(60)

store = LandmarkStore(sys.argv[1])
clip = store["a"]
pq.write_table = half
store.append(clip, id="d")
"""


def killed_while_writing(store):
    """Kill a writer in the middle of a part; return what it left."""
    before = set(store.path.parent.rglob("*"))
    command = [sys.executable, "-c", KILLED, store.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "half\n"
        writer.kill()
    (left,) = set(store.path.parent.rglob("*")) - before
    assert left.read_bytes() == b"half"
    return left


@pytest.mark.parametrize("disk", ["one", "its own"])
def test_what_a_killed_writer_leaves_is_no_clip_and_goes_later(store, disk, monkeypatch):
    if disk == "its own":  # such as a volume that is mounted there
        monkeypatch.setattr("fastexai.store.os.access", lambda *_: False)
        left = store.path / f".clips-{'0' * 32}.parquet"
        left.write_bytes(b"half")
    else:
        left = killed_while_writing(store)
        assert left.parent == store.path.parent  # where no reader of the store looks
    assert len(LandmarkStore(store.path)) == 3
    assert len(pd.read_parquet(store.path)) == 3
    assert "d" not in LandmarkStore.create(store.path)
    assert left.exists()  # another writer may be at it
    os.utime(left, (0, 0))
    assert len(LandmarkStore.create(store.path)) == 3
    assert not left.exists()


def test_other_readers_see_whole_parts_only_while_one_is_written(store, monkeypatch):
    write = pq.write_table

    def looked_at(table, path, **options):
        path.write_bytes(b"half")
        assert len(list(store.path.iterdir())) == 3
        assert all(pq.read_metadata(part).num_rows == 1 for part in store.path.iterdir())
        write(table, path, **options)

    monkeypatch.setattr(pq, "write_table", looked_at)
    store.append(clip_of("z.mp4"))
    assert len(list(store.path.iterdir())) == len(store) == 4
    assert list(store.path.parent.iterdir()) == [store.path]


def test_a_failing_write_leaves_no_part(store, monkeypatch):
    def half(table, path, **options):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(KeyboardInterrupt):
        store.append(clip_of("z.mp4"))
    assert len(list(store.path.iterdir())) == len(store) == 3


MEASURED = """
import sys
from pathlib import Path
import numpy as np, torch
import fastexai as fx

def resident():  # MB
    (line,) = [s for s in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in s]
    return int(line.split()[1]) / 1024

few, many = map(fx.LandmarkStore, sys.argv[1:])
few.table
before = resident()
many.table
print(resident() - before)
layers = [torch.nn.Flatten(), torch.nn.Linear(10 * 468 * 3, 1), torch.nn.Flatten(0)]
model = torch.jit.script(torch.nn.Sequential(*layers).eval())
baseline, taken = np.zeros((1, 10, 468, 3), np.float32), []
fx.explain_dataset(model, many, baseline, n_steps=1, progress=lambda *_: taken.append(resident()))
half = len(taken) // 2
print(max(taken[half:]) - max(taken[:half]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks memory up in /proc")
def test_memory_is_flat_in_the_number_of_clips(store):
    """A clip more is a row more of the table.

    Tables of one row each would take 14 MB here; the clips, were they kept, 50 MB.
    """
    part = store.path / _part_name("a")
    folders = [store.path.with_name("few"), store.path.with_name("many")]
    for folder, count in zip(folders, (64, 900), strict=True):
        folder.mkdir()
        for number in range(count):
            os.link(part, folder / f"{number}.parquet")
    command = [sys.executable, "-W", "ignore", "-c", MEASURED, *folders]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    table, stream = map(float, printed.split())
    assert table < 8, "MB"
    assert stream < 12, "MB"
