"""What each of several combined penalties does on average over the others, by the attack that is trained against."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from temper.report.figures.marks import in_words
from temper.report.figures.style import legend, looks, sample
from temper.report.records.cell_names import in_order
from temper.report.statistics.marginal_effects import marginal_effects
from temper.report.statistics.metric_catalogue import describe
from temper.report.statistics.paired_differences import PairedRuns, summarize

METRICS = ("test/clean", "test/worst_case")


class EffectMark(NamedTuple):
    """A mean effect, in the unit of its metric, and the ends of its 95 % t interval (NaN for one seed)."""

    attack: str
    penalty: str
    metric: str
    mean: float
    low: float
    high: float


def mean_effects(data: pd.DataFrame, checkpoint: str = "last") -> list[EffectMark]:
    """Of every combined penalty under every attack, on clean and robust accuracy; none where penalties are not combined.

    Args:
        data: as `temper.report.records.long_format.frame` gives it.
    """
    runs = PairedRuns.of(data[data.metric.isin(METRICS)], checkpoint)
    known = [part for part in marginal_effects(runs) if part.suite == runs.cells[0].suite and not part.synergy]
    uneven = len({part.pairs for part in known}) > 1  # then effects may be means over other cells
    shown = []
    for metric in runs.metrics:
        if not known or metric not in METRICS:
            continue
        series = np.stack([runs.difference(part.effect)[:, runs.metrics.index(metric)] for part in known])
        factor = describe(metric).factor
        found = summarize(series, resolution=math.nan)[["mean", "low", "high"]].to_numpy() * factor
        for part, numbers in zip(known, found.tolist(), strict=True):
            if math.isfinite(numbers[0]):
                name = f"{part.name} ({part.pairs} pairs)" if uneven else part.name
                shown.append(EffectMark(part.attack, name, metric, *numbers))
    return shown


def parts_figure(shown: Sequence[EffectMark]) -> Figure:
    """A line for each penalty, a mark for each attack that is trained against: how far its interval is from nothing."""
    penalties, attacks = in_order(pd.Series([s.penalty for s in shown])), in_order(pd.Series([s.attack for s in shown]))
    metrics = [metric for metric in METRICS if any(s.metric == metric for s in shown)]
    look = looks(attacks)
    apart = np.linspace(-0.16, 0.16, len(attacks)) if len(attacks) > 1 else [0.0]
    figure = Figure(figsize=(3.6 * len(metrics) + 1.2, 0.45 * len(penalties) + 1.5), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        panel.axvline(0, color="0.4", linewidth=0.9)
        for shift, attack in zip(apart, attacks, strict=True):
            own = [s for s in shown if (s.attack, s.metric) == (attack, metric)]
            panel.errorbar(
                [s.mean for s in own],
                [penalties.index(s.penalty) + shift for s in own],
                xerr=np.array([[s.mean - s.low, s.high - s.mean] for s in own]).T,
                color=look[attack].color,
                marker=look[attack].marker,
                markersize=5.5,
                linestyle="",
                elinewidth=1.3,
                capsize=2,
            )
        panel.set_xlabel(f"change of {in_words(metric).removesuffix(', %')}, points")
        panel.grid(False, axis="y")
    panels[0].set_yticks(range(len(penalties)), penalties)
    panels[0].set_ylim(len(penalties) - 0.5, -0.5)
    marks = [
        sample(f"trained against: {name}", color=one.color, marker=one.marker, linestyle="", markersize=5.5)
        for name, one in look.items()
    ]
    legend(figure, marks, columns=5)
    return figure
