"""Robust accuracy over the perturbation radius, with lower bounds from the audit."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from temper.report.figures.marks import penalty_labels
from temper.report.figures.style import SeriesStyle, legend, legend_entry, series_entries, series_styles
from temper.report.records.cell_names import sort_names
from temper.report.records.long_format import evaluation_keys
from temper.runs.record import RunRecord

# Audit checks that are attacks. Each figure is the fraction of examples that only the stronger attack breaks. Several checks
# may break the same example, which is then counted more than once, so that the remaining accuracy is a lower bound.
STRONGER_ATTACKS = ("steps", "restarts", "gradient_free", "noise", "minimal_norm", "transfer")


def broken_by_audit(records: Sequence[RunRecord], suite: str, checkpoint: str) -> dict[tuple[str, str, int], float]:
    """Return an upper bound on the fraction of examples that the audit broke and the suite did not.

    The keys are the digest of the cell, the key of the evaluation and the seed.
    """
    fractions = {}
    for record in records:
        for key in evaluation_keys(record, suite):
            if audit := record.evaluations[key]["checkpoints"].get(checkpoint, {}).get("audit"):
                figures = (audit[check]["figure"] for check in STRONGER_ATTACKS if check in audit)
                fractions[record.digest, key, record.seed] = sum(figures)
    return fractions


def radii(data: pd.DataFrame, checkpoint: str = "last", broken: Mapping[tuple[str, str, int], float] | None = None) -> Figure:
    """Draw robust accuracy over the perturbation radius, mean and standard deviation over seeds, one panel per training attack.

    Where an audit exists, a panel below shows the robust accuracy at eps and the lower bound left by the audit's stronger
    attacks.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        checkpoint: evaluated checkpoint.
        broken: fractions as returned by `broken_by_audit`; None: no audit is shown.
    """
    rows = data[(data.checkpoint == checkpoint) & data.metric.str.match(r"curve/[\d.]+$")]
    rows = rows.assign(
        factor=rows.metric.str.removeprefix("curve/").astype(float), value=100 * rows.value, label=penalty_labels(rows)
    )
    keys = zip(rows.digest, rows.suite, rows.seed, strict=True)
    rows = rows.assign(bound=rows.value - [100 * (broken or {}).get(key, float("nan")) for key in keys])
    at_eps = rows[(rows.factor == 1) & rows.bound.notna()]
    attacks, cells = sort_names(rows.attack), sort_names(rows.label)
    styles = series_styles(cells)
    audited = 0 if at_eps.empty else 0.6 + 0.15 * len(cells)  # inches
    figure = Figure(figsize=(3.4 * len(attacks) + 0.8, 3.4 + audited), layout="constrained")
    ratios = [3.0, audited] if audited else [1.0]
    panels = figure.subplots(len(ratios), len(attacks), squeeze=False, sharex="row", sharey="row", height_ratios=ratios)
    for column, attack in enumerate(attacks):
        _draw_curves(panels[0, column], rows[rows.attack == attack], styles)
        panels[0, column].set_title(f"attack: {attack}")
        if audited:
            _draw_bounds(panels[1, column], at_eps[at_eps.attack == attack], styles)
    panels[0, 0].set_ylabel("robust accuracy (%)")
    entries = series_entries("penalty", styles, markersize=4, linewidth=1.2)
    if audited:
        entries.append(
            legend_entry("lower bound after the audit", color="0.35", marker="|", linewidth=3, alpha=0.6, markersize=8)
        )
    legend(figure, entries, columns=4)
    return figure


def _draw_curves(panel: Axes, rows: pd.DataFrame, styles: Mapping[str, SeriesStyle]) -> None:
    for cell in sort_names(rows.label):
        by_factor, style = rows[rows.label == cell].groupby("factor").value, styles[cell]
        mean, std = by_factor.mean(), by_factor.std().fillna(0)
        panel.plot(mean.index, mean, **style.line, linewidth=1.2, markersize=3.5)
        panel.fill_between(mean.index, mean - std, mean + std, color=style.color, alpha=0.15, linewidth=0)
    panel.axvline(1, color="0.5", linestyle=":", linewidth=1, zorder=0)
    panel.set_xlabel("perturbation radius (multiples of eps)")
    panel.set_ylim(0, 102)
    panel.set_xlim(0, 1.02 * rows.factor.max())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_bounds(panel: Axes, at_eps: pd.DataFrame, styles: Mapping[str, SeriesStyle]) -> None:
    """Draw the mean accuracy of each cell, with a bar down to the mean lower bound."""
    means = at_eps.groupby("label")[["bound", "value"]].mean()
    for place, cell in enumerate(styles):
        if cell in means.index:
            style, bound, value = styles[cell], means.bound[cell], means.value[cell]
            panel.plot([bound, value], [place, place], color=style.color, linewidth=3, alpha=0.6, solid_capstyle="butt")
            panel.plot(bound, place, "|", color=style.color, markersize=8, markeredgewidth=1.4)
            panel.plot(value, place, style.marker, color=style.color, markersize=4.5)
    panel.set_ylim(len(styles) - 0.4, -0.6)
    panel.set_yticks([])
    panel.xaxis.set_major_locator(MaxNLocator(6))
    panel.set_xlabel("robust accuracy at eps (%)")
