"""Head motion, honestly: how much of what remains after normalisation does the head's pose explain.

The figure is the pooled R² of a linear regression of all normalised coordinates on functions of the
true pose, each person's mean taken off both sides first: faces differ far more between people than
expressions move them, and what they add to the variance would make the figure look better.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastexai as fx
from fastexai.datasets import action_units, motion, simulation
from fastexai.landmarks import normalize

LIMIT = 0.05  # of the variance that remains; the aim of issue 4


def sweep(rng, timeline, size):
    """Move evenly over the whole range, from ``-size`` to ``size``, at every clip's own pace: (F,)."""
    hertz, phase = rng.uniform(0.3, 1.0, (2, len(timeline.fps)))
    angle = timeline.time * hertz[timeline.clip] + 5 * phase[timeline.clip]
    return size * (2 * np.abs(2 * (angle % 1) - 1) - 1)


class Poses:
    """Stands in for the simulator's own poses, wider ones, and remembers what it drew."""

    def __call__(self, rng, timeline):
        yaw, pitch, roll, x, y, zoom = (
            sweep(rng, timeline, size) for size in (25, 15, 20, 0.5, 0.5, 0.2)
        )
        self.pose = np.column_stack([yaw, pitch, roll, x, y, zoom])
        rotation = motion.rotations(np.deg2rad(self.pose[:, :3]))
        return rotation, self.pose[:, 3:5], 1 + zoom


def explained(landmarks, pose, person):
    """Return the pooled R² of landmarks (F, ...) given the pose (F, P), within persons.

    Regressors are the pose, its squares and its products. Pose and landmarks of a random person agree
    by chance as well: R² is adjusted for the number of regressors (Theil, 1961).
    """
    unit = pose / pose.std(0)
    products = [unit[:, i] * unit[:, j] for i in range(unit.shape[1]) for j in range(i + 1)]
    design = np.column_stack([unit, *products])
    values = landmarks.reshape(len(landmarks), -1).astype(np.float64)
    for one in np.unique(person):
        own = person == one
        design[own] -= design[own].mean(0)
        values[own] -= values[own].mean(0)
    weights, *_ = np.linalg.lstsq(design, values)
    rest = ((values - design @ weights) ** 2).sum() / (values**2).sum()
    freedom = len(values) - len(np.unique(person))
    return 1 - rest * freedom / (freedom - design.shape[1])


@pytest.fixture(scope="module")
def filmed():
    """Turned, moving, trembling faces: pixels (F, 468, 3), pose (F, 6) and person (F,)."""
    poses = Poses()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "draw_pose", poses)
        clips = fx.datasets.simulate_landmarks(400, subjects=8, seed=31).clips
    landmarks = np.concatenate([clip.landmarks for clip in clips])
    person = np.concatenate([np.repeat(clip.subject, len(clip)) for clip in clips])
    seen = np.isfinite(landmarks).all((1, 2))
    return landmarks[seen], poses.pose[seen], person[seen]


def test_the_figure_knows_pose_from_noise(filmed):
    """It explains all of itself, nothing of noise, and of their sum the half."""
    _, pose, person = filmed
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(pose), 100))
    assert abs(explained(noise, pose, person)) < 1e-3
    linear = (pose / pose.std(0)) @ rng.normal(size=(6, 100))
    assert explained(linear, pose, person) == pytest.approx(1)
    half = linear / linear.std() + noise / noise.std()
    assert explained(half, pose, person) == pytest.approx(0.5, abs=0.05)


def test_poses_cover_the_range_asked_for(filmed):
    _, pose, _ = filmed
    np.testing.assert_allclose(np.abs(pose).max(0), (25, 15, 20, 0.5, 0.5, 0.2), rtol=0.01)
    assert np.abs(np.corrcoef(pose.T) - np.eye(6)).max() < 0.1


def test_after_normalisation_the_pose_explains_less_than_5_percent(filmed):
    landmarks, pose, person = filmed
    assert explained(normalize(landmarks), pose, person) < LIMIT


def test_eyes_alignment_leaves_the_pose_in(filmed):
    """It turns faces within the image plane only, and says so: yaw and pitch remain."""
    landmarks, pose, person = filmed
    assert explained(normalize(landmarks, alignment="eyes"), pose, person) > 0.5


def test_a_near_camera_leaves_pose_in(filmed):
    """A limit, measured: a similarity transform takes off the head's pose, not perspective.

    Seen by a pinhole 60 cm away, what is nearer is larger, by another amount in every pose. That is
    little of a face, but much of what an expression moves: the aim of 5 % is missed.
    """
    landmarks, pose, person = filmed
    eyes = landmarks[:, [33, 263]]
    center = eyes.mean(1, keepdims=True)
    unit = np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1)[:, None, None]
    distance = 60 / action_units.INTER_OCULAR_CM * unit  # pixels
    behind = (landmarks - center)[..., 2:]
    seen = landmarks.copy()
    seen[..., :2] -= center[..., :2]
    seen[..., :2] *= distance / (distance + behind)
    assert LIMIT < explained(normalize(seen), pose, person) < 0.5


def test_expressions_survive_normalisation(filmed):
    """What is left is not nothing: landmarks of a person still move by a tenth of what eyes are wide."""
    landmarks, _, person = filmed
    own = normalize(landmarks)[person == person[0]]
    lips = own[:, fx.mesh.region_landmarks("lips")]
    assert lips.std(0).max() > 0.02
