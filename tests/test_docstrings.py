"""What the docstrings show runs, and what the public functions take is explained."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

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


@pytest.mark.parametrize("name", PUBLIC)
def test_every_parameter_of_a_public_name_is_explained(name):
    thing = getattr(fx, name)
    text = inspect.getdoc(thing)
    assert text, name
    taken = inspect.signature(thing).parameters.values()
    for parameter in taken:
        word = parameter.name.strip("_")
        assert word in text, f"{name} does not explain {parameter.name}"
