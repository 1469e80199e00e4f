"""Robust accuracy over the radius, and how much of it the audit believes."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from temper.report.figures.marks import labels
from temper.report.figures.style import Look, legend, looks, sample
from temper.report.records.cell_names import in_order
from temper.report.records.long_format import evaluations_of
from temper.runs.record import RunRecord

# Checks that are attacks: each figure is a share of the examples that fell to a stronger one alone. Those that can be the same
# examples count twice, so that what is left is a lower bound.
STRONGER = ("steps", "restarts", "gradient_free", "noise", "minimal_norm", "transfer")


def broken_more(records: Sequence[RunRecord], suite: str, checkpoint: str) -> dict[tuple[str, str, int], float]:
    """By cell, evaluation and seed: the share of examples, at most, that the audit broke beyond its suite."""
    found = {}
    for record in records:
        for key in evaluations_of(record, suite):
            if audit := record.evaluations[key]["checkpoints"].get(checkpoint, {}).get("audit"):
                figures = (audit[check]["figure"] for check in STRONGER if check in audit)
                found[record.digest, key, record.seed] = sum(figures)
    return found


def radii(data: pd.DataFrame, checkpoint: str = "last", broken: Mapping[tuple[str, str, int], float] | None = None) -> Figure:
    """Robust accuracy over the radius, mean and standard deviation over seeds, a panel for each attack trained against. Below,
    where an audit looked: robust accuracy at eps, and what the audit's stronger attacks left of it at least.

    Args:
        broken: as `broken_more` gives it; None: no audit is shown.
    """
    rows = data[(data.checkpoint == checkpoint) & data.metric.str.match(r"curve/[\d.]+$")]
    rows = rows.assign(factor=rows.metric.str.removeprefix("curve/").astype(float), value=100 * rows.value, label=labels(rows))
    keys = zip(rows.digest, rows.suite, rows.seed, strict=True)
    rows = rows.assign(left=rows.value - [100 * (broken or {}).get(key, float("nan")) for key in keys])
    at_eps = rows[(rows.factor == 1) & rows.left.notna()]
    attacks, cells = in_order(rows.attack), in_order(rows.label)
    look = looks(cells)
    audited = 0 if at_eps.empty else 0.6 + 0.15 * len(cells)  # inches
    figure = Figure(figsize=(3.4 * len(attacks) + 0.8, 3.4 + audited), layout="constrained")
    ratios = [3.0, audited] if audited else [1.0]
    panels = figure.subplots(len(ratios), len(attacks), squeeze=False, sharex="row", sharey="row", height_ratios=ratios)
    for column, attack in enumerate(attacks):
        _ladder(panels[0, column], rows[rows.attack == attack], look)
        panels[0, column].set_title(f"attack: {attack}")
        if audited:
            _bounds(panels[1, column], at_eps[at_eps.attack == attack], look)
    panels[0, 0].set_ylabel("robust accuracy, %")
    entries = [
        sample(f"penalty: {name}", color=one.color, marker=one.marker, linestyle=one.dashes, markersize=4, linewidth=1.2)
        for name, one in look.items()
    ]
    if audited:
        entries.append(
            sample("audit: at least so much is left", color="0.35", marker="|", linewidth=3, alpha=0.6, markersize=8)
        )
    legend(figure, entries, columns=4)
    return figure


def _ladder(panel: Axes, rows: pd.DataFrame, look: Mapping[str, Look]) -> None:
    for cell in in_order(rows.label):
        by_factor, one = rows[rows.label == cell].groupby("factor").value, look[cell]
        mean, std = by_factor.mean(), by_factor.std().fillna(0)
        panel.plot(mean.index, mean, one.marker, linestyle=one.dashes, color=one.color, linewidth=1.2, markersize=3.5)
        panel.fill_between(mean.index, mean - std, mean + std, color=one.color, alpha=0.15, linewidth=0)
    panel.axvline(1, color="0.5", linestyle=":", linewidth=1, zorder=0)
    panel.set_xlabel("radius, in eps")
    panel.set_ylim(0, 102)
    panel.set_xlim(0, 1.02 * rows.factor.max())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _bounds(panel: Axes, at_eps: pd.DataFrame, look: Mapping[str, Look]) -> None:
    """A line for each cell: its mean accuracy, and a bar down to the mean that is left."""
    means = at_eps.groupby("label")[["left", "value"]].mean()
    for place, cell in enumerate(look):
        if cell in means.index:
            one, left, value = look[cell], means.left[cell], means.value[cell]
            panel.plot([left, value], [place, place], color=one.color, linewidth=3, alpha=0.6, solid_capstyle="butt")
            panel.plot(left, place, "|", color=one.color, markersize=8, markeredgewidth=1.4)
            panel.plot(value, place, one.marker, color=one.color, markersize=4.5)
    panel.set_ylim(len(look) - 0.4, -0.6)
    panel.set_yticks([])
    panel.xaxis.set_major_locator(MaxNLocator(6))
    panel.set_xlabel("robust accuracy at eps, %")
