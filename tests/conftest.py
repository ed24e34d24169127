"""Fixtures that several test modules share, and how many examples the property tests draw."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading

import numpy as np
import pytest
import torch
from hypothesis import settings

import fastexai as fx

# "ci" draws the same few examples every time: a red build is then about the change, never about
# luck. "thorough" draws many new ones, to look for what nobody has thought of.
settings.register_profile("ci", max_examples=15, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=300, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _global_state_as_it_was():
    """No test may depend on the seeds or the number of threads that another one has left."""
    python, numpy, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard():
    """A process started in the background of a script inherits that SIGINT is ignored."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def clips():
    """Half happy, half neutral, and easy to tell apart; 16 people."""
    return fx.datasets.simulate_expressions(160, emotions=("happiness",), seed=0, difficulty=0.2)


@pytest.fixture(scope="session")
def unseen_clips():
    """As `clips`, but of other people."""
    return fx.datasets.simulate_expressions(160, emotions=("happiness",), seed=1, difficulty=0.2)


@pytest.fixture(scope="session")
def few_clips(clips):
    """A tenth of the frames and landmarks of `clips`: small enough for many fits."""
    chosen = np.flatnonzero(clips.relevant["happiness"])[::12][:12]
    others = np.flatnonzero(~clips.relevant["happiness"])[::20][:12]
    X = clips.X[:, ::3][:, :, np.concatenate([chosen, others])]
    return fx.ClipSet(np.ascontiguousarray(X), clips.labels, clips.subjects, clips.ids)


@pytest.fixture(scope="session")
def randomized(clips):
    return fx.EmotionClassifier("happiness", "randomized_bilstm").fit(clips)


@pytest.fixture(scope="session")
def bilstm(clips):
    return fx.EmotionClassifier("happiness", hidden=16, max_epochs=25, lr=5e-3).fit(clips)


@pytest.fixture(scope="session")
def exported(randomized, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "happiness.pt"
    randomized.export(path)
    return path


@pytest.fixture(scope="session")
def exported_bilstm(bilstm, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "happiness_bilstm.pt"
    bilstm.export(path)
    return path


@pytest.fixture(scope="session")
def browser():
    """Debian's chromium, driven by Playwright; one for all tests."""
    playwright = pytest.importorskip("playwright.sync_api")
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("no chromium")
    with playwright.sync_playwright() as driver:
        # No sandbox: it needs rights that root in a container lacks. SwiftShader: WebGL without a GPU.
        arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()
