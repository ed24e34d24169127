"""Reading, detecting and writing, on a real face whose motion is known."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import cv2
import numpy as np
import pytest

from fastexai import face_detector, video
from fastexai.face_detector import BLENDSHAPES, FaceDetector
from fastexai.video import (
    LandmarkClip,
    VideoReader,
    VideoWriter,
    clips_of,
    extract_faces,
    extract_landmarks,
    frames,
)
from portrait import crowd_frame, portrait_frames, render_portrait

OUTER_EYES = (33, 263)


def clip_of(landmarks=None, **changes):
    landmarks = np.zeros((3, 468, 3), np.float32) if landmarks is None else landmarks
    values = {"timestamps": np.arange(len(landmarks)) / 30, "fps": 30.0, "image_size": (64, 48)}
    return LandmarkClip(landmarks=landmarks, source="a.mp4", **(values | changes))


def inter_ocular(points):
    return np.linalg.norm(points[..., OUTER_EYES[0], :2] - points[..., OUTER_EYES[1], :2], axis=-1)


def in_portrait(landmarks, poses):
    """Undo the known motion: (T, 468, 2) pixels of the portrait."""
    inverse = np.array([cv2.invertAffineTransform(pose) for pose in poses])
    return landmarks[..., :2] @ inverse[:, :, :2].transpose(0, 2, 1) + inverse[:, None, :, 2]


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "moving.mp4"
    poses = render_portrait(path, frames=60, smile=False)
    return extract_landmarks(path), poses, path


def test_every_frame_of_a_portrait_is_found(moving):
    clip, _, path = moving
    assert clip.landmarks.shape == (60, 468, 3)
    assert clip.landmarks.dtype == np.float32
    assert clip.detection_share == 1
    assert len(clip) == 60
    assert clip.fps == pytest.approx(30)
    assert clip.image_size == (1280, 720)
    assert clip.source == str(path)
    np.testing.assert_allclose(clip.timestamps, np.arange(60) / 30, atol=1e-3)


def test_landmarks_follow_the_known_motion(moving):
    """Undo the motion: what is left is jitter and lag, in shares of the inter-ocular distance.

    Measured, as standard deviation over time: 1.0 % for the median landmark, 1.3 % for the worst;
    the bounds are twice that. Most of it is lag: MediaPipe smooths. The face swings by 60 %.
    """
    clip, poses, _ = moving
    still = in_portrait(clip.landmarks, poses)
    wander = np.linalg.norm(still.std(axis=0), axis=-1) / inter_ocular(still).mean()
    assert np.median(wander) < 0.02
    assert wander.max() < 0.03


def test_a_still_portrait_jitters_little(tmp_path):
    """Nothing moves but the codec's noise; measured 0.17 % of the inter-ocular distance."""
    render_portrait(tmp_path / "a.mp4", frames=30, pan=False, zoom=False, roll=False, smile=False)
    landmarks = extract_landmarks(tmp_path / "a.mp4").landmarks
    jitter = np.linalg.norm(landmarks.std(axis=0)[:, :2], axis=-1) / inter_ocular(landmarks).mean()
    assert np.median(jitter) < 0.005


def test_a_smile_widens_the_mouth(tmp_path):
    render_portrait(tmp_path / "a.mp4", frames=30, pan=False, zoom=False, roll=False)
    landmarks = extract_landmarks(tmp_path / "a.mp4").landmarks
    width = np.linalg.norm(landmarks[:, 61] - landmarks[:, 291], axis=-1) / inter_ocular(landmarks)
    assert width[-1] > 1.05 * width[0]


