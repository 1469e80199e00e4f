"""Whether penalty and attack add up: lines that are not parallel are an interaction."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from temper.report.figures.marks import in_words, statistics
from temper.report.figures.style import legend, looks, sample
from temper.report.records.cell_names import in_order


def interaction(data: pd.DataFrame, robust: str = "test/worst_case", checkpoint: str = "last") -> Figure:
    """Clean and robust accuracy over the attack trained against, a line for each penalty: mean and standard deviation over
    seeds."""
    metrics = ("test/clean", robust)
    found = statistics(data, metrics, checkpoint)
    attacks, rows = in_order(found.attack), in_order(found.label)
    look = looks(rows)
    apart = np.linspace(-0.14, 0.14, len(rows)) if len(rows) > 1 else [0.0]  # so that error bars stand beside each other
    figure = Figure(figsize=(max(3.6, 1.1 * len(attacks) + 1.4) * 2, 3.5), layout="constrained")
    for panel, metric in zip(figure.subplots(1, 2), metrics, strict=True):
        for shift, label in zip(apart, rows, strict=True):
            line = found[(found.label == label) & (found.metric == metric)]
            panel.errorbar(
                [attacks.index(attack) + shift for attack in line.attack],
                line["mean"],
                yerr=line["std"],
                color=look[label].color,
                marker=look[label].marker,
                linestyle=look[label].dashes,
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
        panel.set_xlabel("attack trained against")
        panel.set_title(in_words(metric))
    entries = [
        sample(f"penalty: {label}", color=one.color, marker=one.marker, linestyle=one.dashes, markersize=4.5, linewidth=1.2)
        for label, one in look.items()
    ]
    legend(figure, entries, columns=4)
    return figure
