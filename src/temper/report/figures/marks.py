"""Statistics of cells in display units, axis labels, and marks shared by scatter plots."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from temper.report.figures.style import SeriesStyle, legend_entry, series_styles
from temper.report.records.cell_names import name_sort_key, name_without_strength, sort_names
from temper.report.statistics.metric_catalogue import describe_metric
from temper.report.tables.formatting import penalty_label

# Longer than the headings of tables, which have less room.
AXIS_LABELS = {
    "test/clean": "clean accuracy (%)",
    "test/worst_case": "robust accuracy, worst case (%)",
    "test/ece": "expected calibration error (%)",
    "test/sensitivity_adversarial": "adversarial sensitivity",
    "test/minimal_norm": "median distance to the boundary",
    "curve/area": "area under the eps curve (%)",
    "corruptions/mean": "accuracy under corruptions (%)",
    "gap/clean": "generalization gap (points)",
    "gap/robust": "robust generalization gap (points)",
    "gap/robust_overfitting": "robust overfitting (points)",
    "weights/near_zero": "weights near zero (%)",
    "weights/norm": "weight norm",
    "cost/seconds": "training time (s)",
    "cost/gradient_evaluations": "gradient evaluations per example and epoch",
}


def axis_label(metric: str) -> str:
    """Return the axis label of a metric, with its unit."""
    return AXIS_LABELS.get(metric) or describe_metric(metric).label


def cell_statistics(data: pd.DataFrame, metrics: Sequence[str], checkpoint: str) -> pd.DataFrame:
    """Return one row per cell and metric, in order of the cells, `none` first.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        metrics: names of the metrics.
        checkpoint: checkpoint of all metrics but those of the run as a whole.

    Returns:
        Columns attack, penalty, setting, label (penalty with its setting), metric, and over seeds, in the unit of the metric,
        mean, std (0 for a single seed) and n.
    """
    rows = data[data.metric.isin(metrics) & data.checkpoint.isin([checkpoint, "run"])].dropna(subset="value")
    rows = rows.assign(
        value=rows.value * rows.metric.map({metric: describe_metric(metric).factor for metric in metrics}),
        label=penalty_labels(rows),
    )
    by_cell = rows.groupby(["attack", "penalty", "setting", "label", "metric"]).value
    table = pd.DataFrame({"mean": by_cell.mean(), "std": by_cell.std().fillna(0), "n": by_cell.count()}).reset_index()
    names = list(zip(table.attack, table.penalty, table.setting, strict=True))
    order = sorted(range(len(table)), key=lambda row: [name_sort_key(name) for name in names[row]])
    return table.loc[order].reset_index(drop=True)


def penalty_labels(rows: pd.DataFrame) -> list[str]:
    """Return the penalty of each row with the setting that distinguishes it from others of its name."""
    return [penalty_label(name, setting) for name, setting in zip(rows.penalty, rows.setting, strict=True)]


class CellPoints(NamedTuple):
    """Cells as points of a scatter plot.

    Attributes:
        rows: one per cell: attack, cell (penalty and setting without its strength), x, y, dx, dy (standard deviations), size.
        attack, cell: style by name of the attack and the cell.
    """

    rows: pd.DataFrame
    attack: dict[str, SeriesStyle]
    cell: dict[str, SeriesStyle]


def cell_points(data: pd.DataFrame, x: str, y: str, checkpoint: str) -> CellPoints:
    """Return the cells that have both metrics; where cells differ in strength, larger marks have a greater strength.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        x: metric of the horizontal axis.
        y: metric of the vertical axis.
        checkpoint: checkpoint of both metrics.
    """
    table = cell_statistics(data, [x, y], checkpoint).drop(columns="n")
    wide = table.pivot(index=["attack", "penalty", "setting"], columns="metric", values=["mean", "std"])
    wide = wide.reindex(columns=pd.MultiIndex.from_product([["mean", "std"], [x, y]])).dropna()
    rows = pd.DataFrame(wide.to_numpy(), columns=["x", "y", "dx", "dy"], index=wide.index).reset_index()
    # There are fewer markers than a sweep may have strengths.
    rows["cell"] = [name_without_strength(p, s) for p, s in zip(rows.penalty, rows.setting, strict=True)]
    strength = rows.setting.str.extract(r"(?:^|, )strength=([^,]+)")[0].astype(float)
    rank, several = strength.rank(method="dense") - 1, strength.nunique() > 1
    rows["size"] = (3.5 + 5 * rank / rank.max()).fillna(6.0) if several else 6.0
    attacks, cells = (sort_names(rows[axis]) for axis in ("attack", "cell"))
    return CellPoints(rows, series_styles(attacks), series_styles(cells))


def scatter(axes: Axes, points: CellPoints, rows: pd.DataFrame | None = None) -> None:
    """Draw a mark with its standard deviations for each cell.

    Args:
        axes: panel to draw on.
        points: all cells of the figure.
        rows: the cells to draw; None: all.
    """
    for _, point in (points.rows if rows is None else rows).iterrows():
        attack = points.attack[point.attack]
        axes.errorbar(point.x, point.y, xerr=point.dx, yerr=point.dy, color=attack.color, alpha=0.45, linewidth=1)
        axes.plot(point.x, point.y, markersize=point["size"], **_mark(attack, points.cell[point.cell].marker))


def legend_entries(points: CellPoints) -> list[Line2D]:
    """Return legend entries for attacks, penalties and mark sizes."""
    attacks = [legend_entry(f"attack: {name}", **_mark(style, "o")) for name, style in points.attack.items()]
    cells = [
        legend_entry(f"penalty: {name}", linestyle="", color="0.35", marker=style.marker) for name, style in points.cell.items()
    ]
    sizes = [legend_entry("larger mark: greater strength", color="none")] if points.rows["size"].nunique() > 1 else []
    return attacks + cells + sizes


def _mark(attack: SeriesStyle, marker: str) -> dict[str, Any]:
    full = attack.fillstyle == "full"
    return {
        "color": attack.color,
        "marker": marker,
        "linestyle": "",
        "fillstyle": attack.fillstyle,
        "markerfacecoloralt": "white",
        "markeredgecolor": "white" if full else attack.color,
        "markeredgewidth": 0.6 if full else 1.1,
    }
