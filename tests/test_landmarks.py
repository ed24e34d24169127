"""Heads in any place, size and pose give the same face; time is what clips are resampled in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fastexai as fx
from fastexai import _core
from fastexai.datasets import simulation
from fastexai.landmarks import Normalization, OneEuro, fill_gaps, normalize, prototypes, resample
from fastexai.video import LandmarkClip

ALIGNMENTS = ("procrustes", "eyes")
# Pixels near 1000 are known to 6e-5 in float32, which is 1e-6 of the smallest face drawn here;
# ten roundings of that size may add up. In float64 all of it is nine digits smaller.
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}

# The canonical face as an image shows it: y down, z away.
CANONICAL = fx.mesh.CANONICAL_FACE.astype(np.float64) * (1, -1, -1)
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)
seeds = st.integers(0, 2**32 - 1)


def rotation(rng):
    """A rotation by any angle about any axis, from the QR decomposition of a Gaussian matrix."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def roll(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def draw_faces(rng, frames=3):
    """Different faces in pixels, heads turned at random by up to about half a radian."""
    faces = CANONICAL + rng.normal(0, 0.3, (frames, 468, 3))
    turns = []
    for angles in rng.uniform(-0.5, 0.5, (frames, 3)):
        x, y, z = (roll(angle) for angle in angles)
        turns.append(x @ y[[2, 0, 1]][:, [2, 0, 1]] @ z[[1, 2, 0]][:, [1, 2, 0]])
    size = rng.uniform(8, 40, (frames, 1, 1))  # pixels per centimetre
    return faces @ np.stack(turns) * size + rng.uniform(0, 800, (frames, 1, 3))


def moved(rng, faces, turn):
    """The same faces nearer or farther, elsewhere, and turned about a point of the image."""
    size, shift = rng.uniform(0.7, 1.5), rng.uniform(-300, 300, 3)
    center = faces.mean((0, 1))
    return (faces - center) @ turn.T * size + center + shift


def eyes_reference(face):
    """What cpp/fastexai/landmarks/eyes.h says, one landmark after the other."""
    right, left = (face[33] + face[133]) / 2, (face[362] + face[263]) / 2
    origin, unit = (right + left) / 2, np.linalg.norm(face[263] - face[33])
    angle = np.arctan2(left[1] - right[1], left[0] - right[0])
    return np.array([roll(-angle) @ (point - origin) / unit for point in face])


def procrustes_reference(face):
    """Umeyama, IEEE TPAMI 13(4), 1991, equations 34 to 43: a singular value decomposition."""
    reference = CANONICAL - (CANONICAL[[33, 133]].mean(0) + CANONICAL[[362, 263]].mean(0)) / 2
    reference = reference / np.linalg.norm(CANONICAL[263] - CANONICAL[33])
    x, y = face[fx.mesh.RIGID], reference[fx.mesh.RIGID]
    x_mean, y_mean = x.mean(0), y.mean(0)
    covariance = (y - y_mean).T @ (x - x_mean) / len(x)
    u, d, vt = np.linalg.svd(covariance)
    s = np.diag([1, 1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ s @ vt
    scale = np.trace(np.diag(d) @ s) / ((x - x_mean) ** 2).sum(1).mean()
    return (face - x_mean) @ turn.T * scale + y_mean


REFERENCES = {"eyes": eyes_reference, "procrustes": procrustes_reference}


@dtypes
@pytest.mark.parametrize("alignment", ALIGNMENTS)
@given(seed=seeds, angle=st.floats(-3, 3))
def test_position_size_and_roll_do_not_matter(alignment, dtype, seed, angle):
    rng = np.random.default_rng(seed)
    faces = draw_faces(rng)
    elsewhere = moved(rng, faces, roll(angle))
    one = normalize(faces.astype(dtype), alignment=alignment)
    other = normalize(elsewhere.astype(dtype), alignment=alignment)
    assert one.dtype == other.dtype == dtype
    np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE[dtype])


@dtypes
@given(seed=seeds)
def test_procrustes_removes_every_turn_of_the_head(dtype, seed):
    rng = np.random.default_rng(seed)
    faces = draw_faces(rng)
    turned = moved(rng, faces, rotation(rng))
    one, other = normalize(faces.astype(dtype)), normalize(turned.astype(dtype))
    np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE[dtype])


def test_eyes_leaves_yaw_in():
    faces = draw_faces(np.random.default_rng(0))
    yaw = roll(0.4)[[2, 0, 1]][:, [2, 0, 1]]
    one, other = normalize(faces, alignment="eyes"), normalize(faces @ yaw.T, alignment="eyes")
    assert np.abs(one - other).max() > 0.1


@dtypes
@pytest.mark.parametrize("alignment", ALIGNMENTS)
@given(seed=seeds)
def test_normalising_agrees_with_its_definition(alignment, dtype, seed):
    faces = draw_faces(np.random.default_rng(seed)).astype(dtype)
    expected = [REFERENCES[alignment](face.astype(np.float64)) for face in faces]
    np.testing.assert_allclose(
        normalize(faces, alignment=alignment), expected, rtol=0, atol=TOLERANCE[dtype]
    )


@dtypes
@pytest.mark.parametrize("alignment", ALIGNMENTS)
@given(seed=seeds)
def test_normalising_twice_changes_nothing_more(alignment, dtype, seed):
    once = normalize(draw_faces(np.random.default_rng(seed)).astype(dtype), alignment=alignment)
    twice = normalize(once, alignment=alignment)
    np.testing.assert_allclose(once, twice, rtol=0, atol=TOLERANCE[dtype])