def test_shape_does_not_depend_on_the_frames_aspect_ratio(tmp_path):
    """16:9 and 4:3 frames with the face at the same size: the same pixels, whatever is beside it.

    Measured: within 0.8 % of the inter-ocular distance. In MediaPipe's own units, shares of the
    frame, the two faces' proportions differ by a third.
    """
    shapes = []
    for name, size in (("wide", (1280, 720)), ("narrow", (960, 720))):
        path = tmp_path / f"{name}.mp4"
        render_portrait(path, frames=5, size=size, pan=False, zoom=False, roll=False, smile=False)
        points = extract_landmarks(path).landmarks[-1]
        shapes.append((points - points.mean(axis=0)) / inter_ocular(points))
    assert np.abs(shapes[0] - shapes[1]).max() < 0.025
    extents = np.ptp(shapes, axis=1)
    assert extents[0] == pytest.approx(extents[1], rel=0.03)


def test_frames_without_a_face_are_all_nan(tmp_path):
    blank = range(8, 16)
    render_portrait(tmp_path / "a.mp4", frames=24, blank=blank)
    clip = extract_landmarks(tmp_path / "a.mp4")
    missing = np.isnan(clip.landmarks)
    assert missing[list(blank)].all()
    found = np.setdiff1d(np.arange(24), blank)
    assert not missing[found].any()
    assert clip.detection_share == pytest.approx(16 / 24)


@pytest.fixture(scope="module")
def small():
    """A moving portrait as frames, with its poses."""
    images, poses = zip(*portrait_frames(frames=12, size=(640, 360)), strict=True)
    return list(images), np.array(poses)


def test_images_and_frames_give_the_same_landmarks(tmp_path, small):
    images, _ = small
    for index, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{index}.png"), image[..., ::-1])
    from_folder, from_frames = extract_landmarks(tmp_path), extract_landmarks(iter(images))
    assert from_folder.landmarks.tobytes() == from_frames.landmarks.tobytes()
    assert from_folder.timestamps.tobytes() == (np.arange(12) / 25).tobytes()
    assert (from_folder.source, from_frames.source) == (str(tmp_path), "frames")


def test_a_face_is_found_in_grey_frames_of_odd_size(small):
    clip = extract_landmarks(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:-1, :-1] for image in small[0]
    )
    assert clip.image_size == (639, 359)
    assert clip.detection_share == 1


@pytest.mark.parametrize("faces", ["largest", "all"])
def test_a_detector_that_was_reset_is_as_a_new_one(small, faces):
    crowd = [crowd_frame([(180, 200), (470, 150)])] * 4
    with FaceDetector(faces=faces) as detector:
        clips_of(crowd, detector)
        (again,) = clips_of(small[0], detector)
    with FaceDetector(faces=faces) as detector:
        (new,) = clips_of(small[0], detector)
    assert again.landmarks.tobytes() == new.landmarks.tobytes()


@pytest.mark.parametrize("largest", [0, 1])
def test_the_largest_face_is_followed_even_when_it_is_no_longer(largest):
    """Two faces change their sizes and vanish for three frames; the one that began is kept."""
    centres = (180, 470)
    film = []
    for amount in np.linspace(0, 1, 12):
        heights = (260 - 90 * amount, 170 + 90 * amount)
        film.append(crowd_frame(zip(centres, map(round, heights[:: 1 - 2 * largest]), strict=True)))
    film[6:9] = [np.full_like(film[0], 128)] * 3
    clip = extract_landmarks(film)
    there = np.isfinite(clip.landmarks[:, 0, 0])
    assert there.tolist() == [True] * 6 + [False] * 3 + [True] * 3
    middle = clip.landmarks[there][..., 0].mean(axis=1)
    np.testing.assert_allclose(middle, centres[largest], atol=10)


def test_all_faces_become_a_clip_each():
    """One face stays; another comes, leaves and is back after more than a second."""
    alone, both = crowd_frame([(180, 220)]), crowd_frame([(180, 220), (470, 180)])
    film = [alone] * 3 + [both] * 5 + [alone] * 3 + [both] * 2 + [alone] * 30 + [both] * 2
    clips = extract_faces(film, extras=["iris"])
    assert [clip.source for clip in clips] == ["frames", "frames#face1", "frames#face2"]
    assert [len(clip) for clip in clips] == [45, 10, 2]
    assert [clip.timestamps[0] * 25 for clip in clips] == pytest.approx([0, 3, 43])
    assert clips[0].detection_share == 1
    assert clips[1].detection_share == pytest.approx(7 / 10)  # away for three frames: the same
    middle = [np.nanmean(clip.landmarks[..., 0]) for clip in clips]
    assert middle == pytest.approx([180, 470, 470], abs=10)
    assert np.isnan(clips[1].iris[5:8]).all()


