"""What the docstrings show runs, and what the public functions take is explained."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import fastexai as fx

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(fx.__path__, "fastexai.")
    if not module.name.rpartition(".")[2].startswith("_")
)
PUBLIC = sorted(name for name in fx.__all__ if callable(getattr(fx, name)))


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where examples may write
    failed, _ = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert failed == 0


def explanation(thing):
    """The docstring, with that of a function whose parameters it takes over, and fields' comments."""
    text = inspect.getdoc(thing) or ""
    for other in re.findall(r"are those of `(\w+)`", text):
        text += inspect.getdoc(getattr(fx, other))
    if inspect.isclass(thing):
        source = inspect.getsource(thing)
        text += " ".join(re.findall(r"(\w+): [^\n]*#:", source))
        text += " ".join(re.findall(r"#: [^\n]*\n\s+(\w+):", source))
    return text


@pytest.mark.parametrize("name", PUBLIC)
def test_every_parameter_of_a_public_name_is_explained(name):
    thing = getattr(fx, name)
    text = explanation(thing)
    taken = [parameter.strip("_") for parameter in inspect.signature(thing).parameters]
    assert len(text) > 40
    assert [word for word in taken if not re.search(rf"\b{word}\b", text)] == []
