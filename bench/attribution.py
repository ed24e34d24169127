"""Attribution against Captum: speed at equal nodes and to a tolerance, latency, bound and memory.

Both sides run in one process with the same number of threads and explain the same clips from the
same baseline; their runs alternate. Captum gets the module as it is and, per model, the fastest of
several ``internal_batch_size``; fastexai gets the same module, scripted. Run it on an otherwise idle
machine::

    python bench/attribution.py
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import captum.attr
import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

import fastexai as fx
from fastexai import mesh
from machine import RESULTS, machine, write_json

FRAMES, INPUTS = 20, 3 * mesh.LANDMARKS
NODES = 50
TOLERANCE = 1e-3
BATCH_SIZES = (None, 32, 64, 256, 1024)
#: Seconds that one timed run lasts at least: a short call is repeated, as a data set would.
LEAST_SECONDS = 0.2
#: Of the largest |attribution|. Both sides add thousands of float32 gradients, in different orders,
#: and Captum's quadrature weights are float32: a few units of 6e-8 each, with room for cancellation.
AGREEMENT = 1e-5

Row = dict[str, Any]


class Recurrent(nn.Module):
    """A recurrent network over frames, mean over time, linear readout."""

    def __init__(self, rnn: nn.Module, width: int) -> None:
        super().__init__()
        self.rnn = rnn
        self.readout = nn.Linear(width, 1)

    def forward(self, clips: Tensor) -> Tensor:
        """Return one logit per clip: (N, T, L, 3) to (N,)."""
        steps, _ = self.rnn(clips.flatten(2))
        return self.readout(steps.mean(1)).squeeze(-1)


class Convolution(nn.Module):
    """Two convolutions over time, mean over time, linear readout."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        first, second = (nn.Conv1d(n, 64, 3, padding=1) for n in (INPUTS, 64))
        self.body = nn.Sequential(first, activation, second, activation)
        self.readout = nn.Linear(64, 1)

    def forward(self, clips: Tensor) -> Tensor:
        """Return one logit per clip: (N, T, L, 3) to (N,)."""
        steps = self.body(clips.flatten(2).transpose(1, 2))
        return self.readout(steps.mean(2)).squeeze(-1)


class PerFrame(nn.Module):
    """The same layers for every frame, mean over time."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, clips: Tensor) -> Tensor:
        """Return one logit per clip: (N, T, L, 3) to (N,)."""
        return self.body(clips.flatten(2)).mean(1).squeeze(-1)


class OneHidden(nn.Module):
    """Affine, tanh, affine."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(FRAMES * INPUTS, hidden), nn.Tanh(), nn.Linear(hidden, 1)
        )

    def forward(self, clips: Tensor) -> Tensor:
        """Return one logit per clip: (N, T, L, 3) to (N,)."""
        return self.body(clips).squeeze(-1)


