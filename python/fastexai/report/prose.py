"""The page's words and tables: everything that can be read without a figure."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import version
from inspect import signature

import numpy as np

from fastexai import mesh
from fastexai.explanation import DatasetExplanation
from fastexai.metrics import Interval
from fastexai.pruning import prune
from fastexai.report.finding import Finding, Score, region_sums, share

__all__ = [
    "comparison",
    "completeness",
    "confusion",
    "control_note",
    "provenance",
    "sentence",
    "tables",
]

_NONE = "\u2013"  # a dash where there is no figure
_TOP_PARTS = 3
_TOP_LANDMARKS = 24


def sentence(finding: Finding) -> str:
    """Answer for one emotion in one sentence of HTML."""
    name = f"<strong>{escape(finding.name)}</strong>"
    parts = ", ".join(
        f"{part} {_percent(value)}" for part, value in finding.part_shares()[:_TOP_PARTS]
    )
    best = finding.best
    if best is None:
        return f"{name}: the model's relevance lies on {parts}."
    all_ = finding.scores[0]
    doubtful = not (best.chosen.value > 0.5 and best.chosen.low > 0.5)
    text = (
        f"{name} is {'hardly ' if doubtful else ''}recognised from {best.landmarks}\u00a0of\u00a0468 landmarks: balanced accuracy "
        f"{_score(best.chosen)}"
    )
    if all_.landmarks > best.landmarks:
        text += f", was {_score(all_.chosen.value)} with {_count(all_.landmarks)}"
    if math.isfinite(best.random.value) and best.landmarks < mesh.LANDMARKS:
        text += f" and is {_score(best.random.value)} with {best.landmarks} random ones"
    return f"{text}; relevance lies on {parts}." if parts else f"{text}."


def control_note(best: Score) -> str:
    """Say plainly whether the chosen landmarks beat chance."""
    if best.landmarks >= mesh.LANDMARKS:
        return "No smaller set reached the score of all landmarks within one standard error."
    gain = best.gain
    if not math.isfinite(gain.value):
        return "No random control was drawn: whether the choice matters is unknown."
    verdict = (
        "the choice of landmarks helps"
        if gain.low > 0
        else "random landmarks do better"
        if gain.high < 0
        else "this is no evidence that the choice matters at this size"
    )
    return (
        f"Chosen minus random at {best.landmarks} landmarks: {gain.value:+.3f} "
        f"[{gain.low:+.3f}, {gain.high:+.3f}], a paired 95\u00a0% interval over subjects; {verdict}."
    )


def stability(finding: Finding) -> str:
    """Say whether folds agree on what to keep."""
    assert finding.path is not None
    table = finding.path.table.set_index("landmarks")
    index = float(table["kuncheva_index"].get(finding.path.best, math.nan))
    if not math.isfinite(index):
        return ""
    return (
        f"Folds agree on the landmarks to keep with Kuncheva\u2019s index {index:.2f} (1: always the same, "
        f"0: by chance), and on the ranking of all with Spearman\u2019s correlation "
        f"{finding.path.rank_correlation:.2f}."
    )


def confusion(finding: Finding) -> str:
    """Count right and wrong answers in words."""
    positive, logits = finding.answers()
    yes = logits > 0
    return (
        f"Of {positive.sum()} clips that show the emotion, {(yes & positive).sum()} were recognised; "
        f"of the {(~positive).sum()} others, {(yes & ~positive).sum()} were taken for it."
    )


def completeness(explanation: DatasetExplanation) -> str:
    """Say how exactly the attributions of a clip add up, and against what that is large."""
    error = explanation.completeness_error
    return (
        f"Sum of a clip's attributions against the change of the model's output, worst baseline: "
        f"half of the {len(error)} clips are within {np.median(error):.1e}, all within "
        f"{error.max():.1e} logits. The output itself lies between {explanation.output.min():.1f} "
        f"and {explanation.output.max():.1f}."
    )


def comparison(findings: Sequence[Finding]) -> str:
    """Return the table that sets the emotions side by side."""
    header = (
        "Emotion",
        "Landmarks",
        "Balanced accuracy",
        "With all",
        "Random control",
        "Most relevant parts",
        "Clips",
        "Model says yes",
        "Completeness error, median",
        "largest",
    )
    return _table(
        "The emotions side by side. In brackets: 95\u00a0% intervals over subjects.",
        header,
        [_comparison_row(index, finding) for index, finding in enumerate(findings)],
        wide=True,
    )


def _comparison_row(index: int, finding: Finding) -> list[str]:
    best, explanation = finding.best, finding.explanation
    row = [f'<a href="#emotion-{index}">{escape(finding.name)}</a>']
    if best is None:
        row += [_NONE] * 4
    else:
        all_ = finding.scores[0]
        row += [
            f"{best.landmarks}",
            _score(best.chosen),
            _score(all_.chosen) if all_.landmarks == mesh.LANDMARKS else _NONE,
            _score(best.random),
        ]
    if explanation is None:
        return row + [_NONE] * 5
    parts = ", ".join(f"{part} {_percent(value)}" for part, value in finding.part_shares()[:2])
    error = explanation.completeness_error
    return [
        *row,
        parts,
        f"{len(explanation.output)}",
        f"{int((explanation.output > 0).sum())}",
        f"{np.median(error):.1e}",
        f"{error.max():.1e}",
    ]


def tables(finding: Finding) -> str:
    """Return one emotion's figures as tables, folded away until wanted."""
    blocks = []
    if finding.explanation is not None:
        blocks.append(_details("Regions as a table", _region_table(finding.explanation)))
        blocks.append(_details("Most relevant landmarks", _landmark_table(finding)))
    if finding.scores:
        blocks.append(_details("Pruning path as a table", _score_table(finding)))
    return "".join(blocks)


