"""Clean against robust accuracy: what each cell pays for robustness."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from temper.report.figures.marks import Points, handles, in_words, points, scatter
from temper.report.figures.style import legend, sample
from temper.report.statistics.pareto import on_front


def tradeoff(data: pd.DataFrame, robust: str = "test/worst_case", checkpoint: str = "last") -> Figure:
    """Clean against robust accuracy, one mark per cell, standard deviations over seeds, the Pareto front drawn. Where cells
    differ in strength, a larger mark is a greater one.

    The first panel shows the whole plane; where there are several attacks, one more for each looks closer.
    """
    shown = points(data, "test/clean", robust, checkpoint)
    closer = list(shown.attack) if len(shown.attack) > 1 and (shown.rows.groupby("attack").size() > 1).any() else []
    figure = Figure(figsize=(4.2 + 3.1 * len(closer), 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + len(closer), squeeze=False, width_ratios=[1.25, *[1] * len(closer)])[0]
    _plane(axes[0], shown, shown.rows)
    axes[0].set_ylabel(in_words(robust))
    for panel, attack in zip(axes[1:], closer, strict=True):
        _plane(panel, shown, shown.rows[shown.rows.attack == attack])
        panel.set_title(f"attack: {attack}")
    legend(figure, [*handles(shown), sample("Pareto front", color="0.5", linestyle="--", linewidth=1)], columns=5)
    return figure


def _plane(axes: Axes, shown: Points, rows: pd.DataFrame) -> None:
    scatter(axes, shown, rows)
    axes.autoscale_view()
    axes.autoscale(False)
    x, y = pareto_front(shown.rows.x.to_numpy(), shown.rows.y.to_numpy())
    # Out to the edges: what lies below and to the left of the line is beaten.
    x, y = np.array([axes.get_xlim()[0], *x, x[-1]]), np.array([y[0], *y, axes.get_ylim()[0]])
    axes.plot(x, y, linestyle="--", color="0.5", linewidth=1, drawstyle="steps-pre", zorder=0)
    axes.set_xlabel(in_words("test/clean"))


def pareto_front(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points that no other beats in both, each once, from left to right."""
    points = np.column_stack([x, y])
    kept = np.unique(points[on_front(points)], axis=0)
    return kept[:, 0], kept[:, 1]


COSTS = ("cost/seconds", "cost/gradient_evaluations")


def cost(data: pd.DataFrame, robust: str = "test/worst_case", checkpoint: str = "last") -> Figure:
    """Robust accuracy over what training cost, on a logarithmic scale: a panel for seconds, which depend on the machine,
    and one for gradient evaluations, which do not."""
    known = [metric for metric in COSTS if (data[data.metric == metric].value > 0).any()]
    figure = Figure(figsize=(4.0 * len(known) + 0.4, 3.6), layout="constrained")
    panels = figure.subplots(1, len(known), squeeze=False, sharey=True)[0]
    for panel, metric in zip(panels, known, strict=True):
        shown = points(data, metric, robust, checkpoint)
        scatter(panel, shown)
        panel.set_xscale("log")
        low, high = panel.get_xlim()
        panel.set_xlim(min(low, high / 4), high)  # at least so wide that a tick or two fall into it
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel(in_words(metric))
    panels[0].set_ylabel(in_words(robust))
    panels[0].set_ylim(bottom=0)
    legend(figure, handles(shown), columns=5)
    return figure
