"""Normalisation against NumPy: each step checked first, then timed, the two sides alternating.

NumPy's side is vectorised over all frames (alignment: batched SVD) or over a clip's coordinates (steps
in time). "Frames" are raw ones, before resampling. Run it on an otherwise idle machine::

    python bench/landmarks.py
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fastexai as fx
from fastexai import mesh
from fastexai.landmarks import OneEuro, fill_gaps
from machine import machine, write_json

CLIPS, LENGTH, FRAMES, MAX_GAP = 100, 45, 20, 3
#: In inter-ocular distances: pixels near 1000 are known to 6e-5 in float32, which is 1e-6 of a face.
AGREEMENT = 1e-5
EYES_LIMIT = 1e6  # frames/s, eyes alignment and resampling, on two cores
PROCRUSTES_LIMIT = 25.0  # times NumPy's frames/s

Array = NDArray[Any]


def draw_clips(seed: int = 0) -> list[fx.LandmarkClip]:
    """Draw trembling, turned heads in pixels; every third clip has a gap of three frames."""
    rng = np.random.default_rng(seed)
    face = mesh.CANONICAL_FACE * (1, -1, -1)
    clips = []
    for i in range(CLIPS):
        turn, _ = np.linalg.qr(np.eye(3) + 0.2 * rng.normal(size=(3, 3)))
        turn *= np.sign(np.diag(turn))
        landmarks = (face + rng.normal(0, 0.1, (LENGTH, mesh.LANDMARKS, 3))) @ turn.T * 30 + 500
        if i % 3 == 0:
            landmarks[i % 40 + 1 : i % 40 + 4] = np.nan
        times = np.cumsum(rng.uniform(0.02, 0.06, LENGTH))  # a variable frame rate
        clips.append(
            fx.LandmarkClip(landmarks.astype(np.float32), times, 25.0, (1280, 720), f"{i}.mp4")
        )
    return clips


def eyes_numpy(faces: Array) -> Array:
    """`fx.normalize` with alignment="eyes", all frames at once."""
    right, left = faces[:, [33, 133]].mean(1), faces[:, [362, 263]].mean(1)
    unit = np.linalg.norm(faces[:, 263] - faces[:, 33], axis=1)
    across = left - right
    cosine, sine = (across[:, :2] / np.hypot(across[:, 0], across[:, 1])[:, None]).T
    turn = np.zeros((len(faces), 3, 3), faces.dtype)
    turn[:, 0, 0] = turn[:, 1, 1] = cosine
    turn[:, 0, 1], turn[:, 1, 0], turn[:, 2, 2] = -sine, sine, 1
    return ((faces - ((right + left) / 2)[:, None]) @ turn) / unit[:, None, None]


def reference_face() -> Array:
    """Return the canonical face as an image shows it, in inter-ocular distances."""
    face = mesh.CANONICAL_FACE * np.float32([1, -1, -1])
    origin = (face[[33, 133]].mean(0) + face[[362, 263]].mean(0)) / 2
    return np.asarray((face - origin) / np.linalg.norm(face[263] - face[33]))


def procrustes_numpy(faces: Array) -> Array:
    """`fx.normalize`: Umeyama, IEEE TPAMI 13(4), 1991, by one batched SVD."""
    basis = reference_face()[mesh.RIGID]
    mean, center = faces[:, mesh.RIGID].mean(1, keepdims=True), basis.mean(0)
    own = np.nan_to_num(faces[:, mesh.RIGID] - mean)  # undetected: the SVD refuses NaN
    u, d, vt = np.linalg.svd(own.transpose(0, 2, 1) @ (basis - center))
    sign = np.ones_like(d)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    scale = (d * sign).sum(1) / np.maximum((own**2).sum((1, 2)), 1e-30)
    turn = (u * sign[:, None]) @ vt * scale[:, None, None]
    return np.asarray((faces - mean) @ turn + center)


def interpolate_numpy(landmarks: Array, times: Array, instants: Array) -> Array:
    """Interpolate detected frames linearly in time; hold the ends."""
    seen = np.flatnonzero(np.isfinite(landmarks).all((1, 2)))
    after = np.searchsorted(times[seen], instants).clip(1, len(seen) - 1)
    a, b = seen[after - 1], seen[after]
    share = ((instants - times[a]) / (times[b] - times[a])).clip(0, 1).astype(landmarks.dtype)
    return np.asarray(landmarks[a] + share[:, None, None] * (landmarks[b] - landmarks[a]))


def smooth_numpy(landmarks: Array, times: Array, filt: OneEuro) -> Array:
    """`OneEuro.smooth`, frame by frame."""
    result = np.full_like(landmarks, np.nan)
    seen = np.flatnonzero(np.isfinite(landmarks).all((1, 2)))
    previous = result[seen[0]] = landmarks[seen[0]]
    speed = np.zeros_like(previous)
    for before, now in pairwise(seen):
        turn = np.float32(2 * np.pi * (times[now] - times[before]))
        rate = np.float32(1 / (times[now] - times[before]))
        change = landmarks[now] - previous
        w = turn * filt.derivative_cutoff
        speed += w / (1 + w) * (change * rate - speed)
        w = turn * (filt.min_cutoff + filt.beta * np.abs(speed))
        previous = result[now] = previous + w / (1 + w) * change
    return result


@dataclass(frozen=True)
class Step:
    """One thing done to all clips, by both sides."""

    name: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]


def steps() -> list[Step]:
    """Return what is compared."""
    clips = draw_clips()
    faces = np.concatenate([clip.landmarks for clip in clips])
    aligned = [fx.normalize(clip.landmarks) for clip in clips]
    pairs = [(X, clip.timestamps) for X, clip in zip(aligned, clips, strict=True)]
    filt = OneEuro()

    def resample_numpy(landmarks: Array, times: Array, frames: int) -> Array:
        return interpolate_numpy(landmarks, times, np.linspace(times[0], times[-1], frames))

    def both(name: str, align: Callable[[Array], Array], frames: int) -> Step:
        def theirs() -> Array:
            all_aligned = align(faces).reshape(CLIPS, LENGTH, mesh.LANDMARKS, 3)
            return np.stack(
                [
                    resample_numpy(X, clip.timestamps, frames)
                    for X, clip in zip(all_aligned, clips, strict=True)
                ]
            )

        return Step(
            f"{name} alignment + resampling to {frames} frames (ClipSet.from_clips)",
            lambda: (
                fx.ClipSet.from_clips(clips, frames=frames, normalization=fx.Normalization(name)).X
            ),
            theirs,
        )

    return [
        Step(
            "eyes alignment",
            lambda: fx.normalize(faces, alignment="eyes"),
            lambda: eyes_numpy(faces),
        ),
        Step("procrustes alignment", lambda: fx.normalize(faces), lambda: procrustes_numpy(faces)),
        Step(
            f"resampling to {FRAMES} frames",
            lambda: [fx.resample(X, times, frames=FRAMES) for X, times in pairs],
            lambda: [resample_numpy(X, times, FRAMES) for X, times in pairs],
        ),
        Step(
            "gap filling",
            lambda: [fill_gaps(X, times, max_gap=MAX_GAP) for X, times in pairs],
            lambda: [interpolate_numpy(X, times, times) for X, times in pairs],
        ),
        Step(
            "One-Euro smoothing",
            lambda: [filt.smooth(X, times) for X, times in pairs],
            lambda: [smooth_numpy(X, times, filt) for X, times in pairs],
        ),
        both("eyes", eyes_numpy, FRAMES),
        both("eyes", eyes_numpy, LENGTH),
        both("procrustes", procrustes_numpy, FRAMES),
    ]


def disagreement(ours: Any, theirs: Any) -> float:
    """Return the largest difference; NaN must be in the same places."""
    one, other = np.asarray(ours), np.asarray(theirs)
    assert one.shape == other.shape, (one.shape, other.shape)
    np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
    return float(np.nanmax(np.abs(one - other)))


def seconds(run: Callable[[], Any], calls: int = 3) -> float:
    """Return how long one call takes in a stream of them, the other side's threads at rest."""
    time.sleep(0.05)
    run()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def compare(step: Step, repeats: int) -> dict[str, Any]:
    """Check a step, then time it; both sides alternate."""
    difference = disagreement(step.ours(), step.theirs())
    assert difference <= AGREEMENT, (step.name, difference)
    times = np.array([(seconds(step.ours), seconds(step.theirs)) for _ in range(repeats)])
    ours, theirs = CLIPS * LENGTH / times.T
    row = {
        "step": step.name,
        "difference": difference,
        "fastexai_frames_per_second": float(np.median(ours)),
        "fastexai_quartiles": np.percentile(ours, (25, 75)).tolist(),
        "numpy_frames_per_second": float(np.median(theirs)),
        "ratio": float(np.median(ours / theirs)),
        "ratio_quartiles": np.percentile(ours / theirs, (25, 75)).tolist(),
    }
    print(
        f"{step.name}: {row['fastexai_frames_per_second']:,.0f} frames/s, NumPy "
        f"{row['numpy_frames_per_second']:,.0f}, ratio {row['ratio']:.1f}, differs by {difference:.1e}",
        flush=True,
    )
    return row