def _region_table(explanation: DatasetExplanation) -> str:
    shares = region_sums(share(explanation.relevance))
    signed = region_sums(explanation.contrast.sum((0, 2)))
    sizes = region_sums(np.ones(mesh.LANDMARKS))
    rows = [
        [name, _percent(shares[i], 1), _percent(sizes[i] / mesh.LANDMARKS, 1), f"{signed[i]:+.3g}"]
        for i, name in sorted(enumerate(mesh.REGIONS), key=lambda item: -shares[item[0]])
    ]
    header = ("Region", "Relevance", "Share of landmarks", "Signed attribution")
    return _table("Relevance by region; signed attributions are in logits.", header, rows)


def _landmark_table(finding: Finding) -> str:
    explanation = finding.explanation
    assert explanation is not None
    shares = share(explanation.relevance)
    kept = set() if finding.kept is None else set(finding.kept.tolist())
    rows = [
        [
            f"{i}",
            mesh.name(i),
            mesh.region(i),
            _percent(shares[i], 2),
            "yes" if i in kept else "no" if kept else _NONE,
        ]
        for i in explanation.ranking[:_TOP_LANDMARKS]
    ]
    header = ("Landmark", "Name", "Region", "Relevance", "Kept")
    return _table(f"The {_TOP_LANDMARKS} most relevant landmarks.", header, rows)


def _score_table(finding: Finding) -> str:
    rows = [
        [
            f"{s.landmarks}",
            _score(s.chosen),
            _score(s.random),
            _score(s.gain),
            _score(s.anchor),
            _score(s.masked),
        ]
        for s in finding.scores
    ]
    header = ("Landmarks", "Chosen", "Random control", "Gain", "Logistic regression", "Masked")
    caption = "Balanced accuracy on unseen people, with 95\u00a0% intervals over subjects."
    return _table(caption, header, rows)


def provenance(findings: Sequence[Finding]) -> str:
    """Return versions, counts, options, and the calls that reproduce the page."""
    rows = [[escape(f.name), _explained(f), _pruned(f)] for f in findings]
    packages = ("fastexai", "torch", "numpy", "scikit-learn", "plotly")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        _table(
            "Data and options of every result.", ("Emotion", "Explanation", "Pruning path"), rows
        )
        + f"<p>Written by {escape(versions)}; Python {platform.python_version()}.</p>"
        + f"<pre><code>{escape(_recipe(findings))}</code></pre>"
    )


def _explained(finding: Finding) -> str:
    e = finding.explanation
    if e is None:
        return _NONE
    seen = int((e.output > 0).sum())
    return (
        f"{len(e.output)} clips of {e.mean.shape[0]} frames &times; {e.mean.shape[1]} landmarks &times; 3 "
        f"coordinates; the model sees the emotion in {seen}; {len(e.baselines)} baselines; "
        f"{e.quadrature} per path"
    )


def _pruned(finding: Finding) -> str:
    if finding.path is None:
        return _NONE
    options = ", ".join(f"{name} {value}" for name, value in finding.path.options.items())
    nested = finding.path.nested
    text = f"{escape(options)}. Smallest size within one standard error: {finding.path.best}. "
    if math.isfinite(nested.value):
        text += f"Balanced accuracy with the size chosen in inner folds: {_score(nested)}. "
    return (
        f"{text}Rank correlation of relevance between folds: {finding.path.rank_correlation:.2f}."
    )


def _recipe(findings: Sequence[Finding]) -> str:
    lines = ["import fastexai as fx", "", "results = []"]
    for finding in findings:
        lines.append(
            f"# {' '.join(finding.name.split())}: clf is its classifier, clips its data set"
        )
        if finding.explanation is not None:
            e = finding.explanation
            rule = f"n_steps={e.n_steps}" if e.tol is None else f"tol={e.tol:g}"
            options = f"baselines, {rule}"
            lines.append(f"results.append(fx.explain_dataset(model, clips, {options}))")
        if finding.path is not None:
            known = signature(prune).parameters
            options = ", ".join(f"{k}={v!r}" for k, v in finding.path.options.items() if k in known)
            lines.append(f"results.append(fx.prune(clf, clips, {options}))")
    return "\n".join([*lines, 'fx.report(results, "report.html")'])


def _score(value: float | Interval) -> str:
    """Write a figure, and its interval if it has one."""
    if not isinstance(value, Interval):
        return f"{value:.3f}" if math.isfinite(value) else _NONE
    text = _score(value.value)
    return f"{text} [{value.low:.3f}, {value.high:.3f}]" if math.isfinite(value.low) else text


def _count(landmarks: int) -> str:
    return "all" if landmarks == mesh.LANDMARKS else f"{landmarks}"


def _percent(fraction: float, digits: int = 0) -> str:
    return f"{100 * fraction:.{digits}f}\u00a0%"


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>{content}</details>"


def _table(
    caption: str, header: Iterable[str], rows: Iterable[Sequence[str]], *, wide: bool = False
) -> str:
    """Cells are HTML: the caller escapes what users named."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    kind = ' class="wide"' if wide else ""
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table">'
        f"<table{kind}><caption>{caption}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
