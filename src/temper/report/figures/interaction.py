"""Interaction plot of attack and penalty: lines that are not parallel show an interaction."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from temper.report.figures.marks import axis_label, cell_statistics
from temper.report.figures.style import legend, series_entries, series_styles
from temper.report.records.cell_names import sort_names


def interaction(data: pd.DataFrame, robust: str = "test/worst_case", checkpoint: str = "last") -> Figure:
    """Draw clean and robust accuracy over the training attack, one line per penalty: mean and standard deviation over seeds.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        robust: metric of the robust accuracy.
        checkpoint: evaluated checkpoint.
    """
    metrics = ("test/clean", robust)
    table = cell_statistics(data, metrics, checkpoint)
    attacks, penalties = sort_names(table.attack), sort_names(table.label)
    styles = series_styles(penalties)
    offsets = np.linspace(-0.14, 0.14, len(penalties)) if len(penalties) > 1 else [0.0]  # error bars must not overlap
    figure = Figure(figsize=(max(3.6, 1.1 * len(attacks) + 1.4) * 2, 3.5), layout="constrained")
    for panel, metric in zip(figure.subplots(1, 2), metrics, strict=True):
        for offset, label in zip(offsets, penalties, strict=True):
            line = table[(table.label == label) & (table.metric == metric)]
            panel.errorbar(
                [attacks.index(attack) + offset for attack in line.attack],
                line["mean"],
                yerr=line["std"],
                **styles[label].line,
                markersize=5.5,
                markeredgecolor="white",
                markeredgewidth=0.4,
                linewidth=1.2,
                elinewidth=0.9,
                capsize=1.5,
            )
        panel.set_xticks(range(len(attacks)), attacks)
        panel.set_xlim(-0.4, len(attacks) - 0.6)
        panel.grid(False, axis="x")
        panel.set_xlabel("training attack")
        panel.set_title(axis_label(metric))
    legend(figure, series_entries("penalty", styles, markersize=4.5, linewidth=1.2), columns=4)
    return figure