def test_extras_agree_with_what_is_known(small):
    images, poses = small
    blank = np.full_like(images[0], 128)
    clip = extract_landmarks([*images, blank], extras=["head_pose", "blendshapes", "iris"])
    assert clip.iris.shape == (13, 10, 3)
    assert clip.blendshapes.shape == (13, 52)
    assert clip.head_pose.shape == (13, 4, 4)
    for extra in (clip.iris, clip.blendshapes, clip.head_pose):
        assert extra.dtype == np.float32
        assert np.isfinite(extra[:12]).all()
        assert np.isnan(extra[12]).all()
    for first, corners in ((0, (33, 133)), (5, (362, 263))):  # the right eye, then the left one
        between = np.sort(clip.landmarks[:12][:, corners, 0], axis=1)
        assert (between[:, 0] < clip.iris[:12, first, 0]).all()
        assert (clip.iris[:12, first, 0] < between[:, 1]).all()
    turn = clip.head_pose[:12, :3, :3]
    np.testing.assert_allclose(
        turn @ turn.transpose(0, 2, 1), np.eye(3)[None].repeat(12, 0), atol=1e-5
    )
    known = np.degrees(np.arctan2(poses[:, 0, 1], poses[:, 0, 0]))
    found = np.degrees(np.arctan2(turn[:, 1, 0], turn[:, 0, 0]))
    # The portrait itself is tilted by 3 degrees; smoothing lags behind by less than one.
    np.testing.assert_allclose(found - known, np.median(found - known), atol=1)
    smile = clip.blendshapes[:12, BLENDSHAPES.index("mouthSmileLeft")]
    assert 0 <= clip.blendshapes[:12].min() <= clip.blendshapes[:12].max() <= 1
    assert smile.min() > 0.3  # she smiles from the start


def test_blendshapes_are_named_as_mediapipe_does():
    from mediapipe.tasks.python.vision.face_landmarker import Blendshapes

    names = ["".join(part.title() for part in shape.name.split("_")) for shape in Blendshapes]
    assert [name.lstrip("_").lower() for name in BLENDSHAPES] == [name.lower() for name in names]


def test_extras_change_no_landmark(small):
    plain = extract_landmarks(small[0])
    assert (plain.iris, plain.blendshapes, plain.head_pose) == (None, None, None)
    full = extract_landmarks(small[0], extras=["iris", "blendshapes", "head_pose"])
    assert full.landmarks.tobytes() == plain.landmarks.tobytes()


