"""The grid as a map: what every cell reached, metric by metric."""

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

from temper.report.figures.marks import in_words, statistics
from temper.report.figures.style import SEQUENTIAL, WIDEST, readable_on
from temper.report.records.cell_names import in_order
from temper.report.statistics.metric_catalogue import describe

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
WRAPPED = 40  # characters of a penalty with its setting in a line


def heatmap(data: pd.DataFrame, metrics: Sequence[str] = HEADLINES, checkpoint: str = "last") -> Figure:
    """A panel for each metric that the study measured: attacks across, penalties down, mean and standard deviation over seeds
    printed in each cell. Colour runs from a panel's least to its greatest mean; hatched cells have no run."""
    found = statistics(data, metrics, checkpoint)
    attacks, rows = in_order(found.attack), in_order(found.label)
    shown = [metric for metric in metrics if metric in set(found.metric)]
    margin = 0.075 * min(max(map(len, rows)), WRAPPED) + 0.5
    width = max(CELL[0] * len(attacks), 1.15) + 0.12
    columns = max(1, min(len(shown), math.floor((WIDEST - min(margin, WIDEST / 2)) / width)))
    lines = math.ceil(len(shown) / columns)
    height = sum(max(CELL[1], 0.14 * len(textwrap.wrap(row, WRAPPED))) for row in rows)
    figure = Figure(figsize=(margin + columns * width, lines * (height + 0.75)), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for panel, metric in zip(panels, shown, strict=False):
        _map(panel, found[found.metric == metric], metric, attacks, rows)
        words, _, unit = in_words(metric).rpartition(", ")
        whole = f"{words},\N{NO-BREAK SPACE}{unit}" if words else unit
        panel.set_title("\n".join(textwrap.wrap(whole, round(width / 0.075))), fontsize=8.5)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    figure.supylabel("penalty", fontsize=8.5)
    about = "attack trained against; colour runs from the least to the greatest mean of each panel"
    figure.supxlabel("\n".join(textwrap.wrap(about, round(figure.get_figwidth() / 0.07))), fontsize=8.5)
    return figure


def _map(panel: Axes, found: pd.DataFrame, metric: str, attacks: Sequence[str], rows: Sequence[str]) -> None:
    digits = describe(metric).precision
    least, greatest = found["mean"].min(), found["mean"].max()
    # A little off the ends of the map: white is for the page. One value alone is neither little nor much.
    scale = Normalize(least - 0.15 * (greatest - least or 1), greatest + 0.1 * (greatest - least or 1))
    colors = matplotlib.colormaps[SEQUENTIAL]
    means = np.full((len(rows), len(attacks)), np.nan)
    for attack, label, mean, std, n in zip(found.attack, found.label, found["mean"], found["std"], found.n, strict=True):
        x, y = attacks.index(attack), rows.index(label)
        means[y, x] = mean
        ink = readable_on(colors(scale(mean)))
        panel.text(x, y - 0.13 * (n > 1), f"{mean:.{digits}f}", ha="center", va="center", color=ink, fontsize=8)
        if n > 1:
            panel.text(x, y + 0.25, f"± {std:.{digits}f}", ha="center", va="center", color=ink, fontsize=6)
    edges = [np.arange(len(names) + 1) - 0.5 for names in (attacks, rows)]
    panel.pcolormesh(*edges, np.ma.masked_invalid(means), cmap=colors, norm=scale, edgecolor="white", linewidth=1.2)
    for y, x in np.argwhere(np.isnan(means)):
        panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="none", edgecolor="0.7", hatch="////", linewidth=0))
    panel.set_xticks(range(len(attacks)), attacks, fontsize=8)
    panel.set_yticks(range(len(rows)), [textwrap.fill(row, WRAPPED) for row in rows], fontsize=8)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.tick_params(length=0, labelbottom=True)
    panel.grid(False)
    panel.spines[:].set_visible(False)
