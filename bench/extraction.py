"""What extraction costs beyond MediaPipe itself: decoding, conversion, collecting, writing.

Renders a portrait of 500 frames, 720p or of another size, and compares, on an otherwise idle machine,

- `extract_landmarks` with the time spent inside MediaPipe's detector in that same call, and
- `extract` in as many processes as there are cores (or ``--workers N``) with the bare detector: a
  loop over decoded frames in memory that does nothing else, in one process.

Processor time (user and system, of all threads and processes) is given beside frames per second:
other people's work hardly changes it, and on as many cores as there are workers, all of them busy, it
is what bounds the rate. A frame costs the detector's time, the decoder's, which no program escapes,
and what extraction adds::

    python bench/extraction.py --size 640 480
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import mediapipe

import fastexai as fx
from fastexai.face_model import face_model_path
from fastexai.video import frames
from machine import ROOT, machine, write_json

sys.path.insert(0, str(ROOT / "tests"))
from portrait import render_portrait

FRAMES = 500
REPEATS = 3
LIMIT = 1.3  # of the whole call over the detector
SCALING_LIMIT = 0.9  # of N workers' frame rate over N times the bare detector's
COPIES = (2, 6)  # videos per worker: the difference has no starting of processes in it


class Stopwatch:
    """Adds up the time spent inside a function."""

    def __init__(self, function):
        self.function = function
        self.seconds = 0.0
        self.calls = 0

    def __call__(self, *args, **options):
        """Call the function and add its time."""
        start = time.perf_counter()
        try:
            return self.function(*args, **options)
        finally:
            self.seconds += time.perf_counter() - start
            self.calls += 1


class TimedLandmarker:
    """MediaPipe's landmarker class, its ``detect_for_video`` under a stopwatch while in the block."""

    def __enter__(self):
        """Put the stopwatch in."""
        self._class = mediapipe.tasks.vision.FaceLandmarker
        self._original = self._class.detect_for_video
        watch = Stopwatch(self._original)
        self._class.detect_for_video = lambda *args, **options: watch(*args, **options)
        return watch

    def __exit__(self, *_):
        """Take it out again."""
        self._class.detect_for_video = self._original


def measure(video):
    """Extract once; return (whole seconds, seconds inside MediaPipe) after checking the answer."""
    with TimedLandmarker() as detector:
        start = time.perf_counter()
        clip = fx.extract_landmarks(video)
        whole = time.perf_counter() - start
    assert len(clip) == detector.calls == FRAMES, (len(clip), detector.calls)
    assert clip.detection_share == 1.0, clip.detection_share
    return whole, detector.seconds


def processor_seconds(who=resource.RUSAGE_SELF):
    """Return the user and system time of this process, or of those that it waited for."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def decoding_ms(video):
    """Return the processor's milliseconds per frame to decode a video into RGB."""
    began = processor_seconds()
    assert sum(1 for _ in frames(video)) == FRAMES
    return 1000 * (processor_seconds() - began) / FRAMES


def bare_rate(video):
    """Return (frames per second, processor's ms per frame) of the bare detector, in this process."""
    tasks = mediapipe.tasks
    options = tasks.vision.FaceLandmarkerOptions(
        base_options=tasks.BaseOptions(model_asset_path=str(face_model_path())),
        running_mode=tasks.vision.RunningMode.VIDEO,
    )
    decoded = list(frames(video))
    with tasks.vision.FaceLandmarker.create_from_options(options) as landmarker:
        start, began = time.perf_counter(), processor_seconds()
        for seconds, frame in decoded:
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame)
            assert landmarker.detect_for_video(image, round(seconds * 1000)).face_landmarks
        busy = processor_seconds() - began
        return FRAMES / (time.perf_counter() - start), 1000 * busy / FRAMES


