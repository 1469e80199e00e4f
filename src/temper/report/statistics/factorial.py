"""Attack x penalty as a factorial design: main effects, and the interaction of the two, called synergy.

On the probability scale, accuracies near 0 fake synergy and accuracies near 1 hide it: a penalty cannot lower an accuracy that
is 0 already, so its effect under adversarial training exceeds the sum of both. The logit scale has no such bounds, but there
the smallest accuracy, half an image, replaces everything below it. Cells near 0 are therefore flagged on both scales.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import logit
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from temper.report.statistics.metric_catalogue import is_accuracy
from temper.report.statistics.paired_differences import ROUNDING_ERROR, CellKey, Contrast, PairedRuns, share_settings

FLOOR = 0.03  # an accuracy below this reflects the threat rather than the cell


class FactorialBlock(NamedTuple):
    """Four cells: an attack with a penalty, each of the two alone, and neither."""

    combined: CellKey
    adversarial: CellKey
    regularized: CellKey
    standard: CellKey

    @property
    def effects(self) -> dict[str, Contrast]:
        """Contrasts of the synergy and the main effects (of each axis, the mean over both options of the other)."""
        return {
            "main attack": dict(zip(self, (0.5, 0.5, -0.5, -0.5), strict=True)),
            "main penalty": dict(zip(self, (0.5, -0.5, 0.5, -0.5), strict=True)),
            "synergy": dict(zip(self, (1.0, -1.0, -1.0, 1.0), strict=True)),
        }


def factorial_blocks(runs: PairedRuns) -> list[FactorialBlock]:
    """Return a block for every cell with attack and penalty that has exactly one partner of each of the other three types."""
    blocks = []
    for cell in runs.cells:
        if "none" in (cell.attack, cell.penalty):
            continue
        changes: tuple[dict[str, str], ...] = ({"penalty": "none"}, {"attack": "none"}, {"attack": "none", "penalty": "none"})
        partners = [runs.partners(cell, changed) for changed in changes]
        if all(len(each) == 1 for each in partners):
            blocks.append(FactorialBlock(cell, *(each[0] for each in partners)))
    return blocks


def on_logit_scale(runs: PairedRuns, examples: int) -> PairedRuns:
    """Return the accuracies as log odds, without all other metrics.

    k correct of N images count as (k + 1/2) / (N + 1), which keeps accuracies of 0 and 1 finite.

    Args:
        runs: metrics of the study.
        examples: N, the number of test images.
    """
    kept = [position for position, metric in enumerate(runs.metrics) if is_accuracy(metric)]
    fractions = (runs.values[:, :, kept] * examples + 0.5) / (examples + 1)
    return runs._replace(metrics=[runs.metrics[position] for position in kept], values=logit(fractions))


def floor_notes(runs: PairedRuns, cells: Iterable[CellKey]) -> dict[str, str]:
    """Return notes on cells whose accuracy is so near 0 that their synergy may be an artifact of the floor.

    Args:
        runs: metrics of the study.
        cells: cells of a contrast.

    Returns:
        A note by accuracy; empty if no cell is below `FLOOR`.
    """
    cells = list(cells)
    values = runs.values[[runs.cells.index(cell) for cell in cells]]
    present = np.isfinite(values)
    means = np.where(present, values, 0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    low = present.any(axis=1) & (means < FLOOR) & [is_accuracy(metric) for metric in runs.metrics]
    notes = {}
    for metric in low.any(axis=0).nonzero()[0]:
        names = [f"{cells[cell].name} has {100 * means[cell, metric]:.1f} %" for cell in low[:, metric].nonzero()[0]]
        notes[runs.metrics[metric]] = f"floor effect: {', '.join(names)}"
    return notes


def two_way_anova(runs: PairedRuns, metric: str) -> pd.DataFrame | None:
    """Compute a two-way analysis of variance with the seed as a block (Type II sums of squares).

    Args:
        runs: metrics of the study.
        metric: name of the metric.

    Returns:
        One row per factor, with columns factor, df, sum_sq, eta_sq (partial: its fraction of the sum of its own and the
        residual sum of squares), F, p. None if the design is incomplete (a cell or a seed is missing, a cell has several
        settings, cells differ in more than their names, or an axis has one option) or there is no residual variance.
    """
    if metric not in runs.metrics:
        return None
    values = runs.values[:, :, runs.metrics.index(metric)]
    # Cells that only another suite evaluated have no value here and do not belong to the design.
    present = np.isfinite(values).any(axis=1)
    cells, values = [cell for cell, known in zip(runs.cells, present, strict=True) if known], values[present]
    attacks, penalties = ({getattr(cell, axis) for cell in cells} for axis in ("attack", "penalty"))
    complete = len(cells) == len(attacks) * len(penalties) == len({cell[:2] for cell in cells})
    if not complete or not share_settings(cells) or min(len(attacks), len(penalties), len(runs.seeds)) < 2:
        return None
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return None
    rows = [
        (cell.attack, cell.penalty, str(seed), value)
        for cell, series in zip(cells, values, strict=True)
        for seed, value in zip(runs.seeds, series, strict=True)
    ]
    model = ols("value ~ C(attack) * C(penalty) + C(seed)", pd.DataFrame(rows, columns=["attack", "penalty", "seed", "value"]))
    table = anova_lm(model.fit(), typ=2)
    residual = table.loc["Residual", "sum_sq"]
    if residual <= ROUNDING_ERROR * table.sum_sq.sum():
        return None
    table.index = table.index.str.replace(r"C\((\w+)\)", r"\1", regex=True).str.replace(":", " x ")
    table = table.drop(index="Residual").rename(columns={"PR(>F)": "p"})
    table["eta_sq"] = table.sum_sq / (table.sum_sq + residual)
    return table.rename_axis("factor").reset_index()[["factor", "df", "sum_sq", "eta_sq", "F", "p"]]
