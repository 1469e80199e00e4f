"""How the weights of each kind of network are distributed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from temper.evaluation.metrics import NEAR_ZERO
from temper.models import effective_weights
from temper.report.figures.style import legend, looks, sample
from temper.report.records.representatives import Pick
from temper.training.modules import load

BINS = 61  # odd: one of them lies around zero


class Weights(NamedTuple):
    """The weights of one network that penalties act on, (n,): biases and norm layers apart."""

    title: str
    values: np.ndarray

    @property
    def near_zero(self) -> float:
        """The share of them below 1e-3 in magnitude."""
        return float((np.abs(self.values) < NEAR_ZERO).mean())


def kept_weights(picks: Sequence[Pick], checkpoint: str) -> list[Weights]:
    """Of every run whose checkpoint is kept."""
    found = []
    for pick in picks:
        if pick.checkpoint(checkpoint).is_file():
            parts = [weight.detach().flatten() for weight in effective_weights(load(pick.checkpoint(checkpoint))[0].net)]
            if parts:  # a frozen network from elsewhere has none
                found.append(Weights(pick.title.replace("\n", ": ", 1).replace("\n", " "), torch.cat(parts).numpy()))
    return found


def weights(shown: Sequence[Weights]) -> Figure:
    """The share of weights in each of many narrow bins, on a logarithmic scale, so that tails show beside the peak at zero."""
    figure = Figure(figsize=(5.6, 3.4 + 0.17 * len(shown)), layout="constrained")
    axes = figure.subplots()
    largest = max(float(np.abs(one.values).max()) for one in shown)
    edges = np.linspace(-largest, largest, BINS + 1)
    look = looks(one.title for one in shown)
    entries = []
    for one in shown:
        counts, _ = np.histogram(one.values, bins=edges)
        style = {"color": look[one.title].color, "linestyle": look[one.title].dashes, "linewidth": 1.2}
        # A bin without weights is a gap: nothing has no logarithm.
        axes.step((edges[:-1] + edges[1:]) / 2, np.where(counts, 100 * counts / len(one.values), np.nan), where="mid", **style)
        entries.append(sample(f"{one.title}; {100 * one.near_zero:.1f} % near zero", **style))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("value of a weight")
    axes.set_ylabel(f"share of the weights in each of {BINS} bins, %")
    legend(figure, entries, columns=1)
    return figure