def test_eyes_puts_the_eyes_where_it_says():
    face = normalize(draw_faces(np.random.default_rng(1), 1), alignment="eyes")[0]
    right, left = face[[33, 133]].mean(0), face[[362, 263]].mean(0)
    np.testing.assert_allclose(right + left, 0, atol=1e-12)
    assert left[0] > 0
    assert left[1] == pytest.approx(right[1], abs=1e-12)
    assert np.linalg.norm(face[263] - face[33]) == pytest.approx(1)


@pytest.mark.parametrize("axis", range(3))
@given(seed=seeds)
def test_procrustes_never_mirrors_a_face(axis, seed):
    """The best orthogonal matrix for a mirrored face is a reflection: it must not be taken."""
    face = draw_faces(np.random.default_rng(seed), 1)[0]
    face[:, axis] *= -1
    aligned = normalize(face)
    linear, *_ = np.linalg.lstsq(face - face.mean(0), aligned - aligned.mean(0))
    assert np.linalg.det(linear) > 0
    np.testing.assert_allclose(aligned, procrustes_reference(face), rtol=0, atol=1e-10)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@given(seed=seeds, missing=st.sets(st.integers(0, 39), min_size=1))
def test_undetected_frames_stay_nan_and_touch_no_other(alignment, seed, missing):
    faces = draw_faces(np.random.default_rng(seed), 40)
    holed = faces.copy()
    holed[list(missing)] = np.nan
    seen = [frame for frame in range(40) if frame not in missing]
    aligned = normalize(holed, alignment=alignment)
    assert np.isnan(aligned[list(missing)]).all()
    np.testing.assert_array_equal(aligned[seen], normalize(faces, alignment=alignment)[seen])


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_one_missing_anchor_makes_a_frame_undetected_another_landmark_does_not(alignment):
    faces = draw_faces(np.random.default_rng(2), 2)
    anchor = 33 if alignment == "eyes" else int(fx.mesh.RIGID[0])
    other = 13  # of the lips: neither an eye corner nor rigid
    assert other not in fx.mesh.RIGID
    faces[0, anchor, 1] = faces[1, other, 0] = np.nan
    aligned = normalize(faces, alignment=alignment)
    assert np.isnan(aligned[0]).all()
    assert np.isfinite(np.delete(aligned[1], other, axis=0)).all()
    assert np.isnan(aligned[1, other]).any()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_face_without_extent_is_undetected(alignment):
    assert np.isnan(normalize(np.full((1, 468, 3), 7.0), alignment=alignment)).all()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_memory_layout_does_not_matter_and_inputs_are_only_read(alignment):
    faces = draw_faces(np.random.default_rng(3), 4).astype(np.float32)
    before, expected = faces.copy(), normalize(faces, alignment=alignment)
    read_only = faces.copy()
    read_only.flags.writeable = False
    layouts = {
        "Fortran order": np.asfortranarray(faces),
        "every other frame": np.repeat(faces, 2, axis=0)[::2],
        "transposed": np.ascontiguousarray(faces.transpose(2, 0, 1)).transpose(1, 2, 0),
        "read-only": read_only,
        "negative strides": np.ascontiguousarray(faces[::-1, :, ::-1])[::-1, :, ::-1],
    }
    for name, layout in layouts.items():
        np.testing.assert_array_equal(normalize(layout, alignment=alignment), expected, name)
    np.testing.assert_array_equal(faces, before)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_leading_axes_are_kept(alignment):
    faces = draw_faces(np.random.default_rng(4), 6)
    expected = normalize(faces, alignment=alignment)
    batch = normalize(faces.reshape(2, 3, 468, 3), alignment=alignment)
    np.testing.assert_array_equal(batch.reshape(expected.shape), expected)
    np.testing.assert_array_equal(normalize(faces[0], alignment=alignment), expected[0])
    assert normalize(faces[:0], alignment=alignment).shape == (0, 468, 3)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_threads_change_nothing(alignment):
    faces = draw_faces(np.random.default_rng(5), 200)
    answers = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        answers.append(normalize(faces, alignment=alignment))
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


def test_procrustes_is_the_default():
    faces = draw_faces(np.random.default_rng(6))
    np.testing.assert_array_equal(normalize(faces), normalize(faces, alignment="procrustes"))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize(
    ("landmarks", "error", "message"),
    [
        (np.zeros((2, 468, 2)), ValueError, r"landmarks: expected \(\.\.\., (L|468), 3\), got"),
        (np.zeros(468), ValueError, r"landmarks: expected \(\.\.\., (L|468), 3\), got"),
        (np.zeros((2, 468, 3), int), TypeError, "landmarks: expected float32 or float64, got"),
        (np.zeros((2, 468, 3), np.float16), TypeError, "landmarks: expected float32 or float64"),
    ],
)
def test_normalize_says_what_it_takes(alignment, landmarks, error, message):
    with pytest.raises(error, match=f"^{message}"):
        normalize(landmarks, alignment=alignment)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("count", [4, 467, 478])
def test_normalize_takes_468_landmarks(alignment, count):
    with pytest.raises(ValueError, match=rf"^landmarks: expected .*468, 3.*, got .*{count}, 3"):
        normalize(np.zeros((2, count, 3)), alignment=alignment)


def test_normalize_knows_two_alignments():
    with pytest.raises(ValueError, match="^alignment: expected 'procrustes' or 'eyes', got 'nose'"):
        normalize(np.zeros((1, 468, 3)), alignment="nose")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"reference": (9, 3)}, ValueError, r"reference: expected \(10, 3\), got \[9, 3\]"),
        ({"reference": (10,)}, ValueError, r"reference: expected \(10, 3\), got \[10\]"),
        ({"basis": [0, 1]}, ValueError, r"basis: expected at least three landmarks, got \[2\]"),
        ({"basis": [0, 1, 10]}, ValueError, r"basis: expected landmarks in \[0, 10\), got 10"),
        ({"basis": [-1, 1, 2]}, ValueError, r"basis: expected landmarks in \[0, 10\), got -1"),
    ],
)
def test_the_core_checks_reference_and_basis(change, error, message):
    reference = torch.zeros(change.get("reference", (10, 3)), dtype=torch.float64)
    basis = torch.tensor(change.get("basis", [0, 1, 2]))
    with pytest.raises(error, match=f"^{message}"):
        _core.align_to_reference(torch.zeros(2, 10, 3), reference=reference, basis=basis)


