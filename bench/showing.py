"""What it costs to show what a model looks at: overlay, explain, live and the report.

On an otherwise idle machine::

    python bench/showing.py

- overlay: frames per second of a 720p video on top of extraction: attribution, decoding, drawing, encoding;
- explain: seconds beyond extraction for a video of 10 seconds, in a fresh process each time;
- live: pictures per second at 640 x 480, of a video of 60 frames per second, to a reader over HTTP;
- report: size of the page with seven emotions, and seconds until it answers in Debian's chromium.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import fastexai as fx
from fastexai.live.serve import Server
from fastexai.live.watch import Watcher
from machine import ROOT, machine, write_json

sys.path.insert(0, str(ROOT / "tests"))
from portrait import render_portrait
from test_report import explanation_of, path_of

REPEATS = 3
FRAMES = 300
LIVE_SECONDS = 8
LIMITS = {
    "overlay_frames_per_second": 15,
    "explain_seconds": 1.0,
    "live_pictures_per_second": 15,
    "report_megabytes": 6,
    "report_seconds": 2.0,
}
EXPLAIN = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import fastexai as fx
from fastexai.clip_explanation import ClipExplainer
video, model = sys.argv[1:]
fx.extract_landmarks(video, max_seconds=0.2)  # imports, and the face model in the file cache
start = time.perf_counter()
fx.extract_landmarks(video)
alone = time.perf_counter() - start
start = time.perf_counter()
with ThreadPoolExecutor(1) as beside:  # as the command does
    explainer = beside.submit(ClipExplainer, model)
    clip = fx.extract_landmarks(video)
(explained,) = fx.explain_clips(explainer.result(), [clip])
both = time.perf_counter() - start
assert explained.completeness_error <= 1e-2 * abs(explained.change) + 1e-4
print(both - alone)
"""


def overlay_rate(video, model, folder):
    """Return frames per second of `fx.overlay`, its extraction done before."""
    module = importlib.import_module("fastexai.overlay")
    clip = fx.extract_landmarks(video)
    original, module.extract_landmarks = module.extract_landmarks, lambda *_, **__: clip
    try:
        start = time.perf_counter()
        out = fx.overlay(video, model, folder / "out.mp4")
        seconds = time.perf_counter() - start
    finally:
        module.extract_landmarks = original
    assert len(list(fx.video.frames(out))) == len(clip)
    return len(clip) / seconds


def explain_seconds(video, model):
    """Return the seconds that an explanation adds to extraction, in a process of its own."""
    command = [sys.executable, "-c", EXPLAIN, str(video), str(model)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def live_rate(video, model):
    """Return the pictures per second that a reader gets."""
    with (
        Watcher(video, model, seconds=2, face_model=None) as watcher,
        Server(watcher.pictures, watcher.states, 0) as server,
        urllib.request.urlopen(f"{server.url}pictures") as pictures,
    ):
        next(iter(watcher.states))
        end, count = time.monotonic() + LIVE_SECONDS, 0
        while time.monotonic() < end:
            count += pictures.readline() == b"--picture\r\n"
    return count / LIVE_SECONDS


def report_figures(folder):
    """Return (megabytes, seconds until the page answers) with seven emotions."""
    names = [f"emotion {i}" for i in range(7)]
    results = [explanation_of(name, frames=40, seed=i) for i, name in enumerate(names)]
    page = fx.report([*results, *map(path_of, names)], folder / "report.html")
    return page.stat().st_size / 1e6, _answers_after(page)


def _answers_after(page):
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        took = []
        for _ in range(REPEATS):
            tab = browser.new_page()
            tab.goto(page.as_uri(), wait_until="commit")
            tab.locator("html[data-ready=true]").wait_for()
            tab.locator(".card").first.click(trial=True)
            took.append(tab.evaluate("performance.now()") / 1000)
            tab.close()
        browser.close()
    return statistics.median(took)


def measure(folder):
    """Return the median of each figure."""
    clips = fx.datasets.simulate_expressions(150, seed=1)
    model = folder / "happiness.pt"
    fx.EmotionClassifier("happiness", "randomized_bilstm").fit(clips).export(model)
    wide, small = folder / "720p.mp4", folder / "480p.mp4"
    render_portrait(wide, frames=FRAMES)
    render_portrait(small, frames=FRAMES, size=(640, 480), fps=60)
    megabytes, seconds = report_figures(folder)
    turns = [
        (overlay_rate(wide, model, folder), explain_seconds(wide, model), live_rate(small, model))
        for _ in range(REPEATS)
    ]
    overlay, explain, live = (statistics.median(column) for column in zip(*turns, strict=True))
    return {
        "overlay_frames_per_second": overlay,
        "explain_seconds": explain,
        "live_pictures_per_second": live,
        "report_megabytes": megabytes,
        "report_seconds": seconds,
    }


def main():
    """Measure, print, write the JSON, and fail beyond the limits."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    packages = ("fastexai", "torch", "mediapipe", "opencv-contrib-python", "plotly")
    write_json("showing", {"figures": figures, "limits": LIMITS, "machine": machine(packages)})
    print(json.dumps(figures, indent=2))
    missed = [
        name
        for name, limit in LIMITS.items()
        if figures[name] is not None
        and (figures[name] < limit if name.endswith("per_second") else figures[name] > limit)
    ]
    print("missed:", ", ".join(missed) or "none")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
