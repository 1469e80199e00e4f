"""Figures of a study. The same records give the same bytes."""

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from temper.records import RunRecord
from temper.report.frame import apart_from_strength
from temper.report.table import METRICS

# Okabe & Ito 2008: told apart by colour-blind people; markers tell them apart in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
LONG = 60  # characters of a name that is no longer set beside others
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}


def save(draw: Callable[[], Figure], path: Path) -> None:
    """As .png and .pdf, without the date and version that would make every copy different."""
    with matplotlib.rc_context(STYLE):
        figure = draw()
        figure.savefig(path.with_suffix(".png"), metadata={"Software": None}, bbox_inches="tight")
        figure.savefig(
            path.with_suffix(".pdf"),
            metadata={"CreationDate": None, "Producer": None, "Creator": None},
            bbox_inches="tight",
        )


def legend(figure: Figure, handles: Sequence[Line2D], columns: int) -> None:
    """Below the panels, in at most so many columns; names that hold a whole setting take a line each."""
    long = any(len(str(handle.get_label())) > LONG for handle in handles)
    columns = 1 if long else min(columns, len(handles))
    if long:
        figure.set_figheight(figure.get_figheight() + 0.16 * len(handles))  # inches: a line of the legend's font
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, fontsize=8)


def tradeoff(data: pd.DataFrame, robust: str = "test/worst_case", checkpoint: str = "last") -> Figure:
    """Clean against robust accuracy, one mark per cell, standard deviations over seeds, the Pareto front drawn. Where cells
    differ in strength, a larger mark is a greater one.

    The first panel shows the whole plane; where there are several attacks, one more for each looks closer.
    """
    points = _points(data, "test/clean", robust, checkpoint)
    attacks = list(dict.fromkeys(points.attack))
    closer = attacks if len(attacks) > 1 and (points.groupby("attack").size() > 1).any() else []
    figure = Figure(figsize=(4.2 + 3.1 * len(closer), 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + len(closer), squeeze=False, width_ratios=[1.25, *[1] * len(closer)])[0]
    look = _look(points)
    _plane(axes[0], points, look, front=points)
    axes[0].set_ylabel(f"robust accuracy, {METRICS[robust].label if robust in METRICS else robust + ' %'}")
    for panel, attack in zip(axes[1:], closer, strict=True):
        _plane(panel, points[points.attack == attack], look, front=points)
        panel.set_title(f"attack: {attack}", fontsize=9)
    handles = [
        Line2D([], [], color=look["attack"][name], marker="o", linestyle="", label=f"attack: {name}") for name in attacks
    ]
    handles += [
        Line2D([], [], color="0.35", marker=marker, linestyle="", label=f"penalty: {name}")
        for name, marker in look["cell"].items()
    ]
    if points["size"].nunique() > 1:
        handles += [Line2D([], [], color="none", label="larger: stronger")]
    handles += [Line2D([], [], color="0.5", linestyle="--", linewidth=1, label="Pareto front")]
    legend(figure, handles, columns=5)
    return figure


def _points(data: pd.DataFrame, x: str, y: str, checkpoint: str) -> pd.DataFrame:
    """Mean and standard deviation of two metrics in percent, one row per cell."""
    rows = data[(data.checkpoint == checkpoint) & data.metric.isin([x, y])]
    wide = rows.pivot_table(index=["attack", "penalty", "setting", "seed"], columns="metric", values="value") * 100
    cells = wide.groupby(level=["attack", "penalty", "setting"])
    points = pd.DataFrame({"x": cells[x].mean(), "y": cells[y].mean(), "dx": cells[x].std(), "dy": cells[y].std()}).fillna(0)
    points = points.reset_index()
    # A mark for every strength would soon be more than there are.
    points["cell"] = [apart_from_strength(p, s) for p, s in zip(points.penalty, points.setting, strict=True)]
    strength = points.setting.str.extract(r"(?:^|, )strength=([^,]+)")[0].astype(float)
    rank, several = strength.rank(method="dense") - 1, strength.nunique() > 1
    points["size"] = (3.5 + 5 * rank / rank.max()).fillna(6.0) if several else 6.0
    order = sorted(range(len(points)), key=lambda i: [(v != "none", v) for v in points.loc[i, ["attack", "cell"]]])
    return points.loc[order]


def _look(points: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {
        axis: dict(zip(dict.fromkeys(points[axis]), cycle(values))) for axis, values in (("attack", COLORS), ("cell", MARKERS))
    }


def _plane(axes: Axes, points: pd.DataFrame, look: dict[str, dict[str, Any]], front: pd.DataFrame) -> None:
    for _, point in points.iterrows():
        color = look["attack"][point.attack]
        axes.errorbar(point.x, point.y, xerr=point.dx, yerr=point.dy, color=color, alpha=0.45, linewidth=1)
        axes.plot(
            point.x,
            point.y,
            look["cell"][point.cell],
            color=color,
            markersize=point["size"],
            markeredgecolor="white",
            markeredgewidth=0.6,
        )
    axes.autoscale_view()
    axes.autoscale(False)
    x, y = pareto_front(front.x.to_numpy(), front.y.to_numpy())
    # Out to the edges: what lies below and to the left of the line is beaten.
    x, y = np.array([axes.get_xlim()[0], *x, x[-1]]), np.array([y[0], *y, axes.get_ylim()[0]])
    axes.plot(x, y, linestyle="--", color="0.5", linewidth=1, drawstyle="steps-pre", zorder=0)
    axes.set_xlabel("clean accuracy %")


def pareto_front(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points that no other beats in both, from left to right."""
    best = -np.inf
    kept = []
    for i in sorted(range(len(x)), key=lambda i: (-x[i], -y[i])):
        if y[i] > best:
            kept.append(i)
            best = y[i]
    return x[kept[::-1]], y[kept[::-1]]


def radii(data: pd.DataFrame, checkpoint: str = "last") -> Figure:
    """Robust accuracy over the radius, mean and standard deviation over seeds, a panel for each attack trained against."""
    rows = data[(data.checkpoint == checkpoint) & data.metric.str.match(r"curve/[\d.]+$")]
    rows = rows.assign(factor=rows.metric.str.removeprefix("curve/").astype(float), value=100 * rows.value)
    rows = rows.assign(cell=[f"{p} ({s})" if s else p for p, s in zip(rows.penalty, rows.setting, strict=True)])
    attacks, cells = (sorted(rows[axis].unique(), key=lambda name: (name != "none", name)) for axis in ("attack", "cell"))
    color, marker = (dict(zip(cells, cycle(values))) for values in (COLORS, MARKERS))
    figure = Figure(figsize=(3.4 * len(attacks) + 0.8, 3.4), layout="constrained")
    panels = figure.subplots(1, len(attacks), squeeze=False, sharey=True)[0]
    for panel, attack in zip(panels, attacks, strict=True):
        for cell, runs in rows[rows.attack == attack].groupby("cell"):
            by_factor = runs.groupby("factor").value
            mean, std = by_factor.mean(), by_factor.std().fillna(0)
            panel.plot(mean.index, mean, marker[cell], linestyle="-", color=color[cell], linewidth=1.2, markersize=3.5)
            panel.fill_between(mean.index, mean - std, mean + std, color=color[cell], alpha=0.15, linewidth=0)
        panel.axvline(1, color="0.5", linestyle=":", linewidth=1)
        panel.set_title(f"attack: {attack}", fontsize=9)
        panel.set_xlabel("radius, in eps")
        panel.set_ylim(0, 100)
        panel.set_xlim(0)
    panels[0].set_ylabel("robust accuracy %")
    handles = [Line2D([], [], color=color[name], marker=marker[name], markersize=4, label=f"penalty: {name}") for name in cells]
    legend(figure, handles, columns=4)
    return figure


def curves(records: Sequence[RunRecord]) -> Figure:
    """Validation accuracy over epochs, clean (solid) and under the validation attack (dashed), a panel for each attack."""
    attacks = list(dict.fromkeys(record.attack for record in records))
    penalties = sorted({record.penalty for record in records}, key=lambda name: (name != "none", name))
    color = dict(zip(penalties, cycle(COLORS)))
    figure = Figure(figsize=(3.4 * len(attacks) + 0.8, 3.4), layout="constrained")
    panels = figure.subplots(1, len(attacks), squeeze=False, sharey=True)[0]
    robust = f"val/{records[0].config['validation']['name']}"
    for panel, attack in zip(panels, attacks, strict=True):
        for penalty in penalties:
            runs = [record for record in records if (record.attack, record.penalty) == (attack, penalty)]
            for metric, style in (("val/clean", "-"), (robust, "--")):
                values = [record.curves[metric] for record in runs if metric in record.curves]
                if values:
                    # Cells of one name may differ in their epochs: the mean is over those that got so far.
                    longest = max(map(len, values))
                    stacked = np.array([[*line, *[np.nan] * (longest - len(line))] for line in values], dtype=float) * 100
                    panel.plot(range(1, longest + 1), np.nanmean(stacked, axis=0), style, color=color[penalty], linewidth=1.2)
        panel.set_title(f"attack: {attack}", fontsize=9)
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("validation accuracy %")
    handles = [Line2D([], [], color=color[name], label=f"penalty: {name}") for name in penalties]
    handles += [
        Line2D([], [], color="0.35", linestyle=style, label=label)
        for style, label in cast(Any, (("-", "clean"), ("--", robust[4:])))
    ]
    legend(figure, handles, columns=4)
    return figure
