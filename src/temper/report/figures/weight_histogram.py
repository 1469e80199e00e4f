"""Histogram of the weights of one network of each kind."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from temper.evaluation.metrics import NEAR_ZERO
from temper.models import effective_weights
from temper.report.figures.style import legend, legend_entry, series_styles
from temper.report.records.representatives import RepresentativeRun
from temper.training.modules import load

BINS = 61  # odd, so that one bin is centered at zero


class Weights(NamedTuple):
    """Weights of one network that penalties apply to, (n,): all but biases and norm layers."""

    title: str
    values: np.ndarray

    @property
    def near_zero(self) -> float:
        """Fraction of weights below 1e-3 in magnitude."""
        return float((np.abs(self.values) < NEAR_ZERO).mean())


def kept_weights(runs: Sequence[RepresentativeRun], checkpoint: str) -> list[Weights]:
    """Return the weights of every run whose checkpoint file exists."""
    networks = []
    for run in runs:
        if run.checkpoint(checkpoint).is_file():
            parts = [weight.detach().flatten() for weight in effective_weights(load(run.checkpoint(checkpoint))[0].net)]
            if parts:  # a frozen external network has none
                networks.append(Weights(run.title.replace("\n", ": ", 1).replace("\n", " "), torch.cat(parts).numpy()))
    return networks


def weights(networks: Sequence[Weights]) -> Figure:
    """Draw the percentage of weights per bin on a logarithmic scale, which shows the tails as well as the peak at zero."""
    figure = Figure(figsize=(5.6, 3.4 + 0.17 * len(networks)), layout="constrained")
    axes = figure.subplots()
    largest = max(float(np.abs(network.values).max()) for network in networks)
    edges = np.linspace(-largest, largest, BINS + 1)
    styles = series_styles(network.title for network in networks)
    entries = []
    for network in networks:
        counts, _ = np.histogram(network.values, bins=edges)
        line = {"color": styles[network.title].color, "linestyle": styles[network.title].linestyle, "linewidth": 1.2}
        # Empty bins are gaps: zero has no logarithm.
        percentages = np.where(counts, 100 * counts / len(network.values), np.nan)
        axes.step((edges[:-1] + edges[1:]) / 2, percentages, where="mid", **line)
        entries.append(legend_entry(f"{network.title}; {100 * network.near_zero:.1f} % near zero", **line))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("weight")
    axes.set_ylabel(f"weights per bin, {BINS} bins (%)")
    legend(figure, entries, columns=1)
    return figure
