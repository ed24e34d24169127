"""Copies differ from clips by what was asked for, and by nothing else."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

import fastexai as fx
from fastexai.augmentation import Augmentation, copies_of, mirrored


@pytest.fixture(scope="module")
def X(clips):
    return clips.X[:6]


def test_clips_come_first_as_they_were(X):
    joined = Augmentation(mirror=True, jitter=0.1, time_warp=0.5, copies=3).join(X, seed=0)
    assert joined.shape == (24, *X.shape[1:])
    assert joined.dtype == np.float32
    np.testing.assert_array_equal(joined[:6], X)
    assert not (joined[6:12] == joined[18:]).all()  # noise and time are drawn anew


def test_a_seed_gives_the_same_copies(X):
    augmentation = Augmentation(jitter=0.1, time_warp=0.5)
    one, same, other = (augmentation.join(X, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not (one[6:] == other[6:]).all()


def test_the_mirror_image_of_the_mirror_image_is_the_clip(X):
    np.testing.assert_array_equal(mirrored(mirrored(X)), X)


def test_mirroring_exchanges_the_halves_of_the_face():
    face = fx.mesh.CANONICAL_FACE
    np.testing.assert_array_equal(mirrored(face), face)  # it is symmetric
    raised = face.copy()
    raised[61, 1] += 1  # the right corner of the lips
    moved = mirrored(raised) - face
    assert np.flatnonzero(np.abs(moved).max(1)).tolist() == [fx.mesh.mirror(61)]
    np.testing.assert_allclose(moved[fx.mesh.mirror(61)], [0, 1, 0], atol=1e-6)


def test_every_other_copy_is_a_mirror_image(X):
    joined = Augmentation(mirror=True, copies=3).join(X, seed=0).reshape(4, 6, *X.shape[1:])
    np.testing.assert_array_equal(joined[1], mirrored(X))
    np.testing.assert_array_equal(joined[2], X)
    np.testing.assert_array_equal(joined[3], mirrored(X))


def test_jitter_has_the_stated_size_and_no_direction(X):
    noise = Augmentation(jitter=0.02).join(X, seed=0)[6:] - X
    assert noise.std() == pytest.approx(0.02, rel=0.02)
    assert abs(noise.mean()) < 1e-3


def test_time_passes_unevenly_but_forward_from_first_to_last_frame():
    frames = 21
    clock = np.broadcast_to(
        np.linspace(0, 1, frames, dtype=np.float32)[:, None, None], (50, frames, 4, 3)
    )
    time = Augmentation(time_warp=0.6).join(clock, seed=0)[50:, :, 0, 0]
    np.testing.assert_allclose(time[:, [0, -1]], [[0, 1]] * 50, atol=1e-6)
    speed = np.diff(time, axis=1) * (frames - 1)
    assert speed.min() >= 0.4 - 1e-5
    assert speed.max() <= 1.6 + 1e-5
    assert speed.min() < 0.6
    assert speed.max() > 1.4


@pytest.mark.parametrize("frames", [1, 2])
def test_few_frames_can_be_warped(frames):
    X = np.random.default_rng(0).normal(size=(3, frames, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(Augmentation(time_warp=0.9).join(X, seed=0)[3:], X, atol=1e-6)


def test_copies_of_clips_are_found_among_all_rows():
    assert copies_of(np.array([0, 2]), 3, 9).tolist() == [0, 2, 3, 5, 6, 8]
    assert copies_of(np.array([1]), 3, 3).tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jitter": -0.1}, "jitter: expected a number from 0, got -0.1"),
        ({"jitter": float("nan")}, "jitter: expected a number from 0, got nan"),
        ({"time_warp": 1}, r"time_warp: expected a number in \[0, 1\), got 1"),
        ({"time_warp": -0.1}, r"time_warp: expected a number in \[0, 1\), got -0.1"),
        ({"copies": 0}, "copies: expected at least 1, got 0"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Augmentation(**options)


def test_mirror_images_need_the_full_mesh(few_clips):
    with pytest.raises(ValueError, match="^mirror: expected 468 landmarks per frame, got 24"):
        Augmentation(mirror=True).join(few_clips.X, seed=0)
