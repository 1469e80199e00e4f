"""What strength does: accuracy and cost over the root key `strength`, a line for each penalty."""

from collections.abc import Iterable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from temper.report.figures.style import Look, legend, looks, sample
from temper.report.records.cell_names import apart_from_strength, in_order
from temper.runs.record import RunRecord

SHOWN = {
    "test/clean": "clean accuracy %",
    "test/worst_case": "robust accuracy, worst case %",
    "cost/seconds": "training, seconds",
}
APART = 1.07  # lines stand beside each other by this factor, so that their error bars can be told apart


def strengths_of(records: Iterable[RunRecord]) -> dict[str, float]:
    """By digest, the strength of every cell with penalties; empty unless some of attack and penalty ran at several.

    A strength of 0 is no point of a logarithmic axis, and the same as no penalty.
    """
    found: dict[str, float] = {}
    groups: dict[tuple[str, str], set[float]] = {}
    for record in records:
        strength = float(record.config.get("strength", 1))
        if record.penalty != "none" and strength > 0:
            found[record.digest] = strength
            groups.setdefault((record.attack, record.penalty), set()).add(strength)
    return found if any(len(strengths) > 1 for strengths in groups.values()) else {}


def strength_figure(data: pd.DataFrame, strengths: Mapping[str, float], checkpoint: str = "last") -> Figure:
    """Clean accuracy, robust accuracy and seconds of training over strength, means and standard deviations over seeds.

    A row of panels for each attack trained against; its cell without penalties is a line across, in a band of its deviation.

    Args:
        strengths: by digest, as `strengths_of` gives them.
    """
    rows = data[data.metric.isin(SHOWN) & data.checkpoint.isin([checkpoint, "run"])]
    rows = rows[rows.digest.isin(strengths) | (rows.penalty == "none")]
    rows = rows.assign(
        strength=rows.digest.map(strengths),
        cell=[apart_from_strength(penalty, setting) for penalty, setting in zip(rows.penalty, rows.setting, strict=True)],
        value=rows.value.where(rows.metric == "cost/seconds", 100 * rows.value),
    )
    attacks, cells = in_order(rows.attack), in_order(rows.cell)
    look = looks(cells)
    figure = Figure(figsize=(8.6, 2.3 * len(attacks) + 0.9), layout="constrained")
    panels = figure.subplots(len(attacks), len(SHOWN), squeeze=False, sharex=True)
    for line, attack in zip(panels, attacks, strict=True):
        for panel, metric in zip(line, SHOWN, strict=True):
            _draw(panel, rows[(rows.attack == attack) & (rows.metric == metric)], cells, look)
        line[0].set_ylabel(f"attack: {attack}")
    for panel, title in zip(panels[0], SHOWN.values(), strict=True):
        panel.set_title(title, fontsize=9)
    for panel in panels[-1]:
        panel.set_xscale("log")
        panel.set_xlabel("strength")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for panel in panels[:, -1]:
        panel.set_ylim(bottom=0)  # seconds waver; from 0 on, that looks as small as it is
    swept = set(rows[rows.strength.notna()].cell)
    handles = [
        sample(f"penalty: {cell}", color=look[cell].color, marker=look[cell].marker, linestyle=look[cell].dashes, markersize=4)
        if cell in swept
        else sample(f"penalty: {cell}", color=look[cell].color, linestyle="--", linewidth=1.2)
        for cell in cells
    ]
    legend(figure, handles, columns=5)
    return figure


def _draw(panel: Axes, rows: pd.DataFrame, cells: Iterable[str], look: Mapping[str, Look]) -> None:
    swept = [cell for cell in cells if rows[rows.cell == cell].strength.notna().any()]
    for cell in cells:
        runs = rows[rows.cell == cell]
        if runs.empty:
            continue
        if cell not in swept:
            mean, std = runs.value.mean(), runs.value.std() if len(runs) > 1 else 0.0
            panel.axhline(mean, color=look[cell].color, linestyle="--", linewidth=1.2, zorder=1)
            panel.axhspan(mean - std, mean + std, color=look[cell].color, alpha=0.12, linewidth=0)
            continue
        by_strength = runs.groupby("strength").value
        means, stds = by_strength.mean(), by_strength.std().fillna(0)
        shift = APART ** (swept.index(cell) - (len(swept) - 1) / 2)
        panel.errorbar(
            means.index * shift,
            means,
            yerr=stds,
            color=look[cell].color,
            marker=look[cell].marker,
            linestyle=look[cell].dashes,
            markersize=4.5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            linewidth=1.2,
            elinewidth=1,
            capsize=1.5,
        )