def test_extraction_stops_where_it_is_told(small, caplog):
    clip = extract_landmarks(small[0], max_seconds=0.2)
    assert clip.timestamps.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extras": ["hair"]}, r"extras: expected some of \['iris', .*\], got \['hair'\]"),
        ({"extras": "iris"}, r"extras: expected some of .*, got 'iris'"),
        ({"max_seconds": 0}, "max_seconds: expected a positive number, got 0"),
        ({"fps": -1}, "fps: expected a positive number, got -1"),
        ({"video": 0}, "max_seconds: expected a number for a camera, which never ends, got None"),
    ],
)
def test_options_that_do_not_fit_are_named(small, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        extract_landmarks(**({"video": small[0]} | options))
    with pytest.raises(ValueError, match="^faces: expected 'largest' or 'all', got 'first'"):
        FaceDetector(faces="first")


def test_progress_counts_every_frame(tmp_path):
    render_portrait(tmp_path / "a.mp4", frames=6, size=(640, 360))
    seen = []
    extract_landmarks(tmp_path / "a.mp4", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]


def test_an_exception_in_progress_stops_the_extraction(moving):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_landmarks(moving[2], progress=stop)


def test_frames_are_rgb_with_rising_times(moving):
    times, images = zip(*frames(moving[2]), strict=True)
    assert len(images) == 60
    assert np.all(np.diff(times) > 0)
    assert images[0].shape == (720, 1280, 3)
    assert images[0].dtype == np.uint8
    suit = images[0][650:, 300:500].mean(axis=(0, 1))  # orange
    assert suit[0] > suit[1] > suit[2]


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ([0, 0, 0, 0], [0, 0.1, 0.2, 0.3]),  # no times at all
        ([0, 0.1, 0.1, 0.3], [0, 0.1, 0.101, 0.3]),
        ([0.5, 0.6, 0.2, 0.8], [0.5, 0.6, 0.601, 0.8]),
    ],
)
def test_times_rise_whatever_the_container_says(moving, container, expected):
    image = np.zeros((2, 2, 3), np.uint8)
    items = [(seconds, image) for seconds in container]
    with VideoReader(moving[2]) as reader:
        reader.fps, reader.image_size = 10.0, (2, 2)
        reader._first, rest = items[0], iter([*items[1:], None])
        reader._read = lambda: next(rest)
        assert [seconds for seconds, _ in reader] == pytest.approx(expected)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^video: expected a video file, got .*none\.mp4"):
        extract_landmarks(tmp_path / "none.mp4")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^video: expected a folder of images, got none in"):
        extract_landmarks(tmp_path)
    with pytest.raises(ValueError, match=r"^video: expected a video file, got the directory"):
        VideoReader(tmp_path)


@pytest.mark.parametrize("data", [b"", b"not a video", b"\0" * 4096])
def test_a_file_that_is_no_video_is_refused(tmp_path, data):
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(
        ValueError, match=r"^video: expected a video that can be decoded, got .*a\.mp4"
    ):
        extract_landmarks(tmp_path / "a.mp4")


def test_a_video_without_a_face_is_refused(tmp_path):
    render_portrait(tmp_path / "a.mp4", frames=4, size=(320, 240), blank=range(4))
    with pytest.raises(ValueError, match="no face was found in any of its 4 frames"):
        extract_landmarks(tmp_path / "a.mp4")


def test_a_cut_off_video_is_reported(tmp_path, caplog, monkeypatch):
    render_portrait(tmp_path / "a.mp4", frames=8, size=(640, 360))
    whole = VideoReader.__init__

    def announce_more(self, path):
        whole(self, path)
        self.frame_count = 80

    monkeypatch.setattr(video.VideoReader, "__init__", announce_more)
    assert len(extract_landmarks(tmp_path / "a.mp4")) == 8
    assert "read 8 of 80 frames" in caplog.text


def test_the_detector_takes_close_and_repeated_times(moving):
    _, image = next(frames(moving[2]))
    with face_detector.FaceDetector() as detector:
        found = [detector.detect(seconds, image) for seconds in (0.0, 0.0001, 0.0001, 0.0)]
    assert all(np.isfinite(faces[0].landmarks).all() for faces in found)


def test_the_detector_starts_in_silence_and_other_lines_pass():
    code = (
        "import os\n"
        "from fastexai.face_detector import FaceDetector, _without_start_messages\n"
        "FaceDetector().close()\n"
        "with _without_start_messages(): os.write(2, b'something else\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stderr == "something else\n"


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (64, 47), (63, 48), (1, 1)])
def test_a_written_video_keeps_count_rate_and_every_column(tmp_path, size):
    ramp = np.linspace(0, 200, size[0], dtype=np.uint8)
    image = np.broadcast_to(ramp[None, :, None], (size[1], size[0], 3)).copy()
    with VideoWriter(tmp_path / "a.mp4", fps=12.5) as writer:
        for _ in range(7):
            writer.write(image)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert reader.fps == pytest.approx(12.5)
        read = [frame for _, frame in reader]
    assert len(read) == 7
    height, width = read[0].shape[:2]
    assert (width, height) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    error = read[0][: size[1], : size[0]].astype(float) - image
    assert np.abs(error).mean() < 6  # lossy


