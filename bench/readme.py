"""Put the measured figures into the README, between its markers, and draw its picture.

python bench/readme.py
"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

import pandas as pd

import fastexai as fx
from machine import RESULTS, ROOT
from pruning import FEW_NODES

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
        "balanced accuracy, other clips",
        "Captum: clips within 10⁻³",
        "worst",
        "fastexai: clips within 10⁻³",
    )
    rows = [
        f"| {' | '.join((*heads, 'worst', 'ratio of speed'))} |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["sections"]["tolerance"]:
        if row["model"].startswith("EmotionClassifier"):
            continue  # our own: see bench/results/attribution.md
        rows.append(
            f"| {row['model']} | {row['balanced_accuracy']:.2f} | {row['captum_share_below']:.0%} | {row['captum_worst']:.1e} "
            f"| {row['fastexai_share_below']:.0%} | {row['fastexai_worst']:.1e} "
            f"| {row['ratio']:.1f} |"
        )
    return "\n".join(rows)


def training_table(result: dict[str, Any]) -> str:
    """Return how well classifiers do, and how fast they are fitted and asked."""
    asked = {row["architecture"]: row for row in result["inference"]}
    rows = [
        "| classifier | balanced accuracy | ROC-AUC | fit, s | clips/s | one clip, ms |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["comparison"]["summary"]:
        name = row["classifier"]
        speed = asked.get(name)
        cells = ["", ""]
        if speed:
            cells = [f"{speed['clips_per_second']:,.0f}", f"{speed['single_clip_ms']:.2f}"]
        rows.append(
            f"| {name} | {row['balanced_accuracy']:.3f} | {row['roc_auc']:.3f} "
            f"| {row['fit_seconds']:.2f} | {' | '.join(cells)} |"
        )
    return "\n".join(rows)


def emotion_table(truth: dict[str, Any], fewer: dict[str, Any]) -> str:
    """Return, by emotion, whether relevance is true and what 16 landmarks are worth."""
    areas = pd.DataFrame(truth["rows"]).groupby(["emotion", "architecture"])
    area = areas["relevance_vs_truth_auc"].mean().unstack()
    kept = pd.DataFrame(fewer["rows"]).groupby("emotion").mean(numeric_only=True)
    heads = (
        "emotion",
        f"relevance, {' / '.join(area.columns)}",
        "all 468",
        "16",
        "16 minus random 16",
        "logistic regression, 16",
        "truly moved (chance)",
    )
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for emotion, row in kept.iterrows():
        gain = [row[f"gain_over_random{end}"] for end in ("", "_low", "_high")]
        rows.append(
            f"| {emotion} | {' / '.join(f'{value:.2f}' for value in area.loc[emotion])} "
            f"| {row['balanced_accuracy_468']:.3f} | {row['balanced_accuracy_16']:.3f} "
            f"| {gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}] "
            f"| {row['logistic_regression_16']:.3f} "
            f"| {row['share_truly_moved']:.0%} ({row['share_by_chance']:.0%}) |"
        )
    return "\n".join(rows)


def draw_picture() -> None:
    """Draw what three classifiers look at, with the 32 landmarks that the search keeps."""
    clips = fx.datasets.simulate_expressions(600, seed=0)
    explanations, kept = [], {}
    for emotion in ("happiness", "surprise", "anger"):
        clf = fx.EmotionClassifier(emotion, "randomized_bilstm").fit(clips)
        explanations.append(
            fx.explain_dataset(clf.network_, clips, clf.prototypes_, emotion=emotion)
        )
        found = fx.search_landmarks(
            clf.network_,
            clips,
            clips.labels == emotion,
            baselines=clf.prototypes_,
            sizes=(32,),
        )
        kept[emotion] = found.kept[32]
    fx.plot_relevance(explanations, RESULTS / "relevance.png", kept=kept, dpi=130)


def figures() -> str:
    """Return the README's section of figures."""
    result = json.loads((RESULTS / "attribution.json").read_text())
    truth = json.loads((RESULTS / "relevance.json").read_text())
    fewer = json.loads((RESULTS / "fewer_landmarks.json").read_text())
    training = json.loads((RESULTS / "training.json").read_text())
    speed = json.loads((RESULTS / "pruning.json").read_text())["sections"]["search speed"][0]
    search, same, seven = (
        speed["ratio_default_nodes"],
        speed["ratio_few_nodes"],
        training["seven_emotions"],
    )
    machine = result["machine"]
    return f"""
Against Captum {machine["versions"]["captum"]} at its best batch size, both with the same 50
Gauss-Legendre nodes and equal to 10⁻⁵, clips of 20 x 468 x 3 ({machine["cpu"]},
{machine["threads"]} threads, torch {machine["versions"]["torch"]}; `python bench/attribution.py`):

{nodes_table(result)}

Networks that have learned can be steep and 50 nodes too few, which Captum tells only those who ask;
others need far fewer. `tol=1e-3` against Captum's 50 nodes, in completeness error relative to F(x) - F(baseline):

{tolerance_table(result)}

The search for landmarks from 468 to 8 is {search:.0f} times as fast as the same written with Captum at 50 nodes, and
{same:.0f} times at {FEW_NODES} ({speed["clips"]} clips, {speed["model"]}; `python bench/pruning.py`).

Classifiers on {training["options"]["clips"]} simulated clips of people whom training has not seen, and the
speed of the exported file (`python bench/training.py`); seven emotions on {seven["clips"]} clips are fitted together
in {median(seven["seconds"]):.1f} s:

{training_table(training)}

Simulated clips know which landmarks an emotion truly moves. By emotion: ROC-AUC of relevance against that truth
(`python bench/relevance.py`; chance is 0.50), and `fx.prune` with `randomized_bilstm`: balanced accuracy
with all and with 16 landmarks, the paired difference from 16 random ones with its 95 % interval over
subjects, and how many of as many kept landmarks as are truly moved are so (`python bench/fewer_landmarks.py`):

{emotion_table(truth, fewer)}
"""


def main() -> None:
    """Rewrite the README between the markers."""
    readme = ROOT / "README.md"
    draw_picture()
    text = readme.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    readme.write_text(f"{head}{BEGIN}\n{figures()}\n{END}{tail}")


if __name__ == "__main__":
    main()