class Squared(nn.Module):
    """A network whose first step is not affine."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, clips: Tensor) -> Tensor:
        """Return one logit per clip: (N, T, L, 3) to (N,)."""
        return self.body(clips * clips)


class Shifted(nn.Module):
    """A network behind an affine map of every input."""

    def __init__(self, body: nn.Module, center: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)

    def forward(self, clips: Tensor) -> Tensor:
        """Return one logit per clip: (N, T, L, 3) to (N,)."""
        return self.body((clips - self.center) * self.scale)


def standardized(body: nn.Module, clips: Tensor) -> nn.Module:
    """Scale every input to mean 0 and variance 1."""
    return Shifted(body, clips.mean((0, 1)), 1 / clips.std((0, 1)))


def centered(body: nn.Module, clips: Tensor) -> nn.Module:
    """Take the mean face away; distances stay in units between the eyes."""
    return Shifted(body, clips.mean((0, 1)), torch.ones(()))


def bilstm(hidden: int) -> nn.Module:
    """Return a bidirectional LSTM of so many units per direction."""
    rnn = nn.LSTM(INPUTS, hidden, bidirectional=True, batch_first=True)
    return Recurrent(rnn, 2 * hidden)


def dense(activation: nn.Module) -> nn.Module:
    """Return 1404-64-64-1 for every frame."""
    first, second = nn.Linear(INPUTS, 64), nn.Linear(64, 64)
    return PerFrame(nn.Sequential(first, activation, second, activation, nn.Linear(64, 1)))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "Conv1d(64) x 2, ReLU": lambda: Convolution(nn.ReLU()),
    "BiLSTM, hidden 32": partial(bilstm, 32),
    "BiLSTM, hidden 64": partial(bilstm, 64),
    "BiLSTM, hidden 128": partial(bilstm, 128),
    "GRU, 2 layers, hidden 64": lambda: Recurrent(
        nn.GRU(INPUTS, 64, num_layers=2, batch_first=True), 64
    ),
    "MLP per frame, tanh": lambda: dense(nn.Tanh()),
    "MLP per frame, ReLU": lambda: dense(nn.ReLU()),
    "one hidden layer, tanh": partial(OneHidden, 64),
    "x², then Conv1d(64) x 2": lambda: Squared(Convolution(nn.Tanh())),
}


def trained(
    make: Callable[[], nn.Module],
    prepare: Callable[[nn.Module, Tensor], nn.Module],
    clips: fx.ClipSet,
    *,
    epochs: int = 12,
) -> nn.Module:
    """Fit a network by gradient descent, happiness against the rest."""
    X, y = torch.from_numpy(clips.X), torch.from_numpy(clips.labels == "happiness").float()
    torch.manual_seed(0)
    model = prepare(make(), X)
    loss = nn.BCEWithLogitsLoss(pos_weight=(1 - y.mean()) / y.mean())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(X)).split(32):
            optimizer.zero_grad()
            loss(model(X[batch]), y[batch]).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


def classifier(architecture: str, hidden: int, clips: fx.ClipSet) -> nn.Module:
    """Fit one of the package's own."""
    network: nn.Module = (
        fx.EmotionClassifier("happiness", architecture, hidden=hidden).fit(clips).network_
    )
    return network


#: The package's own classifiers, whose first layer projects to principal components.
OWN = (("bilstm", 64), ("bilstm", 128), ("randomized_bilstm", 64))

#: The same networks on inputs prepared in two ways. Standardised, where trembling counts as much as
#: smiling, they become steep; on other clips three of the four are no better for it.
TRAINED: dict[str, Callable[[fx.ClipSet], nn.Module]] = {
    f"{name}, {prepare.__name__}": partial(trained, make, prepare)
    for prepare in (centered, standardized)
    for name, make in (
        ("BiLSTM, hidden 64", partial(bilstm, 64)),
        ("BiLSTM, hidden 128", partial(bilstm, 128)),
        ("Conv1d(64) x 2, tanh", lambda: Convolution(nn.Tanh())),
        ("MLP per frame, ReLU", lambda: dense(nn.ReLU())),
    )
} | {
    f"EmotionClassifier, {architecture}, hidden {hidden}": partial(classifier, architecture, hidden)
    for architecture, hidden in OWN
}

#: Of a closed form: as many clips as make its call worth a measurement.
MANY_CLIPS = 256

#: Hidden units of networks that have a closed form.
CLOSED_FORM = (16, 64, 256)


@dataclass(frozen=True)
class Settings:
    """What the command line chose, and the clips that sections explain."""

    repeats: int
    inputs: Tensor
    many: Tensor
    baseline: Tensor


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated runs."""

    seconds: list[float]

    @property
    def median(self) -> float:
        """Their median."""
        return float(np.median(self.seconds))

    def rate(self, count: int) -> Row:
        """Return things per second: the median, and the quartiles of the runs."""
        quartiles = [count / s for s in np.quantile(self.seconds, [0.75, 0.25])]
        return {"median": count / self.median, "quartiles": quartiles}


def built(make: Callable[[], nn.Module]) -> nn.Module:
    """Draw a model, the same in every run, and freeze it."""
    torch.manual_seed(0)
    return make().eval().requires_grad_(False)


def seconds(run: Callable[[], object], least: float = LEAST_SECONDS) -> float:
    """Time a call: the mean of as many as fill so many seconds, of one at least."""
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < least:
        run()
        calls += 1
    return (time.perf_counter() - start) / calls


def alternate(repeats: int, *runs: Callable[[], object]) -> list[Timing]:
    """Time runs in turns, A B A B, so that a slow spell of the machine meets all of them."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, own in zip(runs, times, strict=True):
            own.append(seconds(run))
    return [Timing(own) for own in times]