def test_the_core_checks_the_dtypes_of_reference_and_basis():
    faces, reference, basis = torch.zeros(1, 10, 3), torch.zeros(10, 3), torch.arange(3)
    with pytest.raises(TypeError, match="^reference: expected float64, got"):
        _core.align_to_reference(faces, reference=reference, basis=basis)
    with pytest.raises(TypeError, match="^basis: expected int64, got"):
        _core.align_to_reference(faces, reference=reference.double(), basis=basis.int())


@st.composite
def timed_clips(draw, *, min_frames=1):
    """Frames at uneven times, some without a face."""
    frames = draw(st.integers(min_frames, 12))
    steps = draw(st.lists(st.floats(1e-2, 10), min_size=frames, max_size=frames))
    rng = np.random.default_rng(draw(seeds))
    landmarks = rng.normal(0, 1, (frames, 3, 3))
    seen = draw(st.lists(st.booleans(), min_size=frames, max_size=frames).filter(any))
    landmarks[~np.array(seen), rng.integers(3), rng.integers(3)] = np.nan  # one NaN is enough
    return landmarks, np.cumsum(steps), np.array(seen)


@dtypes
@given(clip=timed_clips(), frames=st.integers(2, 25))
def test_resampling_agrees_with_interp(dtype, clip, frames):
    landmarks, times, seen = clip
    landmarks = landmarks.astype(dtype)
    wanted = np.linspace(times[0], times[-1], frames)
    expected = [np.interp(wanted, times[seen], path) for path in landmarks[seen].reshape(-1, 9).T]
    result = resample(landmarks, times, frames=frames)
    assert result.dtype == dtype
    assert result.shape == (frames, 3, 3)
    # Values are about 1, and a rounding of a second's 16th digit moves a point by 1e-13 at most.
    atol = 1e-6 if dtype is np.float32 else 1e-12
    np.testing.assert_allclose(result.reshape(-1, 9).T, expected, rtol=0, atol=atol)


@given(clip=timed_clips(min_frames=2), slope=st.floats(-5, 5), frames=st.integers(2, 25))
def test_what_moves_evenly_in_time_still_does(clip, slope, frames):
    _, times, seen = clip
    landmarks = np.broadcast_to((1 + slope * times)[:, None, None], (len(times), 2, 3)).copy()
    landmarks[~seen] = np.nan
    wanted = np.linspace(times[0], times[-1], frames)
    held = np.clip(wanted, times[seen][0], times[seen][-1])  # ends without a face are held
    result = resample(landmarks, times, frames=frames)
    np.testing.assert_allclose(result, np.tile((1 + slope * held)[:, None, None], (2, 3)), 1e-9)


def test_gaps_are_bridged_and_ends_are_held():
    landmarks = np.full((6, 1, 3), np.nan)
    landmarks[1], landmarks[4] = 10, 40
    result = resample(landmarks, np.arange(6), frames=6)
    np.testing.assert_allclose(result[:, 0, 0], [10, 10, 20, 30, 40, 40])


def test_the_same_instants_give_the_same_clip_from_any_memory():
    landmarks = np.random.default_rng(7).normal(size=(9, 4, 3)).astype(np.float32)
    times = np.arange(9) * 0.25
    result = resample(landmarks, times, frames=9)
    np.testing.assert_array_equal(result, landmarks)
    backwards = np.repeat(landmarks[::-1], 2, axis=0)[::-2]
    times.flags.writeable = False
    np.testing.assert_array_equal(resample(backwards, times, frames=9), result)


def test_one_frame_is_the_middle():
    landmarks = np.array([0.0, 1.0, 10.0])[:, None, None] * np.ones((1, 2, 3))
    np.testing.assert_allclose(resample(landmarks, [0, 1, 4], frames=1), np.full((1, 2, 3), 4.0))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"landmarks": np.zeros((2, 4, 5, 3))}, ValueError, r"landmarks: expected \(T, L, 3\)"),
        ({"landmarks": np.zeros((4, 5, 2))}, ValueError, r"landmarks: expected \(\.\.\., L, 3\)"),
        ({"landmarks": np.zeros((4, 5, 3), int)}, TypeError, "landmarks: expected float32 or"),
        ({"landmarks": np.full((4, 5, 3), np.nan)}, ValueError, "landmarks: expected a face in"),
        ({"times": [0, 1, 2]}, ValueError, r"timestamps: expected \(4,\), got \[3\]"),
        ({"times": [[0, 1, 2, 3]]}, ValueError, r"timestamps: expected \(4,\), got \[1, 4\]"),
        ({"times": [0, 2, 1, 3]}, ValueError, "timestamps: expected .*increasing.* 1 at frame 2"),
        ({"times": [0, 1, 1, 3]}, ValueError, "timestamps: expected .*increasing.* at frame 2"),
        ({"times": [0, 1, np.nan, 3]}, ValueError, "timestamps: .* got nan at frame 2"),
        ({"times": [0, 1, 2, np.inf]}, ValueError, "timestamps: .* got inf at frame 3"),
        ({"frames": 0}, ValueError, "frames: expected at least 1, got 0"),
        ({"max_gap": -1}, ValueError, "max_gap: expected a number of frames from 0, got -1"),
    ],
)
def test_resample_says_what_it_takes(change, error, message):
    given = {"landmarks": np.zeros((4, 5, 3)), "times": [0, 1, 2, 3], "frames": 2, "max_gap": None}
    given |= change
    with pytest.raises(error, match=f"^{message}"):
        resample(
            given["landmarks"], given["times"], frames=given["frames"], max_gap=given["max_gap"]
        )


