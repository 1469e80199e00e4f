"""Cells as points of a plane: colour and filling tell the attack, the marker tells the penalty."""

from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from temper.report.figures.cells import statistics
from temper.report.figures.style import Look, looks, sample
from temper.report.frame import apart_from_strength
from temper.report.rows import in_order


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
