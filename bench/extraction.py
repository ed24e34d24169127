"""What extraction costs beyond MediaPipe itself: decoding, conversion, collecting.

Renders a 500-frame 720p portrait, extracts its landmarks, and compares the whole call with the time
spent inside MediaPipe's detector in that same call. Run it on an otherwise idle machine::

    python bench/extraction.py
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import mediapipe

import fastexai.video
from machine import ROOT, machine, write_json

sys.path.insert(0, str(ROOT / "tests"))
from portrait import render_portrait

FRAMES = 500
REPEATS = 3
LIMIT = 1.3


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
        clip = fastexai.video.extract_landmarks(video)
        whole = time.perf_counter() - start
    assert len(clip) == detector.calls == FRAMES, (len(clip), detector.calls)
    assert clip.detection_share == 1.0, clip.detection_share
    return whole, detector.seconds


def main():
    """Measure, print, write the JSON, and fail above the limit."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "portrait.mp4"
        render_portrait(video, frames=FRAMES)
        measure(video)  # warm-up: imports, the model, the file cache
        runs = [measure(video) for _ in range(REPEATS)]
    ratios = [whole / inside for whole, inside in runs]
    result = {
        "what": "extract_landmarks over the time inside MediaPipe's detector",
        "video": {"frames": FRAMES, "size": [1280, 720]},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "limit": LIMIT,
        "frames_per_second": FRAMES / statistics.median(whole for whole, _ in runs),
        "detector_ms_per_frame": 1000 * statistics.median(inside for _, inside in runs) / FRAMES,
        "machine": machine(("fastexai", "mediapipe", "opencv-contrib-python", "numpy")),
    }
    write_json("extraction", result)
    print(
        f"extraction / MediaPipe: {result['ratio']:.3f} (limit {LIMIT}); "
        f"{result['frames_per_second']:.0f} frames/s, "
        f"{result['detector_ms_per_frame']:.1f} ms a frame in the detector"
    )
    return int(result["ratio"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
