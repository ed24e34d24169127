"""Frames from wherever they are: in order, with true times, as RGB."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastexai import sources
from fastexai.sources import IteratorReader, images_in, open_source

SIZE = (64, 48)


def coloured(colours, size=SIZE):
    """One frame per RGB colour."""
    return [np.full((size[1], size[0], 3), colour, np.uint8) for colour in colours]


def write_video(path, images, fps=10.0):
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    for image in images:
        writer.write(image[..., ::-1])
    writer.release()


def rotate_container(path):
    """State a rotation by 90 degrees in the mp4's track header, as phones do."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # after version, times, duration, layer and volume
    one = 0x10000
    struct.pack_into(">9i", data, matrix, 0, one, 0, -one, 0, 0, SIZE[1] * one, 0, 0x40000000)
    path.write_bytes(data)


def set_durations(path, durations):
    """Give each frame of an mp4 its own duration, in ticks; the movie box is the last of them."""
    data = bytearray(path.read_bytes())
    start = data.rindex(b"moov")
    at = data.index(b"stts", start) - 4
    (length,) = struct.unpack_from(">I", data, at)
    entries = b"".join(struct.pack(">II", 1, ticks) for ticks in durations)
    box = struct.pack(">I4sII", 16 + len(entries), b"stts", 0, len(durations)) + entries
    data[at : at + length] = box
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        where = data.index(parent, start) - 4
        (old,) = struct.unpack_from(">I", data, where)
        struct.pack_into(">I", data, where, old + len(box) - length)
    path.write_bytes(data)


def read_all(source, **options):
    with open_source(source, **options) as reader:
        times, images = zip(*reader, strict=True)
        return reader, list(times), list(images)


def test_a_rotated_phone_video_stands_upright(tmp_path):
    image = coloured([(0, 0, 0)])[0]
    image[:, :8] = 255  # left before, top after a turn by 90 degrees clockwise
    write_video(tmp_path / "a.mp4", [image] * 3)
    rotate_container(tmp_path / "a.mp4")
    reader, _, images = read_all(tmp_path / "a.mp4")
    assert reader.image_size == SIZE[::-1]
    assert images[0].shape == (SIZE[0], SIZE[1], 3)
    assert images[0][:6].mean() > 200
    assert images[0][12:].mean() < 40


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    write_video(tmp_path / "a.mp4", coloured([(v, v, v) for v in range(0, 250, 50)]))
    # Ticks of 1/10240 s, as OpenCV's writer counts; the sum stays, which the edit list holds too.
    set_durations(tmp_path / "a.mp4", [512, 1024, 2560, 512, 512])
    _, times, images = read_all(tmp_path / "a.mp4")
    assert times == pytest.approx([0, 0.05, 0.15, 0.4, 0.45], abs=1e-3)
    assert [image.mean() for image in images] == pytest.approx([0, 50, 100, 150, 200], abs=6)


def test_images_come_in_natural_order_at_25_a_second(tmp_path):
    for number in (10, 9, 1, 2):
        cv2.imwrite(str(tmp_path / f"img{number}.png"), np.full((48, 64, 3), number, np.uint8))
    (tmp_path / "._img3.png").write_bytes(b"what macOS leaves")
    (tmp_path / "notes.txt").write_text("no image")
    reader, times, images = read_all(tmp_path)
    assert [image.max() for image in images] == [1, 2, 9, 10]
    assert times == pytest.approx([0, 0.04, 0.08, 0.12])
    assert (reader.fps, reader.frame_count, reader.image_size) == (25.0, 4, (64, 48))
    assert reader.source == str(tmp_path)
    assert read_all(tmp_path, fps=10.0)[1] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_pattern_or_a_tuple_takes_some_images(tmp_path):
    for name, value in (("a_10", 10), ("a_2", 2), ("b_1", 1)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((48, 64, 3), value, np.uint8))
    reader, _, images = read_all(tmp_path / "a_*.png")
    assert [image.max() for image in images] == [2, 10]
    assert reader.source == str(tmp_path / "a_*.png")
    reader, _, images = read_all((tmp_path / "b_1.png", str(tmp_path / "a_2.png")))
    assert [image.max() for image in images] == [1, 2]
    assert reader.source == f"{tmp_path / 'b_1.png'}..a_2.png"
    reader, _, images = read_all(tmp_path / "b_1.png")
    assert (len(images), reader.source) == (1, str(tmp_path / "b_1.png"))