def captum_run(model: nn.Module, inputs: Tensor, baseline: Tensor) -> tuple[Callable, int | None]:
    """Return Captum's call with its fastest batch size, and that size in rows; None: all at once."""
    ig = captum.attr.IntegratedGradients(model)

    def run(size: int | None) -> Tensor:
        return ig.attribute(inputs, baseline, n_steps=NODES, internal_batch_size=size)

    run(64)  # warm-up
    rows = NODES * len(inputs)
    best = min(
        (s for s in BATCH_SIZES if s is None or s < rows), key=lambda s: seconds(partial(run, s))
    )
    return partial(run, best), best


def disagreement(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference over the largest |attribution|."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def captum_in_double(model: nn.Module, inputs: Tensor, baseline: Tensor) -> Tensor:
    """Return Captum's attributions in float64: in float32 a node may be on the wrong side of a kink."""
    ig = captum.attr.IntegratedGradients(copy.deepcopy(model).double())
    return ig.attribute(inputs.double(), baseline.double(), n_steps=NODES, internal_batch_size=64)


def compared(
    repeats: int, theirs: Callable[[], object], ours: Callable[[], object], clips: int
) -> Row:
    """Time both sides in turns."""
    captum_times, our_times = alternate(repeats, theirs, ours)
    return {
        "captum_clips_per_second": captum_times.rate(clips),
        "fastexai_clips_per_second": our_times.rate(clips),
        "ratio": captum_times.median / our_times.median,
    }


def same_nodes(settings: Settings, name: str, inputs: Tensor) -> Row:
    """Compare one untrained model at the same Gauss-Legendre nodes; check, then time."""
    model = built(MODELS[name])
    theirs, batch = captum_run(model, inputs, settings.baseline)
    ig = fx.IntegratedGradients(model)
    ours = partial(fx.integrated_gradients, ig, inputs, settings.baseline, n_steps=NODES)
    difference = disagreement(ours().values, captum_in_double(model, inputs, settings.baseline))
    print(f"{name}: differs from Captum by {difference:.1e} of the largest attribution", flush=True)
    assert difference <= AGREEMENT, (name, difference)
    return {
        "model": name,
        "difference": difference,
        "captum_batch_rows": batch,
        **compared(settings.repeats, theirs, ours, len(inputs)),
    }


def section_nodes(settings: Settings) -> list[Row]:
    """Compare all models at the same 50 nodes."""
    return [same_nodes(settings, name, settings.inputs) for name in MODELS]


def section_latency(settings: Settings) -> list[Row]:
    """Compare on a single clip."""
    return [same_nodes(settings, "BiLSTM, hidden 64", settings.inputs[:1])]


def completeness(model: nn.Module, values: Tensor, settings: Settings) -> Tensor:
    """Return |sum of attributions - (F(x) - F(b))| / |F(x) - F(b)| of every clip."""
    change = (model(settings.inputs) - model(settings.baseline)).double()
    return ((values.double().flatten(1).sum(1) - change) / change).abs()


def to_tolerance(settings: Settings, name: str) -> Row:
    """Compare one trained model: fastexai to a tolerance, Captum with its 50 nodes."""
    clips, others = (
        fx.datasets.simulate_expressions(320, seed=seed, difficulty=0.5) for seed in (1, 2)
    )
    model = TRAINED[name](clips)
    with torch.no_grad():
        seen = model(torch.from_numpy(others.X)).numpy() > 0
    accuracy = float(balanced_accuracy_score(others.labels == "happiness", seen))
    theirs, batch = captum_run(model, settings.inputs, settings.baseline)
    ig = fx.IntegratedGradients(model)
    ours = partial(fx.integrated_gradients, ig, settings.inputs, settings.baseline, tol=TOLERANCE)
    warnings.filterwarnings("ignore", message=".*have not converged", category=RuntimeWarning)
    result = ours()
    errors = [completeness(model, v, settings) for v in (theirs(), result.values)]
    shares = [float((error <= TOLERANCE).float().mean()) for error in errors]
    print(f"{name}: {accuracy:.0%} right on others; below {TOLERANCE:g}: {shares}", flush=True)
    return {
        "model": name,
        "balanced_accuracy": accuracy,
        "captum_batch_rows": batch,
        **compared(settings.repeats, theirs, ours, len(settings.inputs)),
        **{f"{who}_share_below": s for who, s in zip(("captum", "fastexai"), shares, strict=True)},
        **{
            f"{who}_worst": float(e.max())
            for who, e in zip(("captum", "fastexai"), errors, strict=True)
        },
        "fastexai_share_converged": float(result.converged.float().mean()),
        "nodes_median_and_most": [float(q) for q in np.quantile(result.nodes, [0.5, 1])],
    }


def section_tolerance(settings: Settings) -> list[Row]:
    """Compare trained models, to a tolerance."""
    return [to_tolerance(settings, name) for name in TRAINED]


def in_closed_form(settings: Settings, hidden: int) -> Row:
    """Compare a network of one hidden layer, which needs no nodes, with Captum at 50."""
    model = built(partial(OneHidden, hidden))
    theirs, batch = captum_run(model, settings.many, settings.baseline)
    ig = fx.IntegratedGradients(model)
    ours = partial(fx.integrated_gradients, ig, settings.many, settings.baseline)
    result = ours()
    assert not result.nodes.any()
    difference = disagreement(result.values, theirs())
    print(f"one hidden layer of {hidden}: differs from Captum by {difference:.1e}", flush=True)
    assert difference <= AGREEMENT, (hidden, difference)
    rate = sgemm_rate(settings.repeats)
    return {
        "hidden": hidden,
        "difference": difference,
        "captum_batch_rows": batch,
        **compared(settings.repeats, theirs, ours, len(settings.many)),
        # Two products with the input's weights: one to the hidden layer, one back.
        "bound_clips_per_second": rate / (2 * FRAMES * INPUTS * hidden),
    }


def section_closed_form(settings: Settings) -> list[Row]:
    """Compare networks that have a closed form."""
    return [in_closed_form(settings, hidden) for hidden in CLOSED_FORM]


def sgemm_rate(repeats: int, size: int = 2048) -> float:
    """Return this machine's multiply-adds per second, by the best product of large matrices."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    return size**3 / min(seconds(lambda: torch.mm(a, b), least=0) for _ in range(3 + repeats))


def needed_multiply_adds(clips: int, hidden: int = 64) -> float:
    """Count what a bidirectional LSTM's Integrated Gradients cannot do without, for all clips.

    The input's projection runs at every clip and once at their shared baseline, its transpose once
    per clip; the recurrence runs forward and backward at every node, and forward at both ends. It
    begins in a state of zero, which saves a step.
    """
    directions, gates = 2, 4 * hidden
    projection = directions * FRAMES * INPUTS * gates
    recurrence = directions * (FRAMES - 1) * hidden * gates
    per_clip = 2 * projection + (2 * NODES + 1) * recurrence
    return clips * per_clip + projection + recurrence


def section_bound(settings: Settings) -> list[Row]:
    """Measure how much of the time the arithmetic takes that must be done, at best speed."""
    ig = fx.IntegratedGradients(built(MODELS["BiLSTM, hidden 64"]))
    run = partial(fx.integrated_gradients, ig, settings.inputs, settings.baseline, n_steps=NODES)
    run()
    (times,) = alternate(settings.repeats, run)
    rate = sgemm_rate(settings.repeats)
    work = needed_multiply_adds(len(settings.inputs))
    return [
        {
            "model": "BiLSTM, hidden 64",
            "sgemm_gflops": 2e-9 * rate,
            "needed_gflop_per_clip": 2e-9 * work / len(settings.inputs),
            "bound_clips_per_second": len(settings.inputs) * rate / work,
            "fastexai_clips_per_second": times.rate(len(settings.inputs)),
            "share_of_bound": work / rate / times.median,
        }
    ]


def write_store(folder: Path, count: int) -> Path:
    """Write so many raw clips: the canonical face in pixels, trembling."""
    rng = np.random.default_rng(0)
    store = fx.LandmarkStore.create(folder / f"{count}.parquet")
    for i in range(count):
        landmarks = 90 * mesh.CANONICAL_FACE + rng.normal(size=(FRAMES, mesh.LANDMARKS, 3))
        times = np.arange(FRAMES) / 25
        store.append(
            fx.LandmarkClip(landmarks.astype(np.float32), times, 25.0, (640, 480), f"{i}.mp4")
        )
    return store.path


def peak_mb() -> float:
    """Return this process's peak resident memory in MB.

    Not ``getrusage``: its peak survives exec, so that a child would begin with its parent's.
    """
    (line,) = [s for s in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s]
    return int(line.split()[1]) * 1024 / 1e6


def peak_memory(store: str, model: str) -> float:
    """Explain a store in this process; return by how many MB its peak grew since the imports."""
    before = peak_mb()
    baselines = np.zeros((1, FRAMES, mesh.LANDMARKS, 3), np.float32)
    explanation = fx.explain_dataset(model, fx.LandmarkStore(store), baselines, n_steps=8)
    assert np.isfinite(explanation.relevance).all()
    return peak_mb() - before


def section_memory(settings: Settings, counts: tuple[int, int] = (1000, 10_000)) -> list[Row]:
    """Measure peak memory of streamed data sets, each in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        model = Path(name) / "model.pt"
        torch.jit.save(torch.jit.script(built(MODELS["BiLSTM, hidden 64"])), str(model))
        for count in counts:
            store = write_store(Path(name), count)
            command = [sys.executable, __file__, "--memory-of", str(store), str(model)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({"clips": count, "peak_growth_mb": float(done.stdout)})
            print(f"memory: {rows[-1]}", flush=True)
    growth = rows[1]["peak_growth_mb"] - rows[0]["peak_growth_mb"]
    rows[1]["kb_per_further_clip"] = 1e3 * growth / (counts[1] - counts[0])
    return rows


SECTIONS: dict[str, Callable[[Settings], list[Row]]] = {
    "nodes": section_nodes,
    "tolerance": section_tolerance,
    "closed_form": section_closed_form,
    "latency": section_latency,
    "bound": section_bound,
    "memory": section_memory,
}
TITLES = {
    "nodes": f"The same {NODES} Gauss-Legendre nodes",
    "tolerance": f"Trained models: fastexai with tol={TOLERANCE:g}, Captum with {NODES} nodes",
    "closed_form": f"One hidden layer, {MANY_CLIPS} clips: fastexai in closed form, Captum with {NODES}"
    " nodes",
    "latency": f"A single clip, {NODES} nodes",
    "bound": "Share of the arithmetic bound",
    "memory": "Peak memory of a streamed data set, above that of the imports",
}


def cell(value: Any) -> str:
    """Write a figure with as many digits as mean something."""
    if isinstance(value, dict):
        low, high = value["quartiles"]
        return f"{cell(value['median'])} ({cell(low)} to {cell(high)})"
    if isinstance(value, list):
        return " / ".join(map(cell, value))
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "all" if value is None else str(value)


def markdown(result: Row) -> str:
    """Turn the results into Markdown tables."""
    about = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    setting = (
        f"{about['cpu']}, {about['threads']} threads; Python {about['python']}, {versions}; "
        f"commit {about['commit']}. {result['clips']} clips of {FRAMES} frames; median (and "
        f"quartiles) of {result['repeats']} alternating runs."
    )
    lines = [setting]
    for section, rows in result["sections"].items():
        lines += ["", f"**{TITLES[section]}**", ""]
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines += ["| " + " | ".join(name.replace("_", " ") for name in names) + " |"]
        lines += ["| --- " * len(names) + "|"]
        lines += ["| " + " | ".join(cell(row.get(n, "")) for n in names) + " |" for row in rows]
        lines += [] if rows else ["(skipped)"]
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each side")
    parser.add_argument("--clips", type=int, default=32, help="clips to explain at a time")
    parser.add_argument("--only", choices=SECTIONS, help="one section; prints, writes no file")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write the JSON and the Markdown table."""
    options = arguments()
    if options.memory_of:
        print(peak_memory(*options.memory_of))
        return
    most = max(options.clips, MANY_CLIPS)
    clips = fx.datasets.simulate_expressions(most + 1, seed=0, difficulty=0.5)
    X = torch.from_numpy(clips.X)
    settings = Settings(
        options.repeats,
        inputs=X[1 : options.clips + 1].contiguous(),
        many=X[1:].contiguous(),
        baseline=X[:1].contiguous(),
    )
    chosen = [options.only] if options.only else list(SECTIONS)
    packages = ("fastexai", "torch", "captum", "numpy")
    result = {
        "clips": options.clips,
        "repeats": options.repeats,
        "machine": machine(packages) | {"threads": torch.get_num_threads()},
        "sections": {name: SECTIONS[name](settings) for name in chosen},
    }
    table = markdown(result)
    print(f"\n{table}")
    if not options.only:
        write_json("attribution", result)
        (RESULTS / "attribution.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
