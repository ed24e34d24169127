"""What the README shows runs, and the commands that it names exist."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

from fastexai.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    names = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 (our own words)
    assert len(eval(capsys.readouterr().out)) == 5  # the names of five landmarks
    assert names["path"].table["landmarks"].tolist() == [468, 32]


def test_the_commands_exist():
    named = {name for block in blocks("sh") for name in re.findall(r"fastexai (\w+)", block)}
    known = {command.callback.__name__ for command in app.registered_commands}
    assert named == known


def test_its_pictures_are_there():
    for link in re.findall(r"!\[[^]]*\]\(([^)]*)\)", README):
        assert (Path(__file__).parents[1] / link).is_file(), link