def with_exif_rotation(path):
    """Say in a JPEG's EXIF data that it must be turned by 90 degrees clockwise."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", np.full((47, 63), 200, np.uint8)),
        ("alpha.png", np.full((47, 63, 4), (200, 200, 200, 0), np.uint8)),
        ("deep.png", np.full((47, 63), 200 * 257, np.uint16)),
        ("grey.pgm", np.full((47, 63), 200, np.uint8)),
        ("Lächeln 1.jpg", np.full((47, 63, 3), 200, np.uint8)),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path, name, image):
    (tmp_path / name).write_bytes(cv2.imencode(Path(name).suffix, image)[1])
    _, _, (frame,) = read_all(tmp_path)
    assert (frame.shape, frame.dtype) == ((47, 63, 3), np.uint8)
    np.testing.assert_allclose(frame, 200, atol=2)


def test_exif_rotation_is_applied(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((48, 64, 3), np.uint8))
    with_exif_rotation(tmp_path / "a.jpg")
    assert read_all(tmp_path)[0].image_size == (48, 64)


def test_frames_that_are_made_may_share_one_buffer():
    buffer = np.empty((48, 64, 3), np.uint8)

    def made():
        for value in range(6):
            buffer[:] = value
            yield buffer

    reader, times, images = read_all(made(), fps=50.0)
    assert [image.max() for image in images] == list(range(6))
    assert times == pytest.approx(np.arange(6) / 50)
    assert (reader.source, reader.frame_count) == ("frames", 0)


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1), (48, 64, 3), (48, 64, 4)])
def test_grey_and_alpha_frames_become_rgb(shape):
    reader, _, images = read_all(np.full((2, *shape), 7, np.uint8))
    assert [image.shape for image in images] == [(48, 64, 3)] * 2
    assert all(image.flags.c_contiguous and (image == 7).all() for image in images)
    assert reader.frame_count == 2


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "expected one frame or more, got none"),
        ([np.zeros((4, 4, 3))], r"expected frames of .* uint8, got \(4, 4, 3\) float64"),
        ([np.zeros((4, 4, 2), np.uint8)], r"expected frames of .*, got \(4, 4, 2\) uint8"),
        ([np.zeros((0, 4, 3), np.uint8)], r"expected frames with pixels, got \(0, 4, 3\)"),
        (
            [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)],
            r"expected all frames of \(width, height\) \(4, 4\), got \(6, 4\) in frame 1 of frames",
        ),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames, message):
    with pytest.raises(ValueError, match=f"^video: {message}"):
        read_all(iter(frames))


def test_what_holds_no_frames_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"^video: expected frames of uint8 arrays, got float"):
        open_source([1.5])
    with pytest.raises(TypeError, match=r"^video: expected a path, .* got float"):
        open_source(1.5)
    with pytest.raises(ValueError, match=r"^video: expected a folder of images, got none in"):
        open_source(tmp_path)
    for fps in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"^fps: expected a positive number, got {fps}"):
            IteratorReader([], fps=fps)


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    for name, data in (("1.png", None), ("2.png", b""), ("3.png", b"no image")):
        if data is None:
            cv2.imwrite(str(tmp_path / name), np.zeros((48, 64, 3), np.uint8))
        else:
            (tmp_path / name).write_bytes(data)
    for broken in ("2.png", "3.png"):
        with pytest.raises(ValueError, match=rf"^video: .* can be decoded, got .*{broken}"):
            read_all((tmp_path / "1.png", tmp_path / broken))
    with pytest.raises(FileNotFoundError, match=r"^video: expected an image, got .*4\.png, which"):
        read_all((tmp_path / "1.png", tmp_path / "4.png"))


def test_names_are_ordered_by_their_numbers(tmp_path):
    for name in ("b.png", "a10.png", "a9.png", "a09b.png", "1.png"):
        (tmp_path / name).touch()
    names = [image.name for image in images_in(tmp_path)]
    assert names == ["1.png", "a9.png", "a09b.png", "a10.png", "b.png"]


class Camera:
    """Stands in for OpenCV's capture: five frames, then unplugged."""

    def __init__(self, *_):
        self.left = 5

    def read(self):
        self.left -= 1
        return (True, np.zeros((48, 64, 3), np.uint8)) if self.left >= 0 else (False, None)

    def get(self, _):
        return 0.0

    def release(self):
        self.left = 0


def test_a_camera_gives_frames_as_they_arrive(monkeypatch):
    monkeypatch.setattr(sources.cv2, "VideoCapture", Camera)
    reader, times, images = read_all(0)
    assert len(images) == 5
    assert np.all(np.diff(times) > 0)
    assert reader.source.startswith("camera-0-2")
    assert (reader.fps, reader.frame_count) == (30.0, 0)


def test_a_camera_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(sources.cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "read", lambda self: (False, None))
    with pytest.raises(ValueError, match=r"^video: expected a camera .*, got none from index 7"):
        open_source(7)
    with pytest.raises(ValueError, match=r"^video: expected a camera's index from 0, got -1"):
        open_source(-1)
