"""Validation accuracy over epochs, and robust overfitting."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from temper.config.cell import NOT_IDENTITY
from temper.report.figures.style import COLORS, legend, legend_entry
from temper.report.records.cell_names import name_sort_key, sort_names
from temper.report.records.long_format import differing_settings
from temper.report.tables.formatting import penalty_label
from temper.runs.record import RunRecord

MAX_COLUMNS = 6
CLEAN: dict[str, Any] = {"color": COLORS[1], "linestyle": (0, (5, 1.5))}
ROBUST: dict[str, Any] = {"color": COLORS[0], "linestyle": "-"}


def curves(records: Sequence[RunRecord]) -> Figure:
    """Draw clean and robust validation accuracy over epochs, one panel per cell: mean over seeds, standard deviation as a band.

    The best and the last epoch of the robust accuracy are marked, and their difference is robust overfitting (Rice et al.
    2020, https://arxiv.org/abs/2002.11569).
    """
    cells = _runs_by_cell(records)
    attacks, names = (sort_names(cell[axis] for cell in cells) for axis in (0, 1))
    columns, rows = min(len(names), MAX_COLUMNS), -(-len(names) // MAX_COLUMNS)  # rows of panels for each attack
    lines = rows * len(attacks)
    titles = {cell: textwrap.wrap(" x ".join(cell), 22) for cell in cells}
    height = 1.3 + 0.12 * (max(map(len, titles.values())) - 1)  # inches
    figure = Figure(figsize=(max(1.38 * columns, 2.6) + 0.5, max(height * lines, 1.9) + 0.6), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    robust = f"val/{records[0].config['validation']['name']}"
    for panel in panels.ravel():
        panel.set_visible(False)
    bottom: dict[int, Axes] = {}
    for attack, name in cells:
        number = names.index(name)
        panel = panels[rows * attacks.index(attack) + number // MAX_COLUMNS, number % MAX_COLUMNS]
        panel.set_visible(True)
        bottom[number % MAX_COLUMNS] = panel
        _draw(panel, cells[attack, name], robust)
        panel.set_title("\n".join(titles[attack, name]), fontsize=7.5)
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=2))
    for panel in bottom.values():
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("epoch", fontsize=8)
    figure.supylabel("validation accuracy (%)", fontsize=9)
    mark = {"color": ROBUST["color"], "linestyle": "", "markersize": 5}
    entries = [
        legend_entry("clean", **CLEAN, linewidth=1.2),
        legend_entry(f"robust ({robust[4:]})", **ROBUST, linewidth=1.2),
        legend_entry("best robust epoch", marker="^", fillstyle="none", **mark),
        legend_entry("last epoch; number: robust overfitting (points)", marker="o", **mark),
    ]
    legend(figure, entries, columns=4)
    return figure


def _runs_by_cell(records: Sequence[RunRecord]) -> dict[tuple[str, str], list[RunRecord]]:
    """Return the runs by attack and by penalty with its setting; runs of a cell differ in their seed only."""
    groups: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for record in records:
        values = {name: value for name, value in record.config.items() if name not in NOT_IDENTITY}
        groups.setdefault((record.attack, record.penalty), {})[record.digest] = values
    settings = differing_settings(groups.values())
    cells: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        cells.setdefault((record.attack, penalty_label(record.penalty, settings[record.digest])), []).append(record)
    return dict(sorted(cells.items(), key=lambda cell: [name_sort_key(name) for name in cell[0]]))


def _draw(panel: Axes, runs: Sequence[RunRecord], robust: str) -> None:
    for metric, style in (("val/clean", CLEAN), (robust, ROBUST)):
        values = [record.curves[metric] for record in runs if metric in record.curves]
        # The mean at an epoch is over the runs that reached it.
        by_epoch = 100 * pd.DataFrame(values, dtype=float)
        by_epoch = by_epoch.where(np.isfinite(by_epoch))
        if not by_epoch.notna().any(axis=None):
            continue
        mean, std = by_epoch.mean().to_numpy(), by_epoch.std().fillna(0).to_numpy()
        epochs = np.arange(1, len(mean) + 1)
        panel.plot(epochs, mean, linewidth=1.2, **style)
        panel.fill_between(epochs, mean - std, mean + std, color=style["color"], alpha=0.2, linewidth=0)
        if metric == robust and np.isfinite(mean[-1]):
            _draw_overfitting(panel, epochs, mean)


def _draw_overfitting(panel: Axes, epochs: np.ndarray, mean: np.ndarray) -> None:
    """Mark the best and the last epoch of a curve, and print the difference of their accuracies."""
    best = int(np.nanargmax(mean))
    color = ROBUST["color"]
    panel.plot([epochs[best], epochs[-1], epochs[-1]], [mean[best], mean[best], mean[-1]], ":", color="0.3", linewidth=0.9)
    panel.plot(epochs[best], mean[best], "^", color=color, markerfacecolor="white", markersize=4.5)
    panel.plot(epochs[-1], mean[-1], "o", color=color, markersize=3.5)
    panel.annotate(
        f"{mean[best] - mean[-1]:.1f}",
        (epochs[-1], (mean[best] + mean[-1]) / 2),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
        annotation_clip=False,
    )