def gaps_reference(landmarks, times, max_gap, instants=None):
    """Every gap by itself: what is short enough is filled, in time; see `fill_gaps`."""
    seen = np.isfinite(landmarks).all((1, 2))
    instants = times if instants is None else instants
    flat = landmarks[seen].reshape(seen.sum(), -1)
    filled = np.stack([np.interp(instants, times[seen], path) for path in flat.T], 1)
    first = 0
    while first < len(times):
        last = first
        while last < len(times) and not seen[last]:
            last += 1  # a gap: first to last - 1
        if last - first > max_gap:
            before = times[first - 1] if first else -np.inf
            after = times[last] if last < len(times) else np.inf
            filled[(before < instants) & (instants < after)] = np.nan
        first = last + 1
    return filled.reshape(len(instants), *landmarks.shape[1:])


@dtypes
@given(clip=timed_clips(), max_gap=st.integers(0, 12))
def test_filling_gaps_agrees_with_its_definition(dtype, clip, max_gap):
    landmarks, times, seen = clip
    landmarks = landmarks.astype(dtype)
    filled = fill_gaps(landmarks, times, max_gap=max_gap)
    assert filled.dtype == dtype
    np.testing.assert_array_equal(filled[seen], landmarks[seen])
    expected = gaps_reference(landmarks, times, max_gap)
    atol = 1e-6 if dtype is np.float32 else 1e-12  # as in test_resampling_agrees_with_interp
    np.testing.assert_allclose(filled, expected, rtol=0, atol=atol)


@given(clip=timed_clips(), max_gap=st.integers(0, 12), frames=st.integers(2, 40))
def test_resampling_leaves_longer_gaps_open(clip, max_gap, frames):
    landmarks, times, _ = clip
    instants = np.linspace(times[0], times[-1], frames)
    expected = gaps_reference(landmarks, times, max_gap, instants)
    # An instant that is a frame's but for rounding may be on either side of a gap's edge.
    clear = np.abs(instants[:, None] - times).min(1) > 1e-7
    clear[[0, -1]] = True
    result = resample(landmarks, times, frames=frames, max_gap=max_gap)
    np.testing.assert_allclose(result[clear], expected[clear], rtol=0, atol=1e-12)


@given(seed=seeds, seen=st.lists(st.booleans(), min_size=2, max_size=20).filter(any))
def test_filling_is_resampling_at_the_own_instants(seed, seen):
    landmarks = np.random.default_rng(seed).normal(size=(len(seen), 4, 3))
    landmarks[~np.array(seen)] = np.nan
    times = 1e3 + np.arange(len(seen)) / 29.97
    for max_gap in (0, 1, 3, 20):
        filled = fill_gaps(landmarks, times, max_gap=max_gap)
        resampled = resample(landmarks, times, frames=len(seen), max_gap=max_gap)
        np.testing.assert_allclose(filled, resampled, rtol=0, atol=1e-9)  # of 30 ms at 1000 s


