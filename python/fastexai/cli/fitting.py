"""Classifiers: train and prune."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from sklearn.base import clone

import fastexai as fx
from fastexai.aside import written_aside
from fastexai.cli.console import console, print_table, stage
from fastexai.cli.options import Architecture, Emotion, Store

__all__ = ["prune", "train"]


def train(
    store: Store,
    emotion: Annotated[
        list[str],
        typer.Option("--emotion", "-e", help="The label that means yes; several: an ensemble."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The .pt file to write; an ensemble's folder.")
    ],
    architecture: Architecture = "randomized_bilstm",
    frames: Annotated[int, typer.Option(help="Frames per clip.")] = 20,
    cv: Annotated[int, typer.Option(help="Subject-independent folds to judge with; 0: none.")] = 0,
    repeats: Annotated[int, typer.Option(help="Judge so many times, in other folds.")] = 1,
    calibration: Annotated[
        str, typer.Option(help="Of probabilities: platt, isotonic or none.")
    ] = "platt",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
    seed: int = 0,
) -> None:
    """Fit a binary classifier: fastexai train clips.parquet -e happiness -o happiness.pt --cv 5.

    With --cv, figures from people that training has not seen are printed with their 95 % intervals,
    and written as JSON beside the model. Several emotions make an ensemble:
    fastexai train clips.parquet -e happiness -e anger -e neutral -o emotions
    """
    if repeats != 1 and not cv:
        raise ValueError(f"repeats: expected --cv beside it, got --repeats {repeats} alone")
    figures = out.with_name(out.name.removesuffix(".pt") + ".json")
    for path in (out, figures) if cv else (out,):
        if path.exists() and not overwrite:
            raise FileExistsError(f"out: expected no {path} yet (or --overwrite), got one")
    clips = fx.ClipSet.from_store(fx.LandmarkStore(store), frames=frames)
    estimator = fx.EmotionClassifier(
        architecture=architecture,
        calibration=None if calibration == "none" else calibration,
        seed=seed,
    )
    judged = {}
    for name in emotion if cv else ():
        clf = clone(estimator).set_params(emotion=name)
        with stage(f"Judging {name}") as progress:
            judged[name] = fx.cross_validate(
                clf, clips, folds=cv, repeats=repeats, seed=seed, progress=progress
            )
        _print_figures(name, judged[name])
    model: fx.EmotionClassifier | fx.EmotionEnsemble = estimator.set_params(emotion=emotion[0])
    if len(emotion) > 1:
        model = fx.EmotionEnsemble(emotion, estimator)
    with stage(f"Training {', '.join(emotion)}"):
        model.fit(clips)
    model.export(out, overwrite=overwrite)
    console.print(f"{out}: {', '.join(emotion)}, {architecture}, trained on {len(clips)} clips")
    if cv:
        settings = {"architecture": architecture, "calibration": calibration, "frames": frames}
        settings |= {"folds": cv, "repeats": repeats, "seed": seed}
        described = {name: result.describe() for name, result in judged.items()}
        with written_aside(figures) as aside:
            aside.write_text(json.dumps(settings | {"emotions": described}, indent=2))
        console.print(str(figures), soft_wrap=True, highlight=False)


def _print_figures(emotion: str, result: fx.CrossValidation) -> None:
    """Print the pooled figures, and the main ones of each fold; all of them are in the JSON."""
    people = len(np.unique(result.subjects))
    title = f"{emotion}: {len(result.ids)} clips of {people} subjects, 95 % intervals"
    console.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
    print_table(result.pooled.rename_axis("metric").reset_index())
    columns = ["repeat"] if result.table["repeat"].any() else []
    columns += ["fold", "accuracy", "majority_rate", "balanced_accuracy", "roc_auc"]
    columns += ["fit_seconds", "inference_ms"]
    print_table(result.table[columns])


def prune(
    store: Store,
    emotion: Emotion,
    out: Annotated[
        list[Path],
        typer.Option(
            "--out", "-o", help="What to write: .json for report, .csv, .md or .tex; repeatable."
        ),
    ],
    model: Annotated[
        Path | None, typer.Option(help="Also fit the best size and write this .pt file.")
    ] = None,
    sizes: Annotated[
        str, typer.Option(help="Landmarks to keep, decreasing.")
    ] = "468,256,128,64,32,16,8",
    strategy: Annotated[
        str, typer.Option(help="redundancy, recursive, relevance, greedy or beam.")
    ] = "redundancy",
    symmetric: Annotated[
        bool, typer.Option("--symmetric", help="Keep and drop mirror pairs together.")
    ] = False,
    keep_region: Annotated[
        list[str] | None, typer.Option(help="A region that stays; repeatable.")
    ] = None,
    exclude_region: Annotated[
        list[str] | None, typer.Option(help="A region that is never kept; repeatable.")
    ] = None,
    min_spacing: Annotated[
        float, typer.Option(help="Least distance of kept landmarks, in inter-ocular distances.")
    ] = 0.0,
    architecture: Architecture = "randomized_bilstm",
    folds: int = 5,
    repeats: Annotated[int, typer.Option(help="Judge so many times, in other folds.")] = 1,
    random_subsets: Annotated[int, typer.Option(help="Random controls in each fold.")] = 10,
    frames: int = 20,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
    seed: int = 0,
) -> None:
    """Find how few landmarks are enough: fastexai prune clips.parquet -e happiness -o path.json.

    Search, fit and the choice of the size are nested in subject-independent folds; beside each size
    stand random subsets and a logistic regression.
    """
    try:
        wanted = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        raise ValueError(
            f"sizes: expected whole numbers and commas between, got {sizes!r}"
        ) from None
    for file in (*out, *([model] if model else [])):
        if file.exists() and not overwrite:
            raise FileExistsError(f"out: expected no {file} yet (or --overwrite), got one")
    clips = fx.ClipSet.from_store(fx.LandmarkStore(store), frames=frames)
    clf = fx.EmotionClassifier(emotion, architecture, seed=seed)
    with stage(f"Pruning {emotion}") as progress:
        path = fx.prune(
            clf,
            clips,
            wanted,
            strategy=strategy,  # type: ignore[arg-type]  # the search checks the word
            symmetric=symmetric,
            keep_regions=keep_region or (),
            exclude_regions=exclude_region or (),
            min_spacing=min_spacing,
            folds=folds,
            repeats=repeats,
            random_subsets=random_subsets,
            seed=seed,
            progress=progress,
        )
    for file in out:
        path.save(file)
    print_table(path.printed())
    if model is not None:
        smaller = clf.set_params(kept=np.sort(path.kept[path.best]).tolist())
        smaller.fit(clips).export(model, overwrite=overwrite)
    console.print(
        f"{path.best} landmarks are enough (one-standard-error rule); with the size chosen on "
        f"training folds, balanced accuracy is {path.nested.value:.3f} "
        f"[{path.nested.low:.3f}, {path.nested.high:.3f}]",
        soft_wrap=True,
        highlight=False,
    )