def copying(repeats: int) -> float:
    """Return how many frames a second one thread copies: what memory allows it."""
    source = np.zeros((CLIPS * LENGTH, mesh.LANDMARKS, 3), np.float32)
    target = np.empty_like(source)
    np.copyto(target, source)
    return len(source) / float(
        np.median([seconds(lambda: np.copyto(target, source)) for _ in range(repeats)])
    )


def main() -> int:
    """Measure, print, write the JSON, and fail below the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="timed runs of each side")
    options = parser.parse_args()
    rows = [compare(step, options.repeats) for step in steps()]
    named = {row["step"]: row for row in rows}
    eyes = next(
        row for name, row in named.items() if name.startswith("eyes alignment + resampling")
    )
    result = {
        "clips": CLIPS,
        "frames_per_clip": LENGTH,
        "repeats": options.repeats,
        "copying_frames_per_second": copying(options.repeats),
        "eyes_limit_frames_per_second": EYES_LIMIT,
        "procrustes_limit_ratio": PROCRUSTES_LIMIT,
        "rows": rows,
        "machine": machine(("fastexai", "torch", "numpy")) | {"threads": torch.get_num_threads()},
    }
    write_json("landmarks", result)
    print(f"copying alone, one thread: {result['copying_frames_per_second']:,.0f} frames/s")
    fast = eyes["fastexai_frames_per_second"] >= EYES_LIMIT
    return int(not (fast and named["procrustes alignment"]["ratio"] >= PROCRUSTES_LIMIT))


if __name__ == "__main__":
    sys.exit(main())