def test_a_gap_is_filled_by_the_line_between_its_neighbours():
    times = np.array([0.0, 1.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    landmarks = (
        np.ones((7, 2, 3)) * np.array([0.0, np.nan, 8.0, 9.0, np.nan, np.nan, 3.0])[:, None, None]
    )
    filled = fill_gaps(landmarks, times, max_gap=1)
    np.testing.assert_allclose(filled[:, 0, 0], [0, 2, 8, 9, np.nan, np.nan, 3])
    filled = fill_gaps(landmarks, times, max_gap=2)
    np.testing.assert_allclose(filled[:, 0, 0], [0, 2, 8, 9, 7, 5, 3])


def test_ends_are_held_as_far_as_gaps_are_filled():
    landmarks = np.full((7, 1, 3), np.nan)
    landmarks[1], landmarks[4] = 10, 40
    filled = fill_gaps(landmarks, np.arange(7), max_gap=1)[:, 0, 0]
    np.testing.assert_allclose(filled, [10, 10, np.nan, np.nan, 40, np.nan, np.nan])
    filled = fill_gaps(landmarks, np.arange(7), max_gap=2)[:, 0, 0]
    np.testing.assert_allclose(filled, [10, 10, 20, 30, 40, 40, 40])


@given(clip=timed_clips(), max_gap=st.integers(0, 12))
def test_filling_twice_changes_nothing_more(clip, max_gap):
    landmarks, times, _ = clip
    once = fill_gaps(landmarks, times, max_gap=max_gap)
    np.testing.assert_array_equal(fill_gaps(once, times, max_gap=max_gap), once)


def test_a_clip_without_a_face_stays_without_one():
    assert np.isnan(fill_gaps(np.full((3, 2, 3), np.nan), np.arange(3), max_gap=9)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_makes_a_frame_undetected(value):
    landmarks = np.arange(3.0)[:, None, None] * np.ones((1, 4, 3))
    landmarks[1, 2, 0] = value
    assert np.isnan(fill_gaps(landmarks, np.arange(3), max_gap=0)[1]).all()
    np.testing.assert_array_equal(fill_gaps(landmarks, np.arange(3), max_gap=1)[1], np.ones((4, 3)))
    assert np.isnan(OneEuro().smooth(landmarks, np.arange(3))[1]).all()


@pytest.mark.parametrize("step", [lambda x, t: fill_gaps(x, t, max_gap=1), OneEuro().smooth])
@pytest.mark.parametrize(
    ("landmarks", "times", "error", "message"),
    [
        (np.zeros((4, 5, 2)), range(4), ValueError, r"landmarks: expected \(\.\.\., L, 3\), got"),
        (np.zeros((4, 3)), range(4), ValueError, r"landmarks: expected \(T, L, 3\), got"),
        (np.zeros((4, 5, 3), int), range(4), TypeError, "landmarks: expected float32 or float64"),
        (np.zeros((4, 5, 3)), range(3), ValueError, r"timestamps: expected \(4,\), got \[3\]"),
        (np.zeros((4, 5, 3)), [0, 2, 1, 3], ValueError, "timestamps: expected strictly increasing"),
    ],
)
def test_steps_in_time_say_what_they_take(step, landmarks, times, error, message):
    with pytest.raises(error, match=f"^{message}"):
        step(landmarks, times)


def test_filling_takes_a_gap_from_0():
    with pytest.raises(ValueError, match="^max_gap: expected a number of frames from 0, got -1"):
        fill_gaps(np.zeros((2, 1, 3)), [0, 1], max_gap=-1)


def one_euro_reference(values, times, filt):
    """Casiez et al. 2012, algorithms 1 and 2, for one coordinate; None is no value."""

    def alpha(elapsed, cutoff):
        tau = 1 / (2 * np.pi * cutoff)
        return 1 / (1 + tau / elapsed)

    result, last = [], None
    for x, time in zip(values, times, strict=True):
        if x is None:
            result.append(np.nan)
            continue
        if last is None:
            hatx, hatdx = x, 0.0
        else:
            elapsed = time - last
            a = alpha(elapsed, filt.derivative_cutoff)
            hatdx = a * (x - hatx) / elapsed + (1 - a) * hatdx
            a = alpha(elapsed, filt.min_cutoff + filt.beta * abs(hatdx))
            hatx = a * x + (1 - a) * hatx
        last = time
        result.append(hatx)
    return result


filters = st.builds(OneEuro, st.floats(0.1, 20), st.floats(0, 20), st.floats(0.1, 20))


@dtypes
@given(clip=timed_clips(), filt=filters)
def test_smoothing_agrees_with_the_paper(dtype, clip, filt):
    landmarks, times, seen = clip
    landmarks = landmarks.astype(dtype)
    result = filt.smooth(landmarks, times)
    assert result.dtype == dtype
    for path, smoothed in zip(landmarks.reshape(-1, 9).T, result.reshape(-1, 9).T, strict=True):
        values = [float(x) if known else None for x, known in zip(path, seen, strict=True)]
        expected = one_euro_reference(values, times, filt)
        # The filter averages: it keeps what rounding adds, and adds a rounding each frame.
        atol = 2e-5 if dtype is np.float32 else 1e-12
        np.testing.assert_allclose(smoothed, expected, rtol=0, atol=atol)


@given(clip=timed_clips(), filt=filters, shift=st.floats(-5, 5))
def test_smoothing_does_not_depend_on_the_place(clip, filt, shift):
    landmarks, times, _ = clip
    one, other = filt.smooth(landmarks, times), filt.smooth(landmarks + shift, times)
    np.testing.assert_allclose(one + shift, other, rtol=0, atol=1e-12)


@given(clip=timed_clips(), filt=filters)
def test_smoothing_stays_within_what_was_seen(clip, filt):
    landmarks, times, seen = clip
    smoothed = filt.smooth(landmarks, times)[seen]
    assert (smoothed <= landmarks[seen].max(0) + 1e-12).all()
    assert (smoothed >= landmarks[seen].min(0) - 1e-12).all()
    np.testing.assert_array_equal(smoothed[0], landmarks[seen][0])


def test_smoothing_calms_what_rests_and_follows_what_moves():
    rng = np.random.default_rng(11)
    times = np.arange(200) / 30
    noise = rng.normal(0, 0.005, (200, 10, 3))
    resting = OneEuro().smooth(noise, times)
    assert resting[50:].std() < 0.6 * noise[50:].std()
    moving = (
        times[:, None, None] * np.ones((1, 10, 3)) + noise
    )  # one inter-ocular distance a second
    lag = {
        beta: (moving - OneEuro(beta=beta).smooth(moving, times))[50:].mean() for beta in (0, 10)
    }
    assert abs(lag[10]) < 0.25 * abs(lag[0])


def test_smoothing_brings_simulated_clips_nearer_to_the_truth(monkeypatch):
    seen = fx.datasets.simulate_landmarks(40, seed=5).clips
    draw = simulation.draw_jitter
    monkeypatch.setattr(simulation, "draw_jitter", lambda rng, frames: 0 * draw(rng, frames))
    truth = fx.datasets.simulate_landmarks(40, seed=5).clips

    def error(step):
        return np.mean(
            [
                np.nanmean(
                    (step(normalize(a.landmarks), a.timestamps) - normalize(b.landmarks)) ** 2
                )
                for a, b in zip(seen, truth, strict=True)
            ]
        )

    assert error(OneEuro().smooth) < (2 / 3 * 1.1) ** 2 * error(lambda landmarks, _: landmarks)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_cutoff": 0}, "min_cutoff: expected a positive number of hertz, got 0"),
        ({"min_cutoff": np.inf}, "min_cutoff: expected a positive number of hertz, got inf"),
        ({"beta": -1}, "beta: expected a number from 0, got -1"),
        ({"beta": np.nan}, "beta: expected a number from 0, got nan"),
        ({"derivative_cutoff": -2}, "derivative_cutoff: expected a positive number of hertz"),
    ],
)
def test_smoothing_says_what_it_takes(values, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        OneEuro(**values).smooth(np.zeros((2, 1, 3)), [0, 1])
    with pytest.raises(ValueError, match=f"^{message}"):
        fx.ClipSet.from_clips(
            [landmark_clip()], normalization=Normalization(smoothing=OneEuro(**values))
        )


def test_steps_in_time_take_any_memory_and_only_read_it():
    landmarks = np.random.default_rng(7).normal(size=(9, 4, 3)).astype(np.float32)
    landmarks[4] = np.nan
    times = np.arange(9) * 0.25
    before = landmarks.copy()
    layouts = [np.asfortranarray(landmarks), np.repeat(landmarks, 2, axis=0)[::2], landmarks[:]]
    layouts[-1] = np.ascontiguousarray(landmarks[::-1])[::-1]
    for step in (lambda x: fill_gaps(x, times, max_gap=1), lambda x: OneEuro().smooth(x, times)):
        expected = step(landmarks)
        for layout in layouts:
            np.testing.assert_array_equal(step(layout), expected)
    np.testing.assert_array_equal(landmarks, before)


def clip_set(n=4, *, labels=None):
    names = np.array([f"{i}" for i in range(n)])
    X = np.random.default_rng(8).normal(size=(n, 2, 5, 3)).astype(np.float32)
    return fx.ClipSet(X, names if labels is None else np.array(labels), names, names)


def test_a_clip_set_checks_itself():
    good = clip_set()
    with pytest.raises(ValueError, match=r"^X: expected \(N, T, L, 3\), got \(2, 5, 3\)"):
        fx.ClipSet(good.X[0], good.labels, good.subjects, good.ids)
    with pytest.raises(ValueError, match=r"^X: expected \(N, T, L, 3\), got \(4, 2, 5, 2\)"):
        fx.ClipSet(good.X[..., :2], good.labels, good.subjects, good.ids)
    with pytest.raises(TypeError, match="^X: expected float32, got float64"):
        fx.ClipSet(good.X.astype(np.float64), good.labels, good.subjects, good.ids)


@pytest.mark.parametrize("name", ["labels", "subjects", "ids"])
def test_a_clip_set_wants_one_name_per_clip(name):
    good = clip_set()
    names = {key: getattr(good, key) for key in ("labels", "subjects", "ids")}
    with pytest.raises(ValueError, match=rf"^{name}: expected \(4,\), got \(3,\)"):
        fx.ClipSet(good.X, **names | {name: names[name][:3]})


@pytest.mark.parametrize(
    "index", [slice(1, 3), [2, 0], np.array([True, False, True, True]), 1, np.int64(-1), slice(0)]
)
def test_indexing_takes_the_same_clips_of_everything(index):
    clips = clip_set()
    chosen = clips[index]
    positions = np.atleast_1d(np.arange(4)[index])
    assert len(chosen) == len(positions)
    np.testing.assert_array_equal(chosen.X, clips.X[positions])
    for name in ("labels", "subjects", "ids"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(clips, name)[positions])


def test_indexing_keeps_the_truth_about_landmarks(clips):
    assert clips[:3].relevant is clips.relevant


def test_a_clip_set_prints_its_size_not_its_data():
    text = "ClipSet(4 clips of 2 frames x 5 landmarks, 4 subjects; labels: a, b)"
    assert repr(clip_set(labels=["a", "b", "a", "a"])) == text


def landmark_clip(seed=0, source="one.mp4", **values):
    landmarks = draw_faces(np.random.default_rng(seed), 5).astype(np.float32)
    times = np.array([0.0, 0.1, 0.3, 0.4, 0.8])
    return LandmarkClip(landmarks, times, 25.0, (640, 480), source, **values)


@pytest.mark.parametrize("neutral_frames", [0, 1, 3])
@pytest.mark.parametrize("smoothing", [None, OneEuro(2.0, 5.0)])
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_from_clips_takes_every_step_in_turn(alignment, smoothing, neutral_frames):
    raw = [landmark_clip(0, label="fear", subject="s"), landmark_clip(1, "two.mp4")]
    raw[1].landmarks[2, 30:40] = np.nan
    clips = fx.ClipSet.from_clips(
        iter(raw),
        frames=7,
        normalization=Normalization(alignment, smoothing, neutral_frames),
    )
    for clip, X in zip(raw, clips.X, strict=True):
        expected = normalize(clip.landmarks, alignment=alignment)
        expected[~np.isfinite(clip.landmarks).all((1, 2))] = np.nan
        if smoothing is not None:
            expected = smoothing.smooth(expected, clip.timestamps)
        expected = resample(expected, clip.timestamps, frames=7)
        if neutral_frames:
            expected = expected - expected[:neutral_frames].mean(0)
        # Steps taken at once round less often: a few units of the float32 values' last digit.
        np.testing.assert_allclose(X, expected, rtol=0, atol=2e-6)
    assert clips.labels.tolist() == ["fear", ""]
    assert clips.subjects.tolist() == ["s", "two.mp4"]
    assert clips.ids.tolist() == ["one.mp4", "two.mp4"]
    assert clips.normalization == Normalization(alignment, smoothing, neutral_frames)
    assert clips.rejected == ()


def test_more_clips_than_a_batch_are_the_same_clips():
    raw = [landmark_clip(i, f"{i}.mp4") for i in range(130)]
    clips = fx.ClipSet.from_clips(iter(raw), frames=4)
    assert clips.ids.tolist() == [clip.source for clip in raw]
    np.testing.assert_array_equal(clips.X, fx.ClipSet.from_clips(raw, frames=4).X)
    for i in (0, 63, 64, 129):
        np.testing.assert_array_equal(
            clips.X[i], fx.ClipSet.from_clips(raw[i : i + 1], frames=4).X[0]
        )


def holed_clip(source, missing):
    clip = landmark_clip(3, source, label="fear", subject="s")
    clip.landmarks[list(missing)] = np.nan
    return clip


def test_clips_with_too_few_faces_are_left_out_and_counted():
    raw = [holed_clip("a", []), holed_clip("b", [1, 2, 3]), holed_clip("c", [0, 4])]
    raw.append(holed_clip("d", range(5)))
    with pytest.warns(
        UserWarning, match=r"^2 of 4 clips are left out \(b: a face in 2 of 5 frames; "
    ):
        clips = fx.ClipSet.from_clips(raw, min_detection_share=0.6)
    assert clips.ids.tolist() == ["a", "c"]
    assert clips.rejected == (("b", "a face in 2 of 5 frames"), ("d", "a face in 0 of 5 frames"))
    assert clips[:1].rejected == clips.rejected
    assert np.isfinite(clips.X).all()
    np.testing.assert_array_equal(clips.X, fx.ClipSet.from_clips([raw[0], raw[2]]).X)


def test_clips_with_long_gaps_are_left_out_and_counted():
    raw = [holed_clip("a", [0, 2, 4]), holed_clip("b", [1, 2]), holed_clip("c", [3, 4])]
    with pytest.warns(
        UserWarning, match=r"^2 of 3 clips are left out \(b: no face for 2 frames in"
    ):
        clips = fx.ClipSet.from_clips(raw, max_gap=1)
    assert clips.ids.tolist() == ["a"]
    assert fx.ClipSet.from_clips(raw, max_gap=2).ids.tolist() == ["a", "b", "c"]


def test_many_clips_left_out_are_counted_not_all_named():
    raw = [holed_clip("good", [])] + [holed_clip(f"bad {i}", range(5)) for i in range(9)]
    with pytest.warns(UserWarning, match=r"^9 of 10 .*bad 4: .*; and 4 more \(see `rejected`\)\)$"):
        assert len(fx.ClipSet.from_clips(raw, max_gap=1).rejected) == 9


def test_all_clips_left_out_is_an_error():
    with pytest.raises(ValueError, match="^clips: expected at least one clip, got 1 that were all"):
        fx.ClipSet.from_clips([holed_clip("a", range(5))], min_detection_share=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames: expected at least 1, got 0"),
        (
            {"normalization": Normalization("nose")},
            "alignment: expected 'procrustes' or 'eyes', got 'nose'",
        ),
        ({"min_detection_share": 1.5}, "min_detection_share: expected 0 to 1, got 1.5"),
        ({"min_detection_share": np.nan}, "min_detection_share: expected 0 to 1, got nan"),
        ({"max_gap": -1}, "max_gap: expected a number of frames from 0, got -1"),
        (
            {"normalization": Normalization(neutral_frames=-1)},
            r"neutral_frames: expected 0 to 20 \(frames\), got -1",
        ),
        (
            {"normalization": Normalization(neutral_frames=21)},
            r"neutral_frames: expected 0 to 20 \(frames\), got 21",
        ),
    ],
)
def test_from_clips_says_what_it_takes(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        fx.ClipSet.from_clips([landmark_clip()], **options)


def raw_tensors(dtype=torch.float64):
    rng = np.random.default_rng(12)
    clips = [torch.from_numpy(draw_faces(rng, n)).to(dtype) for n in (30, 1, 12, 45, 7)]
    return clips, [torch.arange(len(clip), dtype=torch.float64) / 25 for clip in clips]


def test_clips_do_not_depend_on_threads_or_memory():
    clips, times = raw_tensors()
    spread = [torch.repeat_interleave(clip, 2, 0)[::2] for clip in clips]
    spread[0] = clips[0].permute(2, 0, 1).contiguous().permute(1, 2, 0)
    for options in ({}, {"smoothing": (1.0, 2.0, 1.0), "neutral_frames": 2}):
        answers = []
        for threads, own in ((1, clips), (3, clips), (2, spread)):
            torch.set_num_threads(threads)
            answers.append(_core.normalize_clips(own, times, frames=9, **options)[0].numpy())
        np.testing.assert_array_equal(answers[0], answers[1])
        np.testing.assert_array_equal(answers[0], answers[2])


def test_the_core_counts_faces_and_gaps():
    clips, times = raw_tensors()
    clips[0][[0, 1, 5, 6, 7, 29]] = torch.nan
    clips[1][:] = torch.nan
    X, detected, longest_gap = _core.normalize_clips(clips, times, frames=9)
    assert detected.tolist() == [24, 0, 12, 45, 7]
    assert longest_gap.tolist() == [3, 1, 0, 0, 0]
    assert torch.isnan(X[1]).all()
    assert torch.isfinite(X[[0, 2, 3, 4]]).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c, t: (c[:0], t[:0]), ValueError, "clips: expected at least one clip, got none"),
        (lambda c, t: (c, t[:4]), ValueError, r"timestamps: expected 5 \(one per clip\), got 4"),
        (
            lambda c, t: ([*c[:4], c[4][:, :400]], t),
            ValueError,
            "clips: expected 468 landmarks in each, got 400 in clip 4",
        ),
        (
            lambda c, t: ([c[0], c[1].float(), *c[2:]], t),
            TypeError,
            r"clips: expected one dtype \(Double\), got Float in clip 1",
        ),
    ],
)
def test_the_core_takes_clips_of_one_kind(change, error, message):
    clips, times = change(*raw_tensors())
    with pytest.raises(error, match=f"^{message}"):
        _core.normalize_clips(clips, times, frames=3)


