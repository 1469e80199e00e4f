"""Heat map of the grid of attacks and penalties, one panel per metric."""

import math
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from temper.report.figures.marks import axis_label, cell_statistics
from temper.report.figures.style import SEQUENTIAL, WIDEST, text_color_on
from temper.report.records.cell_names import sort_names
from temper.report.statistics.metric_catalogue import describe_metric

HEADLINES = (
    "test/clean",
    "test/worst_case",
    "curve/area",
    "corruptions/mean",
    "gap/clean",
    "gap/robust",
    "test/ece",
    "test/sensitivity_adversarial",
    "weights/near_zero",
    "cost/seconds",
)
CELL = (0.62, 0.34)  # inches
WRAP = 40  # characters per line of a penalty with its setting


def heatmap(data: pd.DataFrame, metrics: Sequence[str] = HEADLINES, checkpoint: str = "last") -> Figure:
    """Draw a panel for each metric that the study has: training attacks across, penalties down.

    Each cell shows mean and standard deviation over seeds. The color scale of a panel runs from its lowest to its highest
    mean. Hatched cells have no run.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        metrics: metrics to show.
        checkpoint: evaluated checkpoint.
    """
    table = cell_statistics(data, metrics, checkpoint)
    attacks, penalties = sort_names(table.attack), sort_names(table.label)
    shown = [metric for metric in metrics if metric in set(table.metric)]
    margin = 0.075 * min(max(map(len, penalties)), WRAP) + 0.5
    width = max(CELL[0] * len(attacks), 1.15) + 0.12
    columns = max(1, min(len(shown), math.floor((WIDEST - min(margin, WIDEST / 2)) / width)))
    rows = math.ceil(len(shown) / columns)
    height = sum(max(CELL[1], 0.14 * len(textwrap.wrap(penalty, WRAP))) for penalty in penalties)
    figure = Figure(figsize=(margin + columns * width, rows * (height + 0.75)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for panel, metric in zip(panels, shown, strict=False):
        _draw(panel, table[table.metric == metric], metric, attacks, penalties)
        title = axis_label(metric).replace(" (", "\N{NO-BREAK SPACE}(")  # keeps the unit with the last word
        panel.set_title("\n".join(textwrap.wrap(title, round(width / 0.075))), fontsize=8.5)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    figure.supylabel("penalty", fontsize=8.5)
    note = "training attack; the color scale of each panel runs from its lowest to its highest mean"
    figure.supxlabel("\n".join(textwrap.wrap(note, round(figure.get_figwidth() / 0.07))), fontsize=8.5)
    return figure


def _draw(panel: Axes, table: pd.DataFrame, metric: str, attacks: Sequence[str], penalties: Sequence[str]) -> None:
    digits = describe_metric(metric).precision
    low, high = table["mean"].min(), table["mean"].max()
    # The scale extends beyond both ends: white is reserved for the page, and a single value gets a medium color.
    scale = Normalize(low - 0.15 * (high - low or 1), high + 0.1 * (high - low or 1))
    colors = matplotlib.colormaps[SEQUENTIAL]
    means = np.full((len(penalties), len(attacks)), np.nan)
    for attack, label, mean, std, n in zip(table.attack, table.label, table["mean"], table["std"], table.n, strict=True):
        x, y = attacks.index(attack), penalties.index(label)
        means[y, x] = mean
        color = text_color_on(colors(scale(mean)))
        panel.text(x, y - 0.13 * (n > 1), f"{mean:.{digits}f}", ha="center", va="center", color=color, fontsize=8)
        if n > 1:
            panel.text(x, y + 0.25, f"± {std:.{digits}f}", ha="center", va="center", color=color, fontsize=6)
    edges = [np.arange(len(names) + 1) - 0.5 for names in (attacks, penalties)]
    panel.pcolormesh(*edges, np.ma.masked_invalid(means), cmap=colors, norm=scale, edgecolor="white", linewidth=1.2)
    for y, x in np.argwhere(np.isnan(means)):
        panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="none", edgecolor="0.7", hatch="////", linewidth=0))
    panel.set_xticks(range(len(attacks)), attacks, fontsize=8)
    panel.set_yticks(range(len(penalties)), [textwrap.fill(penalty, WRAP) for penalty in penalties], fontsize=8)
    panel.set_ylim(len(penalties) - 0.5, -0.5)
    panel.tick_params(length=0, labelbottom=True)
    panel.grid(False)
    panel.spines[:].set_visible(False)
