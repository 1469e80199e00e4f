"""Accuracy and training time over the root key `strength`, one line per penalty."""

from collections.abc import Iterable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from temper.report.figures.marks import axis_label
from temper.report.figures.style import SeriesStyle, legend, legend_entry, series_styles
from temper.report.records.cell_names import name_without_strength, sort_names
from temper.runs.record import RunRecord

METRICS = ("test/clean", "test/worst_case", "cost/seconds")
OFFSET = 1.07  # factor between neighboring lines, so that their error bars do not overlap


def strengths_of(records: Iterable[RunRecord]) -> dict[str, float]:
    """Return the strength of every cell with penalties, by digest; empty unless an attack and penalty ran at several strengths.

    A strength of 0 is left out: it has no place on a logarithmic axis, and equals no penalty.
    """
    by_digest: dict[str, float] = {}
    groups: dict[tuple[str, str], set[float]] = {}
    for record in records:
        strength = float(record.config.get("strength", 1))
        if record.penalty != "none" and strength > 0:
            by_digest[record.digest] = strength
            groups.setdefault((record.attack, record.penalty), set()).add(strength)
    return by_digest if any(len(strengths) > 1 for strengths in groups.values()) else {}


def strength_figure(data: pd.DataFrame, strengths: Mapping[str, float], checkpoint: str = "last") -> Figure:
    """Draw clean accuracy, robust accuracy and training time over strength, means and standard deviations over seeds.

    Each training attack is a row of panels; its cell without penalties is a horizontal line with a band of its deviation.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        strengths: strengths as returned by `strengths_of`.
        checkpoint: evaluated checkpoint.
    """
    rows = data[data.metric.isin(METRICS) & data.checkpoint.isin([checkpoint, "run"])]
    rows = rows[rows.digest.isin(strengths) | (rows.penalty == "none")]
    rows = rows.assign(
        strength=rows.digest.map(strengths),
        cell=[name_without_strength(penalty, setting) for penalty, setting in zip(rows.penalty, rows.setting, strict=True)],
        value=rows.value.where(rows.metric == "cost/seconds", 100 * rows.value),
    )
    attacks, cells = sort_names(rows.attack), sort_names(rows.cell)
    styles = series_styles(cells)
    figure = Figure(figsize=(8.6, 2.3 * len(attacks) + 0.9), layout="constrained")
    panels = figure.subplots(len(attacks), len(METRICS), squeeze=False, sharex=True)
    for line, attack in zip(panels, attacks, strict=True):
        for panel, metric in zip(line, METRICS, strict=True):
            _draw(panel, rows[(rows.attack == attack) & (rows.metric == metric)], styles)
        line[0].set_ylabel(f"attack: {attack}")
    for panel, metric in zip(panels[0], METRICS, strict=True):
        panel.set_title(axis_label(metric), fontsize=9)
    for panel in panels[-1]:
        panel.set_xscale("log")
        panel.set_xlabel("strength")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for panel in panels[:, -1]:
        panel.set_ylim(bottom=0)  # keeps fluctuations of the training time in proportion
    swept = set(rows[rows.strength.notna()].cell)
    entries = [
        legend_entry(f"penalty: {cell}", **style.line, markersize=4)
        if cell in swept
        else legend_entry(f"penalty: {cell}", color=style.color, linestyle="--", linewidth=1.2)
        for cell, style in styles.items()
    ]
    legend(figure, entries, columns=5)
    return figure


def _draw(panel: Axes, rows: pd.DataFrame, styles: Mapping[str, SeriesStyle]) -> None:
    swept = [cell for cell in styles if rows[rows.cell == cell].strength.notna().any()]
    for cell, style in styles.items():
        runs = rows[rows.cell == cell]
        if runs.empty:
            continue
        if cell not in swept:
            mean, std = runs.value.mean(), runs.value.std() if len(runs) > 1 else 0.0
            panel.axhline(mean, color=style.color, linestyle="--", linewidth=1.2, zorder=1)
            panel.axhspan(mean - std, mean + std, color=style.color, alpha=0.12, linewidth=0)
            continue
        by_strength = runs.groupby("strength").value
        means, stds = by_strength.mean(), by_strength.std().fillna(0)
        offset = OFFSET ** (swept.index(cell) - (len(swept) - 1) / 2)
        panel.errorbar(
            means.index * offset,
            means,
            yerr=stds,
            **style.line,
            markersize=4.5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            linewidth=1.2,
            elinewidth=1,
            capsize=1.5,
        )
