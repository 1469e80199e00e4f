"""What figures draw of a cell: mean and standard deviation over seeds, in the units that they are shown in."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from temper.report.figures.style import Look, looks, sample
from temper.report.records.cell_names import apart_from_strength, in_order, none_first
from temper.report.statistics.metric_catalogue import describe

# Metrics in plain words, where a table has room for a heading alone.
WORDS = {
    "test/clean": "clean accuracy, %",
    "test/worst_case": "robust accuracy, worst case, %",
    "test/ece": "calibration error, %",
    "test/sensitivity_adversarial": "sensitivity to attacks",
    "test/minimal_norm": "median distance to the boundary",
    "curve/area": "area under the eps curve, %",
    "corruptions/mean": "accuracy under corruptions, %",
    "gap/clean": "generalization gap, points",
    "gap/robust": "robust generalization gap, points",
    "gap/robust_overfitting": "robust overfitting, points",
    "weights/near_zero": "weights near zero, %",
    "weights/norm": "norm of the weights",
    "cost/seconds": "training, seconds",
    "cost/gradient_evaluations": "gradient evaluations per example and epoch",
}


def in_words(metric: str) -> str:
    """What a metric is called on an axis, with its unit."""
    return WORDS.get(metric) or describe(metric).label


def statistics(data: pd.DataFrame, metrics: Sequence[str], checkpoint: str) -> pd.DataFrame:
    """One row per cell and metric: `mean`, `std` (0 for a single seed) and `n` over seeds, in the metric's unit; `label` is the
    penalty with its setting. Cells stand in order, `none` first.

    Args:
        data: as `temper.report.records.long_format.frame` gives it.
        checkpoint: of all metrics but those of the run as a whole.
    """
    rows = data[data.metric.isin(metrics) & data.checkpoint.isin([checkpoint, "run"])].dropna(subset="value")
    rows = rows.assign(
        value=rows.value * rows.metric.map({metric: describe(metric).factor for metric in metrics}),
        label=labels(rows),
    )
    by_cell = rows.groupby(["attack", "penalty", "setting", "label", "metric"]).value
    found = pd.DataFrame({"mean": by_cell.mean(), "std": by_cell.std().fillna(0), "n": by_cell.count()}).reset_index()
    names = list(zip(found.attack, found.penalty, found.setting, strict=True))
    order = sorted(range(len(found)), key=lambda row: [none_first(name) for name in names[row]])
    return found.loc[order].reset_index(drop=True)


def labels(rows: pd.DataFrame) -> list[str]:
    """The penalty of each row, with the setting that tells it apart from others of its name."""
    return [f"{name} ({setting})" if setting else name for name, setting in zip(rows.penalty, rows.setting, strict=True)]


class Points(NamedTuple):
    """Cells in a plane.

    Attributes:
        rows: one per cell: attack, cell (penalty and setting, strength apart), x, y, dx, dy (standard deviations), size.
        attack, cell: the look of each.
    """

    rows: pd.DataFrame
    attack: dict[str, Look]
    cell: dict[str, Look]


def points(data: pd.DataFrame, x: str, y: str, checkpoint: str) -> Points:
    """The cells that have both metrics. Where cells differ in strength, a larger mark is a greater one."""
    found = statistics(data, [x, y], checkpoint).drop(columns="n")
    wide = found.pivot(index=["attack", "penalty", "setting"], columns="metric", values=["mean", "std"])
    wide = wide.reindex(columns=pd.MultiIndex.from_product([["mean", "std"], [x, y]])).dropna()
    rows = pd.DataFrame(wide.to_numpy(), columns=["x", "y", "dx", "dy"], index=wide.index).reset_index()
    # A mark for every strength would soon be more than there are.
    rows["cell"] = [apart_from_strength(p, s) for p, s in zip(rows.penalty, rows.setting, strict=True)]
    strength = rows.setting.str.extract(r"(?:^|, )strength=([^,]+)")[0].astype(float)
    rank, several = strength.rank(method="dense") - 1, strength.nunique() > 1
    rows["size"] = (3.5 + 5 * rank / rank.max()).fillna(6.0) if several else 6.0
    attacks, cells = (in_order(rows[axis]) for axis in ("attack", "cell"))
    return Points(rows, looks(attacks), looks(cells))


def scatter(axes: Axes, shown: Points, rows: pd.DataFrame | None = None) -> None:
    """A mark for each cell, or for these rows alone, with its standard deviations."""
    for _, point in (shown.rows if rows is None else rows).iterrows():
        attack = shown.attack[point.attack]
        axes.errorbar(point.x, point.y, xerr=point.dx, yerr=point.dy, color=attack.color, alpha=0.45, linewidth=1)
        axes.plot(point.x, point.y, markersize=point["size"], **_mark(attack, shown.cell[point.cell].marker))


def handles(shown: Points) -> list[Line2D]:
    """For the legend: attacks, penalties, and what size says."""
    attacks = [sample(f"attack: {name}", **_mark(look, "o")) for name, look in shown.attack.items()]
    cells = [sample(f"penalty: {name}", linestyle="", color="0.35", marker=look.marker) for name, look in shown.cell.items()]
    sizes = [sample("larger: stronger", color="none")] if shown.rows["size"].nunique() > 1 else []
    return attacks + cells + sizes


def _mark(attack: Look, marker: str) -> dict[str, Any]:
    full = attack.filling == "full"
    return {
        "color": attack.color,
        "marker": marker,
        "linestyle": "",
        "fillstyle": attack.filling,
        "markerfacecoloralt": "white",
        "markeredgecolor": "white" if full else attack.color,
        "markeredgewidth": 0.6 if full else 1.1,
    }
