"""The page's words and tables: everything that can be read without a figure."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import version

import numpy as np

from fastexai import mesh
from fastexai.explanation import DatasetExplanation
from fastexai.report.finding import Finding, Score, region_sums, share

__all__ = ["comparison", "completeness", "control_note", "provenance", "sentence", "tables"]

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
    doubtful = not best.chosen - 2 * np.nan_to_num(best.chosen_se) > 0.5
    text = (
        f"{name} is {'hardly ' if doubtful else ''}recognised from {best.landmarks}\u00a0of\u00a0468 landmarks: balanced accuracy "
        f"{_score(best.chosen, best.chosen_se)}"
    )
    if all_.landmarks > best.landmarks:
        text += f", was {_score(all_.chosen, all_.chosen_se)} with {_count(all_.landmarks)}"
    if math.isfinite(best.random) and best.landmarks < mesh.LANDMARKS:
        text += f" and is {_score(best.random)} with {best.landmarks} random ones"
    return f"{text}; relevance lies on {parts}." if parts else f"{text}."


def control_note(best: Score) -> str:
    """Say plainly whether the chosen landmarks beat chance."""
    if best.landmarks >= mesh.LANDMARKS:
        return "No smaller set reached the score of all landmarks within one standard error."
    if not math.isfinite(best.random):
        return "No random control was drawn: whether the choice matters is unknown."
    gain = best.chosen - best.random
    error = np.hypot(best.chosen_se, best.random_se)
    if not math.isfinite(error):
        return f"Chosen minus random: {gain:+.3f}; one fold gives no standard error."
    verdict = (
        "the choice of landmarks helps"
        if gain > 2 * error
        else "random landmarks do better"
        if gain < -2 * error
        else "this is no evidence that the choice matters at this size"
    )
    return (
        f"Chosen minus random at {best.landmarks} landmarks: "
        f"{gain:+.3f}\u00a0±\u00a0{error:.3f} (standard error); {verdict}."
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
        "The emotions side by side. ± is one standard error over folds.",
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
            _score(best.chosen, best.chosen_se),
            _score(all_.chosen, all_.chosen_se) if all_.landmarks == mesh.LANDMARKS else _NONE,
            _score(best.random, best.random_se),
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
            _score(s.chosen, s.chosen_se),
            _score(s.random, s.random_se),
            _score(s.masked),
        ]
        for s in finding.scores
    ]
    header = ("Landmarks", "Chosen by relevance", "Random control", "Full model, masked")
    return _table("Balanced accuracy on unseen people; ± is one standard error.", header, rows)


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
    sizes, folds, random = _pruning_options(finding)
    return (
        f"sizes {', '.join(map(str, sizes))}; {folds} subject-independent folds; "
        f"{random} random subsets per fold and size; smallest size within one standard error: "
        f"{finding.path.best}"
    )


def _pruning_options(finding: Finding) -> tuple[tuple[int, ...], int, int]:
    """Sizes, folds, and random subsets per fold and size, as the path's own tables show them."""
    assert finding.path is not None
    folds = finding.path.folds
    count = int(folds["fold"].nunique())
    sizes = tuple(int(size) for size in finding.path.table["landmarks"])
    drawn = int((folds["choice"] == "random").sum())
    return sizes, count, round(drawn / max(count * len(sizes), 1))


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
            sizes, folds, random = _pruning_options(finding)
            options = f"sizes={sizes}, folds={folds}, random_subsets={random}"
            lines.append(f"results.append(fx.prune(clf, clips, {options}))")
    return "\n".join([*lines, 'fx.report(results, "report.html")'])


def _score(value: float, error: float = math.nan) -> str:
    if not math.isfinite(value):
        return _NONE
    text = f"{value:.3f}"
    return f"{text}\u00a0±\u00a0{error:.3f}" if math.isfinite(error) else text


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
