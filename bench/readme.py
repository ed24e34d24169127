"""Put the measured figures into the README, between its markers; nobody types them by hand.

python bench/readme.py
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from machine import RESULTS, ROOT

BEGIN, END = "<!-- figures: python bench/readme.py -->", "<!-- end of figures -->"


def nodes_table(result: dict[str, Any]) -> str:
    """Return the comparison at equal nodes."""
    rows = ["| model | Captum, clips/s | fastexai, clips/s | ratio |", "|---|---|---|---|"]
    for row in result["sections"]["nodes"]:
        theirs, ours = (
            row[f"{side}_clips_per_second"]["median"] for side in ("captum", "fastexai")
        )
        rows.append(f"| {row['model']} | {theirs:.0f} | {ours:.0f} | {row['ratio']:.1f} |")
    return "\n".join(rows)


def tolerance_table(result: dict[str, Any]) -> str:
    """Return the comparison of fastexai to a tolerance with Captum's default nodes."""
    heads = (
        "trained model",
        "balanced accuracy",
        "Captum: clips within 10⁻³",
        "worst",
        "fastexai: clips within 10⁻³",
    )
    rows = [
        f"| {' | '.join((*heads, 'worst', 'ratio of speed'))} |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["sections"]["tolerance"]:
        rows.append(
            f"| {row['model']} | {row['training_balanced_accuracy']:.2f} | {row['captum_share_below']:.0%} | {row['captum_worst']:.1e} "
            f"| {row['fastexai_share_below']:.0%} | {row['fastexai_worst']:.1e} "
            f"| {row['ratio']:.1f} |"
        )
    return "\n".join(rows)


def relevance_table(result: dict[str, Any]) -> str:
    """Return how well relevance finds the landmarks that simulated emotions truly move."""
    rows = pd.DataFrame(result["rows"])
    lines = ["| emotion | " + " | ".join(rows["architecture"].unique()) + " |"]
    lines.append("|---" * lines[0].count(" | ") + "|---|")
    for emotion, own in rows.groupby("emotion"):
        areas = own.groupby("architecture", sort=False)["relevance_vs_truth_auc"]
        cells = [f"{mean:.2f} ({least:.2f})" for mean, least in areas.agg(["mean", "min"]).values]
        lines.append(f"| {emotion} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figures() -> str:
    """Return the README's section of figures."""
    result = json.loads((RESULTS / "attribution.json").read_text())
    truth = json.loads((RESULTS / "relevance.json").read_text())
    machine = result["machine"]
    return f"""
Against Captum {machine["versions"]["captum"]} at its best batch size, both with the same 50
Gauss-Legendre nodes and equal to 10⁻⁵, clips of 20 x 468 x 3 ({machine["cpu"]},
{machine["threads"]} threads, torch {machine["versions"]["torch"]}; `python bench/attribution.py`):

{nodes_table(result)}

Networks that have learned are steep and 50 nodes are often too few, which Captum tells only those who
ask. `tol=1e-3` against Captum's 50 nodes, in completeness error relative to F(x) - F(baseline):

{tolerance_table(result)}

Simulated clips know which landmarks an emotion truly moves. ROC-AUC of relevance against that truth: mean
(and least) of {len(truth["options"]["seeds"])} data sets of {truth["options"]["clips"]} clips, where a
random ranking has 0.50 (`python bench/relevance.py`):

{relevance_table(truth)}
"""


def main() -> None:
    """Rewrite the README between the markers."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    readme.write_text(f"{head}{BEGIN}\n{figures()}\n{END}{tail}")


if __name__ == "__main__":
    main()
