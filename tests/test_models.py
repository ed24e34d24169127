"""Networks are affine first, explained completely, drawn from their seed, and frozen where they say so."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients

import fastexai as fx
from fastexai.models import ARCHITECTURES, FEATURES, build_network, is_randomized

architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)
RANDOMIZED = [name for name in ARCHITECTURES if is_randomized(name)]


def build(architecture, *, landmarks=24, kept=None, hidden=6, seed=0, features="positions"):
    kept = torch.arange(landmarks) if kept is None else torch.tensor(kept)
    options = {"landmarks": landmarks, "hidden": hidden, "seed": seed, "features": features}
    return build_network(architecture, kept=kept, **options)


def fitted(architecture, clips, **options):
    """A network that has seen clips, with a readout that uses all features."""
    network = build(architecture, **options)
    network.fit_projection(clips)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        network.readout.weight.normal_(generator=generator)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def some(few_clips):
    return torch.from_numpy(few_clips.X[:12])


# --- What goes in and comes out --------------------------------------------------------------------


@architectures
@pytest.mark.parametrize("features", FEATURES)
def test_every_network_answers_one_logit_per_clip(architecture, features, some):
    network = fitted(architecture, some, features=features)
    logits = network(some)
    assert logits.shape == (12,)
    np.testing.assert_allclose(network(some[3:5]), logits[3:5], rtol=1e-4, atol=1e-5)
    assert network.features(some).shape == (12, network.readout.in_features)


@architectures
@pytest.mark.parametrize("features", FEATURES)
def test_only_kept_landmarks_and_only_movement_count(architecture, features, some):
    network = fitted(architecture, some, kept=[3, 17, 8], features=features)
    logits = network(some)
    moved = some.clone()
    moved[:, :, np.setdiff1d(np.arange(24), [3, 17, 8])] += 1
    torch.testing.assert_close(network(moved), logits, rtol=0, atol=0)
    torch.testing.assert_close(network(some + 0.5), logits, rtol=1e-3, atol=1e-3)
    moved = some.clone()
    moved[:, 2, 17] += 0.3
    assert ((network(moved) - logits).abs() > 1e-4).all()


@pytest.mark.parametrize(
    ("architecture", "kept", "units"),
    [
        ("randomized_bilstm", 468, 64),
        ("randomized_bilstm", 32, 32),
        ("randomized_bilstm", 128, 48),
        ("randomized_conv", 1, 128),
        ("bilstm", 32, 64),
    ],
)
def test_few_landmarks_need_few_random_units(architecture, kept, units):
    network = build(architecture, landmarks=468, kept=list(range(kept)), hidden=None)
    assert network.hidden == units
    assert build(architecture, landmarks=468, kept=list(range(kept)), hidden=7).hidden == 7


def test_velocities_are_differences_between_frames(some):
    network = fitted("randomized_conv", some, features="both")
    positions, velocities = network._motion(some).chunk(2, dim=2)
    centred = (some - some.mean(1, keepdim=True)).flatten(2)
    torch.testing.assert_close(positions, centred[:, 1:])
    torch.testing.assert_close(velocities, torch.diff(some, dim=1).flatten(2), atol=1e-6, rtol=0)
    only = fitted("randomized_conv", some, features="velocities")
    torch.testing.assert_close(only._motion(some), velocities)


@pytest.mark.parametrize("features", FEATURES)
def test_the_projection_is_a_limited_whitening(features, some):
    """Components are uncorrelated, the leading one has variance 1, none more than the limit allows."""
    network = fitted("randomized_bilstm", some, features=features)
    motion = network._motion(some).flatten(0, 1)
    components = network.projection(motion)
    for own in components.chunk(2 if features == "both" else 1, dim=1):
        covariance = (own.T @ own / len(own)).numpy()
        variances = np.diag(covariance)
        assert variances[0] == pytest.approx(1, rel=1e-3)
        assert variances.max() <= 1.001
        np.testing.assert_allclose(covariance, np.diag(variances), atol=5e-3)
    lengths = network.projection.weight.norm(dim=1)
    rows = lengths.chunk(2 if features == "both" else 1)
    assert all(float(own.max() / own.min()) <= 4.001 for own in rows)


def test_fewer_frames_than_components_are_enough(some):
    network = fitted("randomized_bilstm", some[:1])
    used = (network.projection.weight != 0).any(1)
    assert used[:7].all()
    assert not used[7:].any()


# --- Attribution -------------------------------------------------------------------------------------


@architectures
@pytest.mark.parametrize("features", FEATURES)
def test_the_core_finds_the_affine_prefix_and_is_complete(architecture, features, some):
    network = fitted(architecture, some, features=features)
    ig = fx.IntegratedGradients(network)
    attribution = fx.integrated_gradients(ig, some[:6], some[6:7], tol=1e-4)
    change = (network(some[:6]) - network(some[6:7])).abs()
    rounding = 1e-6 * attribution.values.abs().sum((1, 2, 3)) + 1e-5
    assert bool(attribution.converged.all())
    assert bool((attribution.completeness_error <= 1e-4 * change + rounding).all())
    assert ig.plan.startswith("affine prefix (")
    assert "linear" in ig.plan


@architectures
def test_attributions_are_those_of_captum(architecture, some):
    network = fitted(architecture, some).double()
    inputs, baselines = some[:4].double(), some[6:10].double()
    expected = CaptumIntegratedGradients(network).attribute(inputs, baselines, n_steps=60)
    found = fx.IntegratedGradients(network).attribute(inputs, baselines, n_steps=60)
    # Captum's nodes and weights are float32.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_the_random_convolution_needs_no_nodes(some):
    ig = fx.IntegratedGradients(fitted("randomized_conv", some))
    attribution = fx.integrated_gradients(ig, some[:6], some[6:7])
    assert attribution.nodes.sum() == 0


# --- Drawing -----------------------------------------------------------------------------------------


@architectures
def test_drawing_leaves_the_global_generator_alone(architecture):
    state = torch.get_rng_state()
    build(architecture)
    assert torch.equal(torch.get_rng_state(), state)


@architectures
def test_a_seed_gives_the_same_weights_and_another_gives_others(architecture):
    one, same, other = (build(architecture, seed=seed).body.state_dict() for seed in (3, 3, 4))
    for name, value in one.items():
        assert torch.equal(value, same[name])
        constant = bool((value == value.flatten()[0]).all())
        assert constant or not torch.equal(value, other[name])


@architectures
def test_only_randomised_networks_have_random_parameters(architecture):
    network = build(architecture)
    body = sum(p.numel() for p in network.body.parameters())
    assert network.random_parameters == (body if architecture in RANDOMIZED else 0)
    trainable = {name for name, p in network.named_parameters() if p.requires_grad}
    if architecture in RANDOMIZED:
        assert trainable == {"readout.weight", "readout.bias"}
    else:
        assert trainable == {name for name, _ in network.named_parameters()}


def test_random_recurrent_weights_have_the_stated_spectral_radius():
    lstm = build("randomized_bilstm", hidden=256).body.layer
    for block in lstm.weight_hh_l0.split(256):
        radius = torch.linalg.eigvals(block).abs().max()
        assert float(radius) == pytest.approx(0.9, abs=0.1)  # Girko's law, at a finite size


@architectures
def test_hidden_units_have_a_default(architecture):
    default, same = build(architecture, hidden=None), build(architecture, hidden=None)
    assert default.readout.in_features == same.readout.in_features
    assert default.readout.in_features > build(architecture, hidden=6).readout.in_features


@architectures
def test_networks_can_be_scripted_without_a_warning_of_their_own(architecture, some):
    network = fitted(architecture, some, features="both")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        script = torch.jit.script(network)
    torch.testing.assert_close(script(some), network(some), rtol=0, atol=1e-5)


# --- Errors --------------------------------------------------------------------------------------------


def test_unknown_words_name_those_known():
    with pytest.raises(
        ValueError, match="^architecture: expected one of bilstm, gru, .* got 'rnn'"
    ):
        build("rnn")
    message = "^features: expected one of positions, velocities, both, got 'angles'"
    with pytest.raises(ValueError, match=message):
        build("gru", features="angles")


@pytest.mark.parametrize("hidden", [0, -1])
def test_some_units_are_needed(hidden):
    with pytest.raises(ValueError, match=f"^hidden: expected at least 1, got {hidden}"):
        build("gru", hidden=hidden)
