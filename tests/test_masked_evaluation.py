"""Masked scores against a naive loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastexai import _core
from fastexai.model_loading import load_model
from fastexai.training import EmotionClassifier

# --- Masked evaluation -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(few_clips):
    return EmotionClassifier("happiness", "randomized_bilstm", hidden=8).fit(few_clips).network_


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
def test_masked_scores_are_those_of_masked_clips(count, network, few_clips):
    """130 clips are more than two of the core's blocks of 64."""
    X = torch.from_numpy(few_clips.X[:count])
    baseline = torch.from_numpy(few_clips.X[-1])
    kept = torch.rand(5, 24) < 0.5
    kept[3], kept[4] = True, False
    scores = _core.masked_scores(load_model(network), X, baseline=baseline, kept=kept)
    assert scores.shape == (5, count)
    for subset, row in zip(kept, scores, strict=True):
        masked = X.clone()
        for landmark in range(24):
            if not subset[landmark]:
                masked[:, :, landmark] = baseline[:, landmark]
        with torch.no_grad():
            expected = network(masked)
        torch.testing.assert_close(
            row, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
        )


def test_all_landmarks_are_the_model_and_none_the_baseline(network, few_clips):
    X, baseline = torch.from_numpy(few_clips.X[:9]), torch.from_numpy(few_clips.X[-1])
    kept = torch.stack([torch.ones(24, dtype=torch.bool), torch.zeros(24, dtype=torch.bool)])
    full, empty = _core.masked_scores(load_model(network), X, baseline=baseline, kept=kept)
    with torch.no_grad():
        torch.testing.assert_close(full, network(X))
        torch.testing.assert_close(empty, network(baseline[None]).expand(9))


def test_threads_change_no_score(network, few_clips):
    X, baseline = torch.from_numpy(few_clips.X), torch.from_numpy(few_clips.X[0])
    kept, answers = torch.rand(7, 24) < 0.5, []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        answers.append(_core.masked_scores(load_model(network), X, baseline=baseline, kept=kept))
    atol = 1e-5 * float(answers[0].abs().max())
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=atol)
    torch.testing.assert_close(answers[0], answers[2], rtol=0, atol=atol)


CLIPS, BASELINE = torch.ones(6, 2, 5, 3), torch.zeros(2, 5, 3)
KEPT = torch.ones(1, 5, dtype=torch.bool)


class Total(nn.Module):
    """Sum over everything."""

    def forward(self, x):
        return x.flatten(1).sum(1)


@pytest.fixture(scope="module")
def total():
    return load_model(Total().eval())


def nan_at(tensor):
    tensor = tensor.clone()
    tensor[1] = torch.nan
    return tensor


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"clips": CLIPS[0]}, ValueError, r"clips: expected \(N, T, L, 3\) with N >= 1, got \[2,"),
        ({"clips": CLIPS[:0]}, ValueError, r"clips: expected \(N, T, L, 3\) with N >= 1, got \[0,"),
        ({"clips": CLIPS[..., :2]}, ValueError, r"clips: expected \(\.\.\., L, 3\), got \[6, 2, 5"),
        ({"clips": CLIPS.int()}, TypeError, "clips: expected float32 or float64, got Int"),
        ({"clips": nan_at(CLIPS)}, ValueError, "clips: expected finite .* nan in sample 1"),
        ({"baseline": BASELINE[:1]}, ValueError, r"baseline: expected \[2, 5, 3\], got \[1, 5"),
        ({"baseline": BASELINE[None]}, ValueError, r"baseline: expected \[2, 5, 3\], got \[1, 2"),
        ({"baseline": BASELINE.double()}, TypeError, "baseline: expected Float"),
        ({"baseline": nan_at(BASELINE)}, ValueError, "baseline: expected finite"),
        ({"kept": KEPT[0]}, ValueError, r"kept: expected \(S, 5\), got \[5\]"),
        ({"kept": KEPT[:, :4]}, ValueError, r"kept: expected \(S, 5\), got \[1, 4\]"),
        ({"kept": KEPT.float()}, TypeError, "kept: expected bool, got Float"),
    ],
)
def test_masked_scores_say_what_they_take(change, error, message, total):
    given = {"clips": CLIPS, "baseline": BASELINE, "kept": KEPT} | change
    with pytest.raises(error, match=f"^{message}") as caught:
        _core.masked_scores(total, given["clips"], baseline=given["baseline"], kept=given["kept"])
    assert "\n" not in str(caught.value)