def test_from_store_is_from_clips(tmp_path):
    store = fx.LandmarkStore.create(tmp_path / "clips")
    raw = [landmark_clip(i, f"{i}.mp4", label="fear", subject="s") for i in range(3)]
    for clip in raw:
        store.append(clip)
    one, other = fx.ClipSet.from_store(store, frames=4), fx.ClipSet.from_clips(raw, frames=4)
    order = np.argsort(one.ids)
    np.testing.assert_array_equal(one.X[order], other.X)
    assert one[order].ids.tolist() == other.ids.tolist()


def test_from_clips_needs_a_clip_with_a_face():
    with pytest.raises(ValueError, match="^clips: expected at least one clip, got none"):
        fx.ClipSet.from_clips([])
    faceless = landmark_clip()
    faceless.landmarks[:] = np.nan
    with pytest.raises(ValueError, match="^clips: expected a face .* got none in 'one.mp4'"):
        fx.ClipSet.from_clips([landmark_clip(1), faceless])


def rows(array):
    return [row.tobytes() for row in array]


@given(seed=seeds, n=st.integers(1, 12), data=st.data())
def test_prototypes_are_distinct_members(seed, n, data):
    k = data.draw(st.integers(1, n))
    X = np.random.default_rng(seed).normal(size=(n, 2, 3, 3)).astype(np.float32)
    chosen = prototypes(X, k)
    assert chosen.shape == (k, 2, 3, 3)
    assert chosen.dtype == np.float32
    assert set(rows(chosen)) <= set(rows(X))
    assert len(set(rows(chosen))) == k