def test_written_colours_come_back(tmp_path):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 220
    with VideoWriter(tmp_path / "a.mp4", fps=30) as writer:
        writer.write(red)
    (_, read), *_ = frames(tmp_path / "a.mp4")
    np.testing.assert_allclose(read.mean(axis=(0, 1)), (220, 0, 0), atol=12)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"before")

    def fail():
        with VideoWriter(path, fps=30) as writer:
            writer.write(np.zeros((32, 32, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_seen_of_a_video_before_it_is_whole(tmp_path):
    with VideoWriter(tmp_path / "new" / "a.mp4", fps=30) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
        assert not (tmp_path / "new" / "a.mp4").exists()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.mp4"]


def test_the_writer_names_what_it_refuses(tmp_path):
    with pytest.raises(ValueError, match=r"^path: expected a name that ends in \.mp4, got a\.avi"):
        VideoWriter("a.avi", fps=30)
    for fps in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"^fps: expected a positive number, got {fps}"):
            VideoWriter("a.mp4", fps=fps)
    frame = np.zeros((32, 32, 3), np.uint8)
    for bad in (frame[..., 0], frame.astype(np.float32), frame[:0]):
        with pytest.raises(ValueError, match=r"^frame: expected \(height, width, 3\) uint8, got"):
            write_all(tmp_path / "a.mp4", bad)
    with pytest.raises(
        ValueError, match=r"^frame: expected \(32, 32, 3\) uint8, got \(30, 32, 3\)"
    ):
        write_all(tmp_path / "a.mp4", frame, frame[:30])
    with pytest.raises(ValueError, match=r"^path: expected at least one frame for .*a\.mp4"):
        write_all(tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def write_all(path, *images):
    with VideoWriter(path, fps=30) as writer:
        for image in images:
            writer.write(image)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"landmarks": np.zeros((3, 478, 3), np.float32)},
            r"landmarks: .*468, 3.* got \(3, 478, 3\)",
        ),
        ({"landmarks": np.zeros((3, 468, 3))}, "landmarks: .*float32, got .*float64"),
        ({"landmarks": np.zeros((0, 468, 3), np.float32)}, r"landmarks: .*got \(0, 468, 3\)"),
        ({"timestamps": np.arange(4.0)}, r"timestamps: expected \(3,\) float64, got \(4,\)"),
        ({"timestamps": np.arange(3)}, "timestamps: expected .*float64, got .*int64"),
        ({"timestamps": np.array([0.0, 1.0, 1.0])}, "timestamps: expected .*strictly increasing"),
        (
            {"timestamps": np.array([0.0, 1.0, np.nan])},
            "timestamps: expected .*strictly increasing",
        ),
        ({"fps": 0.0}, r"fps: expected a positive number, got 0\.0"),
        ({"fps": float("nan")}, "fps: expected a positive number, got nan"),
        ({"image_size": (0, 48)}, r"image_size: expected \(width, height\), got \(0, 48\)"),
    ],
)
def test_a_clip_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(clip_of(), **changes)


@pytest.mark.parametrize("name", ["iris", "blendshapes", "head_pose"])
def test_extras_must_fit_the_landmarks(name):
    with pytest.raises(ValueError, match=rf"^{name}: expected \(3, .* float32, got \(2, 10, 3\)"):
        clip_of(**{name: np.zeros((2, 10, 3), np.float32)})


def test_a_clip_refuses_lists():
    with pytest.raises(TypeError, match=r"^landmarks: expected \(T, 468, 3\) float32, got list"):
        replace(clip_of(), landmarks=[1, 2, 3])


def test_a_clip_prints_shapes_and_cannot_be_changed():
    clip = clip_of(label="happiness")
    assert "landmarks=(3, 468, 3)" in repr(clip)
    assert "label='happiness'" in repr(clip)
    assert len(repr(clip)) < 300
    assert "iris=(3, 10, 3)" in repr(clip_of(iris=np.zeros((3, 10, 3), np.float32)))
    with pytest.raises(FrozenInstanceError):
        clip.fps = 25.0
