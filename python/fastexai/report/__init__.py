"""One self-contained HTML page about explanations and pruning paths."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from fastexai.aside import written_aside
from fastexai.explanation import DatasetExplanation
from fastexai.pruning import PruningPath
from fastexai.report.finding import Finding, pair
from fastexai.report.payload import PLAYED_INSTANTS, embed, payload
from fastexai.report.prose import (
    comparison,
    completeness,
    confusion,
    control_note,
    provenance,
    sentence,
    stability,
    tables,
)

__all__ = ["report"]


def report(
    results: Iterable[DatasetExplanation | PruningPath],
    path: str | os.PathLike[str],
    *,
    title: str = "Which landmarks recognise an emotion",
) -> Path:
    """Write a page that shows what the models look at and how few landmarks are enough.

    The page opens from disk and asks the network for nothing. Labels are text, whatever they hold.

    Parameters
    ----------
    results : iterable of DatasetExplanation and PruningPath
        In any order; the two of one ``emotion`` share a section. At least one explanation.
    path : path-like
        The HTML file; it appears whole or not at all.
    title : str
        The page's heading.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    TypeError
        If a result is neither, or ``title`` is not a string.
    ValueError
        If there is no explanation, two results of one kind share an emotion, an explanation is
        not of 468 landmarks or not finite, or ``path`` is a directory.
    """
    if not isinstance(title, str):
        raise TypeError(f"title: expected a string, got {type(title).__name__}")
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"path: expected a file to write, got the directory {path}")
    page = _page(pair(results), title)
    with written_aside(path) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def _page(findings: Sequence[Finding], title: str) -> str:
    return _fill(
        "page.html",
        title=escape(title),
        style=_asset("palette.css") + _asset("page.css"),
        question=_question(findings),
        answers="".join(_answer(index, finding) for index, finding in enumerate(findings)),
        comparison=comparison(findings),
        sections="".join(_section(index, finding) for index, finding in enumerate(findings)),
        provenance=provenance(findings),
        plotly=get_plotlyjs(),
        data=embed(payload(findings)),
        script=_asset("page.js"),
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _question(findings: Sequence[Finding]) -> str:
    clips = max(len(f.explanation.output) for f in findings if f.explanation is not None)
    text = f"Which of the face's 468 landmarks do the classifiers rely on, over {clips} clips"
    if any(finding.path is not None for finding in findings):
        text += ", and how few are enough to recognise the emotion on people they have never seen"
    return f"{text}?"


def _answer(index: int, finding: Finding) -> str:
    """Return the emotion's card: a face drawn by the script, and the sentence."""
    face = "" if finding.explanation is None else f'<div class="still" data-face="{index}"></div>'
    name = escape(finding.name)
    return (
        f'<li><a class="card" href="#emotion-{index}" aria-label="{name}: go to its section">'
        f"{face}</a><p>{sentence(finding)}</p></li>"
    )


def _section(index: int, finding: Finding) -> str:
    name = escape(finding.name)
    pruned = ""
    if finding.best is not None:
        pruned = _fill(
            "pruned.html",
            name=name,
            note=control_note(finding.best),
            best=finding.best.landmarks,
            confusion=confusion(finding),
            stability=stability(finding),
        )
    if finding.explanation is not None:
        figures = _fill(
            "explained.html",
            index=index,
            name=name,
            last=min(len(finding.explanation.expression), PLAYED_INSTANTS) - 1,
            kept=" hidden" if finding.kept is None else "",
            pruned=pruned,
            completeness=completeness(finding.explanation),
        )
    else:
        figures = f'<div class="grid">{pruned}</div>'
    return _fill(
        "section.html",
        index=index,
        name=name,
        sentence=sentence(finding),
        figures=figures,
        tables=tables(finding),
    )


def _fill(asset: str, /, **parts: object) -> str:
    """Fill a fragment of the page; the parts are HTML already."""
    return Template(_asset(asset)).substitute(parts)
