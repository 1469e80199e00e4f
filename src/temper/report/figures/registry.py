"""Registry of figures and the data that each one needs."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from temper.config.errors import explain
from temper.report.figures.eps_curves import broken_by_audit, radii
from temper.report.figures.heatmap import HEADLINES, heatmap
from temper.report.figures.image_examples import examples, kept_images
from temper.report.figures.interaction import interaction
from temper.report.figures.penalty_effects import mean_effects, penalty_effects_figure
from temper.report.figures.strength_sweep import strength_figure, strengths_of
from temper.report.figures.tradeoff import COSTS, cost, tradeoff
from temper.report.figures.training_curves import curves
from temper.report.records.long_format import evaluation_keys
from temper.report.records.representatives import RepresentativeRun, representative_runs
from temper.runs.record import RunRecord

# A function that loads the data of a figure, and one that draws it.
Maker = tuple[Callable[[], Sequence[Any]], Callable[[Any], Figure]]

FIGURE_CAPTIONS = {
    "tradeoff": "Clean against robust accuracy, one mark per cell, with standard deviations over seeds. Cells on the dashed"
    " line are Pareto optimal: no other cell is better in both accuracies.",
    "heatmap": "Metrics of all cells, one panel per metric: training attacks across, penalties down.",
    "interaction": "Interaction of attack and penalty. Where lines are parallel, their effects add up; where lines converge or"
    " cross, the effect of one depends on the other.",
    "parts": "Mean effect of each penalty over the penalties that it is combined with, by training attack: each cell with the"
    " penalty minus the same cell without it, with the 95 % interval over seeds.",
    "curves": "Validation accuracy over epochs. Robust overfitting is the drop of robust accuracy after its best epoch.",
    "radii": "Robust accuracy over the perturbation radius, in multiples of eps. The lower panels show the accuracy at eps and"
    " a lower bound after the stronger attacks of the audit.",
    "strength": "Clean accuracy, robust accuracy and training time over the strength of the penalty.",
    "cost": "Robust accuracy over training cost.",
    "examples": "Test images before an attack, the perturbation, the perturbed image, and the predictions of one network of"
    " each kind.",
    "surface": "Loss around one test example, along the adversarial and a random direction, for one network of each kind.",
    "weights": "Distribution of the weights of one network of each kind.",
}
FIGURES = tuple(FIGURE_CAPTIONS)
MAX_CURVES = 48  # cells; more panels are too small to read


def available_figures(
    records: Sequence[RunRecord],
    data: pd.DataFrame,
    studies: Sequence[Path],
    *,
    suite: str,
    checkpoint: str,
    wanted: Sequence[str] | str | None = None,
) -> tuple[dict[str, Callable[[], Figure]], list[str]]:
    """Return the figures that the study has data for.

    Args:
        records: finished runs that were evaluated by the suite.
        data: their numbers, as returned by `temper.report.records.long_format.frame`.
        studies: folders of the studies that contain the runs.
        suite: name of the evaluation suite.
        checkpoint: evaluated checkpoint.
        wanted: names of figures in `FIGURES`; None: all.

    Returns:
        A function that draws each figure, by name; and a message for each figure whose files on disk (checkpoints, outcomes,
        data) cannot be used.

    Raises:
        ValueError: A figure is unknown.
    """
    chosen = [wanted] if isinstance(wanted, str) else list(FIGURES if wanted is None else wanted)
    if unknown := [name for name in chosen if name not in FIGURES]:
        raise ValueError(f"figures: {', '.join(unknown)} does not exist. Available: {', '.join(FIGURES)}.")
    strengths = strengths_of(records)
    metrics = set(data[data.checkpoint.isin([checkpoint, "run"])].dropna(subset="value").metric)
    several = data.attack.nunique() > 1 and data.penalty.nunique() > 1
    accuracies = {"test/clean", "test/worst_case"} <= metrics
    cells = data.groupby(["attack", "penalty", "setting"]).ngroups
    drawn: dict[str, Callable[[], Figure]] = {}
    if metrics & set(HEADLINES):
        drawn["heatmap"] = lambda: heatmap(data, checkpoint=checkpoint)
    if accuracies:
        drawn["tradeoff"] = lambda: tradeoff(data, checkpoint=checkpoint)
    if accuracies and several:
        drawn["interaction"] = lambda: interaction(data, checkpoint=checkpoint)
    if accuracies and (effects := mean_effects(data, checkpoint)):
        drawn["parts"] = partial(penalty_effects_figure, effects)
    if any(record.curves for record in records) and cells <= MAX_CURVES:
        drawn["curves"] = lambda: curves(records)
    if any(name.startswith("curve/") for name in metrics):
        broken = broken_by_audit(records, suite, checkpoint)
        drawn["radii"] = lambda: radii(data, checkpoint=checkpoint, broken=broken)
    if strengths:
        drawn["strength"] = lambda: strength_figure(data, strengths, checkpoint=checkpoint)
    if accuracies and metrics & set(COSTS):
        drawn["cost"] = lambda: cost(data, checkpoint=checkpoint)
    from_files, problems = _figures_from_files(records, studies, suite, checkpoint, chosen)
    drawn |= from_files
    return {name: drawn[name] for name in chosen if name in drawn}, problems


def _figures_from_files(
    records: Sequence[RunRecord], studies: Sequence[Path], suite: str, checkpoint: str, chosen: Sequence[str]
) -> tuple[dict[str, Callable[[], Figure]], list[str]]:
    """Return the figures that need outcomes or checkpoints, of one run of each kind."""
    runs = representative_runs(records, studies)
    keys = [evaluation_keys(run.record, suite)[0] for run in runs]
    makers: dict[str, Maker] = {"examples": (lambda: kept_images(runs, keys, checkpoint), examples)}
    if {"surface", "weights"} & set(chosen) and any(run.checkpoint(checkpoint).is_file() for run in runs):
        makers |= _network_figures(runs, keys, checkpoint)
    drawn: dict[str, Callable[[], Figure]] = {}
    problems: list[str] = []
    for name in makers.keys() & set(chosen):
        load, draw = makers[name]
        try:
            if loaded := load():
                drawn[name] = partial(draw, loaded)
        except Exception as error:  # damaged files, networks and data sources may raise anything
            problems.append(f"{name}.png is left out: {explain(error)}")
    return drawn, sorted(problems)


def _network_figures(runs: Sequence[RepresentativeRun], keys: Sequence[str], checkpoint: str) -> dict[str, Maker]:
    """Return the figures that need checkpoints.

    Only these import torch and Lightning, which dominate the import time of a report.
    """
    from temper.report.figures.loss_surface import surface, surfaces
    from temper.report.figures.weight_histogram import kept_weights, weights

    return {
        "surface": (lambda: surfaces(runs, keys, checkpoint), surface),
        "weights": (lambda: kept_weights(runs, checkpoint), weights),
    }