def test_prototypes_are_typical():
    """Of three tight groups and one outlier, every group gives one and the outlier is not one."""
    rng = np.random.default_rng(9)
    centers = np.array([-10.0, 0.0, 10.0])
    X = (np.repeat(centers, 10)[:, None, None, None] + rng.normal(0, 0.1, (30, 2, 3, 3))).astype(
        np.float32
    )
    X[4] += 2
    chosen = prototypes(X, 3)
    np.testing.assert_allclose(np.sort(chosen.mean((1, 2, 3))), centers, atol=0.2)


def test_a_clip_far_out_draws_the_centre_of_its_cluster_but_not_the_medoid():
    """On a line the medoid is the median, 2; the mean is 4, next to the member at 5."""
    line = np.array([12, 2, 0, 5, 1], dtype=np.float32)
    X = np.concatenate([line, 1000 + line])[:, None, None, None] * np.ones((1, 2, 3, 3), np.float32)
    np.testing.assert_array_equal(prototypes(X, 2)[:, 0, 0, 0], [2, 1002])


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_clips_that_repeat_still_give_k_prototypes():
    X = clip_set(2).X[[0, 0, 1, 0]]
    chosen = prototypes(X, 3)
    assert len(chosen) == 3
    assert set(rows(chosen)) == set(rows(X))


