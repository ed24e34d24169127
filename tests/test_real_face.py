"""A real face: what moves with the head must not move the normalised landmarks."""

from pathlib import Path

import numpy as np
import pytest

import fastexai as fx
from portrait import portrait_frames, render_portrait, turned


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> dict[str, fx.LandmarkClip]:
    folder: Path = tmp_path_factory.mktemp("faces")
    motions = {
        "still": {"pan": False, "zoom": False, "roll": False, "smile": False},
        "moving": {"smile": False},
    }
    for name, motion in motions.items():
        render_portrait(folder / f"{name}.mp4", frames=60, **motion)
    return {name: fx.extract_landmarks(folder / f"{name}.mp4") for name in motions}


def spread(landmarks: np.ndarray) -> np.ndarray:
    """Root mean square distance of each landmark from its mean over frames."""
    centered = landmarks.astype(np.float64) - landmarks.mean(0, dtype=np.float64)
    return np.sqrt((centered**2).sum(2).mean(0))


# Measured, in inter-ocular distances: on a still portrait the detector's own jitter after
# normalisation is 0.15 % (median landmark) and 0.3 % (worst); under pan, zoom and roll its smoothing
# lags behind the motion, which leaves 0.7 % and 1.6 % with procrustes, 1.0 % and 2.2 % with eyes.
@pytest.mark.parametrize(
    ("alignment", "median", "worst"), [("procrustes", 0.010, 0.025), ("eyes", 0.015, 0.035)]
)
def test_pan_zoom_and_roll_leave_the_normalised_landmarks(raw, alignment, median, worst):
    assert raw["moving"].detection_share == raw["still"].detection_share == 1
    eyes = np.linalg.norm(
        raw["moving"].landmarks[:, 263] - raw["moving"].landmarks[:, 33], axis=1
    ).mean()
    assert np.median(spread(raw["moving"].landmarks)) > 0.2 * eyes  # the head does move
    moving = fx.normalize(raw["moving"].landmarks, alignment=alignment)
    assert np.median(spread(moving)) < median
    assert spread(moving).max() < worst
    still = fx.normalize(raw["still"].landmarks, alignment=alignment)
    shift = np.linalg.norm(moving.mean(0) - still.mean(0), axis=1)
    assert np.median(shift) < median
    assert shift.max() < worst


# Measured, in inter-ocular distances: the sensor's noise alone leaves 0.2 % (median landmark); turns
# of up to 25 and 15 degrees leave 4 % with procrustes and 14 % with eyes. The aim of issue 4, less than
# the detector's jitter, is missed: it sees another shape in a head that is turned.
def test_procrustes_takes_most_of_yaw_and_pitch_off_a_real_face():
    rng = np.random.default_rng(0)

    def landmarks(frames):
        """Find the face in each frame by itself: a second apart, nothing is smoothed."""
        noisy = [np.clip(f + rng.normal(0, 3, f.shape), 0, 255).astype(np.uint8) for f in frames]
        return fx.extract_landmarks(noisy, fps=1).landmarks

    picture, _ = next(portrait_frames(frames=1, size=(480, 360)))
    (face,) = fx.extract_landmarks([picture], fps=1).landmarks.astype(np.float64)
    poses = [(yaw, pitch) for yaw in (-25, -12, 0, 12, 25) for pitch in (-15, 0, 15)]
    heads = landmarks([turned(picture, face, *pose) for pose in poses])
    noise = landmarks([picture] * 8)
    left = {
        how: np.median(spread(fx.normalize(heads, alignment=how))) for how in ("procrustes", "eyes")
    }
    assert np.isfinite(heads).all()
    assert np.median(spread(fx.normalize(noise))) < 0.005
    assert left["eyes"] > 0.1  # the heads do turn
    assert left["procrustes"] < 0.06
    assert left["procrustes"] < left["eyes"] / 2
