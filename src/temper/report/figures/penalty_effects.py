"""Mean effect of each of several combined penalties, by training attack."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from temper.report.figures.marks import axis_label
from temper.report.figures.style import legend, series_entries, series_styles
from temper.report.records.cell_names import sort_names
from temper.report.statistics.marginal_effects import marginal_effects
from temper.report.statistics.metric_catalogue import describe_metric
from temper.report.statistics.paired_differences import PairedRuns, summarize

METRICS = ("test/clean", "test/worst_case")


class EffectMark(NamedTuple):
    """Mean effect of a penalty, in the unit of its metric, and the bounds of its 95 % t interval (NaN for one seed)."""

    attack: str
    penalty: str
    metric: str
    mean: float
    low: float
    high: float


def mean_effects(data: pd.DataFrame, checkpoint: str = "last") -> list[EffectMark]:
    """Return the effect of every combined penalty under every attack, on clean and robust accuracy.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        checkpoint: evaluated checkpoint.

    Returns:
        The effects; none if the study does not combine penalties.
    """
    runs = PairedRuns.of(data[data.metric.isin(METRICS)], checkpoint)
    parts = [part for part in marginal_effects(runs) if part.suite == runs.cells[0].suite and not part.synergy]
    uneven = len({part.pairs for part in parts}) > 1  # the effects may then be means over different cells
    marks = []
    for metric in runs.metrics:
        if not parts or metric not in METRICS:
            continue
        series = np.stack([runs.difference(part.effect)[:, runs.metrics.index(metric)] for part in parts])
        factor = describe_metric(metric).factor
        statistics = summarize(series, resolution=math.nan)[["mean", "low", "high"]].to_numpy() * factor
        for part, numbers in zip(parts, statistics.tolist(), strict=True):
            if math.isfinite(numbers[0]):
                name = f"{part.name} ({part.pairs} pairs)" if uneven else part.name
                marks.append(EffectMark(part.attack, name, metric, *numbers))
    return marks


def penalty_effects_figure(marks: Sequence[EffectMark]) -> Figure:
    """Draw the interval of each effect, one line per penalty and one mark per training attack."""
    penalties, attacks = sort_names(mark.penalty for mark in marks), sort_names(mark.attack for mark in marks)
    metrics = [metric for metric in METRICS if any(mark.metric == metric for mark in marks)]
    styles = series_styles(attacks)
    offsets = np.linspace(-0.16, 0.16, len(attacks)) if len(attacks) > 1 else [0.0]
    figure = Figure(figsize=(3.6 * len(metrics) + 1.2, 0.45 * len(penalties) + 1.5), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        panel.axvline(0, color="0.4", linewidth=0.9)
        for offset, attack in zip(offsets, attacks, strict=True):
            shown = [mark for mark in marks if (mark.attack, mark.metric) == (attack, metric)]
            panel.errorbar(
                [mark.mean for mark in shown],
                [penalties.index(mark.penalty) + offset for mark in shown],
                xerr=np.array([[mark.mean - mark.low, mark.high - mark.mean] for mark in shown]).T,
                color=styles[attack].color,
                marker=styles[attack].marker,
                markersize=5.5,
                linestyle="",
                elinewidth=1.3,
                capsize=2,
            )
        panel.set_xlabel(f"change in {axis_label(metric).removesuffix(' (%)')} (points)")
        panel.grid(False, axis="y")
    panels[0].set_yticks(range(len(penalties)), penalties)
    panels[0].set_ylim(len(penalties) - 0.5, -0.5)
    legend(figure, series_entries("attack", styles, linestyle="", markersize=5.5), columns=5)
    return figure
