"""Trade-off between clean and robust accuracy, and robust accuracy over training cost."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from temper.report.figures.marks import CellPoints, axis_label, cell_points, legend_entries, scatter
from temper.report.figures.style import legend, legend_entry
from temper.report.statistics.pareto import is_non_dominated

COSTS = ("cost/seconds", "cost/gradient_evaluations")


def tradeoff(data: pd.DataFrame, robust: str = "test/worst_case", checkpoint: str = "last") -> Figure:
    """Draw clean against robust accuracy, one mark per cell with standard deviations over seeds, and the Pareto front.

    The first panel shows all cells. If there are several training attacks, a panel for each shows its cells enlarged. Where
    cells differ in strength, larger marks have a greater strength.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        robust: metric of the robust accuracy.
        checkpoint: evaluated checkpoint.
    """
    points = cell_points(data, "test/clean", robust, checkpoint)
    enlarged = list(points.attack) if len(points.attack) > 1 and (points.rows.groupby("attack").size() > 1).any() else []
    figure = Figure(figsize=(4.2 + 3.1 * len(enlarged), 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + len(enlarged), squeeze=False, width_ratios=[1.25, *[1] * len(enlarged)])[0]
    _draw_plane(axes[0], points, points.rows)
    axes[0].set_ylabel(axis_label(robust))
    for panel, attack in zip(axes[1:], enlarged, strict=True):
        _draw_plane(panel, points, points.rows[points.rows.attack == attack])
        panel.set_title(f"attack: {attack}")
    front = legend_entry("Pareto front", color="0.5", linestyle="--", linewidth=1)
    legend(figure, [*legend_entries(points), front], columns=5)
    return figure


def _draw_plane(axes: Axes, points: CellPoints, rows: pd.DataFrame) -> None:
    scatter(axes, points, rows)
    axes.autoscale_view()
    axes.autoscale(False)
    x, y = pareto_front(points.rows.x.to_numpy(), points.rows.y.to_numpy())
    # The line extends to the edges of the panel: cells below and to the left of it are dominated.
    x, y = np.array([axes.get_xlim()[0], *x, x[-1]]), np.array([y[0], *y, axes.get_ylim()[0]])
    axes.plot(x, y, linestyle="--", color="0.5", linewidth=1, drawstyle="steps-pre", zorder=0)
    axes.set_xlabel(axis_label("test/clean"))


def pareto_front(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct non-dominated points, from left to right; larger is better in both coordinates."""
    points = np.column_stack([x, y])
    front = np.unique(points[is_non_dominated(points)], axis=0)
    return front[:, 0], front[:, 1]


def cost(data: pd.DataFrame, robust: str = "test/worst_case", checkpoint: str = "last") -> Figure:
    """Draw robust accuracy over training cost on a logarithmic scale.

    One panel shows seconds, which depend on the machine, and one gradient evaluations, which do not.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        robust: metric of the robust accuracy.
        checkpoint: evaluated checkpoint.
    """
    available = [metric for metric in COSTS if (data[data.metric == metric].value > 0).any()]
    figure = Figure(figsize=(4.0 * len(available) + 0.4, 3.6), layout="constrained")
    panels = figure.subplots(1, len(available), squeeze=False, sharey=True)[0]
    for panel, metric in zip(panels, available, strict=True):
        points = cell_points(data, metric, robust, checkpoint)
        scatter(panel, points)
        panel.set_xscale("log")
        low, high = panel.get_xlim()
        panel.set_xlim(min(low, high / 4), high)  # wide enough for one or two ticks
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel(axis_label(metric))
    panels[0].set_ylabel(axis_label(robust))
    panels[0].set_ylim(bottom=0)
    legend(figure, legend_entries(points), columns=5)
    return figure
