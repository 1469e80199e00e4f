"""Which figures a study has what for."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from temper.config.errors import explain
from temper.report.figures.eps_curves import broken_more, radii
from temper.report.figures.heatmap import HEADLINES, heatmap
from temper.report.figures.image_examples import examples, kept_examples
from temper.report.figures.interaction import interaction
from temper.report.figures.penalty_effects import mean_effects, parts_figure
from temper.report.figures.strength_sweep import strength_figure, strengths_of
from temper.report.figures.tradeoff import COSTS, cost, tradeoff
from temper.report.figures.training_curves import curves
from temper.report.records.long_format import evaluations_of
from temper.report.records.representatives import Pick, one_of_each_kind
from temper.runs.record import RunRecord

# Finds what a figure shows, and draws it.
Maker = tuple[Callable[[], Sequence[Any]], Callable[[Any], Figure]]

FIGURES = (
    "tradeoff",
    "heatmap",
    "interaction",
    "parts",
    "curves",
    "radii",
    "strength",
    "cost",
    "examples",
    "surface",
    "weights",
)
MOST_CURVES = 48  # cells: more panels are no picture


def gallery(
    records: Sequence[RunRecord],
    data: pd.DataFrame,
    studies: Sequence[Path],
    *,
    suite: str,
    checkpoint: str,
    wanted: Sequence[str] | str | None = None,
) -> tuple[dict[str, Callable[[], Figure]], list[str]]:
    """What draws each figure, by its name; what the study has nothing for is left out. And a line for each that what lies on
    disk (checkpoints, outcomes, data) is no good for: a report never fails for it.

    Args:
        records: finished runs that were evaluated by the suite.
        data: of these, as `temper.report.records.long_format.frame` gives it.
        studies: the folders that they lie in.
        wanted: one of `FIGURES`, or several; None: all.

    Raises:
        ValueError: there is no such figure.
    """
    chosen = [wanted] if isinstance(wanted, str) else list(FIGURES if wanted is None else wanted)
    if unknown := [name for name in chosen if name not in FIGURES]:
        raise ValueError(f"figures: there is no {', '.join(unknown)}; there are {', '.join(FIGURES)}")
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
    if accuracies and (shown := mean_effects(data, checkpoint)):
        drawn["parts"] = partial(parts_figure, shown)
    if any(record.curves for record in records) and cells <= MOST_CURVES:
        drawn["curves"] = lambda: curves(records)
    if any(name.startswith("curve/") for name in metrics):
        broken = broken_more(records, suite, checkpoint)
        drawn["radii"] = lambda: radii(data, checkpoint=checkpoint, broken=broken)
    if strengths:
        drawn["strength"] = lambda: strength_figure(data, strengths, checkpoint=checkpoint)
    if accuracies and metrics & set(COSTS):
        drawn["cost"] = lambda: cost(data, checkpoint=checkpoint)
    on_disk, problems = _on_disk(records, studies, suite, checkpoint, chosen)
    drawn |= on_disk
    return {name: drawn[name] for name in chosen if name in drawn}, problems


def _on_disk(
    records: Sequence[RunRecord], studies: Sequence[Path], suite: str, checkpoint: str, chosen: Sequence[str]
) -> tuple[dict[str, Callable[[], Figure]], list[str]]:
    """The figures that are made of more than records, of one run of each kind."""
    picks = one_of_each_kind(records, studies)
    keys = [evaluations_of(pick.record, suite)[0] for pick in picks]
    makers: dict[str, Maker] = {"examples": (lambda: kept_examples(picks, keys, checkpoint), examples)}
    if {"surface", "weights"} & set(chosen) and any(pick.checkpoint(checkpoint).is_file() for pick in picks):
        makers |= _of_networks(picks, keys, checkpoint)
    drawn: dict[str, Callable[[], Figure]] = {}
    problems: list[str] = []
    for name in makers.keys() & set(chosen):
        find, draw = makers[name]
        try:
            if found := find():
                drawn[name] = partial(draw, found)
        except Exception as error:  # whatever a damaged file, a network or a data source raises
            problems.append(f"{name}.png is left out: {explain(error)}")
    return drawn, sorted(problems)


def _of_networks(picks: Sequence[Pick], keys: Sequence[str], checkpoint: str) -> dict[str, Maker]:
    """The figures that look into checkpoints. They alone need torch and Lightning, most of what a report would weigh: a study
    whose checkpoints lie elsewhere is reported without."""
    from temper.report.figures.loss_surface import surface, surfaces
    from temper.report.figures.weight_histogram import kept_weights, weights

    return {
        "surface": (lambda: surfaces(picks, keys, checkpoint), surface),
        "weights": (lambda: kept_weights(picks, checkpoint), weights),
    }