def worker_rate(video, folder, workers):
    """Return frames per second without, and with, the start of the processes, and ms per frame.

    The milliseconds are the processor's, without the start.
    """
    took, busy = {}, {}
    for copies in COPIES:
        videos = [folder / f"{copies}-{number}.mp4" for number in range(copies * workers)]
        for copy in videos:
            shutil.copy(video, copy)
        start, began = time.perf_counter(), processor_seconds(resource.RUSAGE_CHILDREN)
        store = fx.extract(videos, folder / f"{copies}.parquet", workers=workers, progress=False)
        took[copies] = time.perf_counter() - start
        busy[copies] = processor_seconds(resource.RUSAGE_CHILDREN) - began
        assert store.table["frames"].tolist() == [FRAMES] * len(videos)
        assert (store.table["detection_share"] == 1).all()
    few, many = COPIES
    per_copy = FRAMES * workers
    more = per_copy * (many - few)
    return (
        more / (took[many] - took[few]),
        per_copy * many / took[many],
        1000 * (busy[many] - busy[few]) / more,
    )


def one_process(video):
    """Measure the overhead within one process."""
    measure(video)  # warm-up: imports, the model, the file cache
    runs = [measure(video) for _ in range(REPEATS)]
    ratios = [whole / inside for whole, inside in runs]
    return {
        "what": "extract_landmarks over the time inside MediaPipe's detector",
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "limit": LIMIT,
        "frames_per_second": FRAMES / statistics.median(whole for whole, _ in runs),
        "detector_ms_per_frame": 1000 * statistics.median(inside for _, inside in runs) / FRAMES,
    }


def processes(video, folder, workers):
    """Measure ``workers`` processes against as many bare detectors; in turns, as machines drift."""
    runs = []
    for repeat in range(REPEATS):
        decoding = decoding_ms(video)
        bare, bare_ms = bare_rate(video)
        place = folder / str(repeat)
        place.mkdir()
        steady, whole, extract_ms = worker_rate(video, place, workers)
        runs.append((steady / (workers * bare), bare, steady, whole, bare_ms, decoding, extract_ms))
    ratio, bare, steady, whole, bare_ms, decoding, extract_ms = (
        statistics.median(column) for column in zip(*runs, strict=True)
    )
    return {
        "what": "frames per second of extract over workers x those of MediaPipe's bare detector",
        "workers": workers,
        "ratio": ratio,
        "ratios": [run[0] for run in runs],
        "limit": SCALING_LIMIT,
        "bare_frames_per_second": bare,
        "frames_per_second": steady,
        "frames_per_second_with_start": whole,
        "processor_ms_per_frame": {
            "bare detector": bare_ms,
            "decoding": decoding,
            "extract": extract_ms,
        },
    }


def main():
    """Measure, print, write the JSON, and fail beyond the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), help="of a frame")
    options = parser.parse_args()
    workers = options.workers
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "portrait.mp4"
        render_portrait(video, frames=FRAMES, size=tuple(options.size))
        result = {"video": {"frames": FRAMES, "size": list(options.size)}} | one_process(video)
        result["processes"] = scaling = processes(video, Path(folder), workers)
    result["machine"] = machine(("fastexai", "mediapipe", "opencv-contrib-python", "numpy"))
    write_json("extraction", result)
    print(
        f"extraction / MediaPipe: {result['ratio']:.3f} (limit {LIMIT}); "
        f"{result['frames_per_second']:.0f} frames/s, "
        f"{result['detector_ms_per_frame']:.1f} ms a frame in the detector"
    )
    print(
        f"{workers} workers / {workers} x bare detector: {scaling['ratio']:.3f} "
        f"(limit {SCALING_LIMIT}); {scaling['frames_per_second']:.0f} frames/s, "
        f"{scaling['frames_per_second_with_start']:.0f} with the start of the processes, "
        f"bare {scaling['bare_frames_per_second']:.0f}"
    )
    spent = ", ".join(f"{what} {ms:.2f}" for what, ms in scaling["processor_ms_per_frame"].items())
    print(f"processor's ms per frame: {spent}")
    return int(result["ratio"] > LIMIT or scaling["ratio"] < SCALING_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