def test_prototypes_depend_on_the_seed_alone(clips):
    once = prototypes(clips, seed=3)
    np.random.seed(5)  # the global state must not matter
    np.testing.assert_array_equal(prototypes(clips, seed=3), once)
    np.testing.assert_array_equal(prototypes(clips.X, seed=3), once)
    assert once.shape == (5, *clips.X.shape[1:])


@pytest.mark.parametrize(
    ("of", "emotion", "labels"),
    [
        ("all", None, {"neutral", "fear", "anger"}),
        ("neutral", None, {"neutral"}),
        ("class", "fear", {"fear"}),
        ("rest", "fear", {"neutral", "anger"}),
        ("rest", "neutral", {"fear", "anger"}),
    ],
)
def test_prototypes_come_from_the_clips_asked_for(of, emotion, labels):
    """As many as there are, so that each of them is chosen."""
    clips = clip_set(9, labels=["neutral", "fear", "anger"] * 3)
    members = clips.X[np.isin(clips.labels, list(labels))]
    chosen = prototypes(clips, len(members), of=of, emotion=emotion)
    np.testing.assert_array_equal(chosen, members)


@pytest.mark.parametrize("k", [0, -1, 5])
def test_prototypes_need_enough_clips(k):
    with pytest.raises(
        ValueError, match=rf"^k: expected 1 to 4 \(the clips to choose from\), got {k}"
    ):
        prototypes(clip_set(), k)


def test_prototypes_count_only_what_they_may_choose():
    clips = clip_set(labels=["neutral", "fear", "neutral", "fear"])
    with pytest.raises(ValueError, match=r"^k: expected 1 to 2 \(the clips .*\), got 3"):
        prototypes(clips, 3, of="neutral")
    with pytest.raises(ValueError, match=r"^k: expected 1 to 0 \(the clips .*\), got 1"):
        prototypes(clip_set(labels=["fear"] * 4), 1, of="neutral")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "fear"}, "of: expected 'all', 'neutral', 'class' or 'rest', got 'fear'"),
        ({"of": "class"}, r"emotion: expected a label of the clips \('a', 'b'\), got None"),
        (
            {"of": "rest", "emotion": "joy"},
            r"emotion: expected a label of the clips \('a', 'b'\), got 'joy'",
        ),
        ({"emotion": "a"}, "emotion: expected None beside of='all', got 'a'"),
        ({"of": "neutral", "emotion": "a"}, "emotion: expected None beside of='neutral', got 'a'"),
    ],
)
def test_prototypes_say_what_they_take(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        prototypes(clip_set(labels=["a", "b", "a", "a"]), 1, **options)


@pytest.mark.parametrize("of", ["neutral", "class", "rest"])
def test_an_array_has_no_labels_to_choose_by(of):
    message = f"^of: expected 'all' for an array, which has no labels, got '{of}'"
    with pytest.raises(ValueError, match=message):
        prototypes(clip_set().X, 1, of=of, emotion="a")


def test_prototypes_refuse_what_is_no_clip():
    X = clip_set().X
    with pytest.raises(ValueError, match=r"^clips: expected \(N, T, L, 3\), got \(2, 5, 3\)"):
        prototypes(X[0], 1)
    X[2, 0, 0, 0] = np.nan
    with pytest.raises(
        ValueError, match="^clips: expected finite values, got NaN or Inf in clip 2"
    ):
        prototypes(X, 1)
