"""Attack x penalty as a factorial design: main effects, and the interaction, which is the synergy of the pair.

On the probability scale an accuracy near 0 fakes synergy, and one near 1 hides it: a penalty cannot lower what is at 0
already, so that whatever it does under adversarial training looks like more than the sum. The logit scale has no such ends,
but there the smallest share, half an image, stands for everything below it; so a cell on the floor is flagged on both.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import logit
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from temper.report.statistics.metric_catalogue import is_accuracy
from temper.report.statistics.paired_differences import SAME, CellKey, Contrast, PairedRuns, are_alike

FLOOR = 0.03  # an accuracy below it is more the threat's doing than the cell's


class FactorialBlock(NamedTuple):
    """A penalty under an attack, and what lacks one of the two or both."""

    combined: CellKey
    adversarial: CellKey
    regularized: CellKey
    standard: CellKey

    @property
    def effects(self) -> dict[str, Contrast]:
        """Main effects (of each axis, a mean over both options of the other) and the synergy."""
        return {
            "main attack": dict(zip(self, (0.5, 0.5, -0.5, -0.5), strict=True)),
            "main penalty": dict(zip(self, (0.5, -0.5, 0.5, -0.5), strict=True)),
            "synergy": dict(zip(self, (1.0, -1.0, -1.0, 1.0), strict=True)),
        }


def factorial_blocks(runs: PairedRuns) -> list[FactorialBlock]:
    """Every cell with an attack and a penalty whose three partners are in the study, one of each."""
    found = []
    for cell in runs.cells:
        if "none" in (cell.attack, cell.penalty):
            continue
        moves: tuple[dict[str, str], ...] = ({"penalty": "none"}, {"attack": "none"}, {"attack": "none", "penalty": "none"})
        partners = [runs.partners(cell, moved) for moved in moves]
        if all(len(each) == 1 for each in partners):
            found.append(FactorialBlock(cell, *(each[0] for each in partners)))
    return found


def on_logit_scale(runs: PairedRuns, examples: int) -> PairedRuns:
    """Accuracies alone, as log odds; k right ones of N count as (k + 1/2) / (N + 1), so that none and all are finite.

    Args:
        examples: N, images in the test set.
    """
    kept = [position for position, metric in enumerate(runs.metrics) if is_accuracy(metric)]
    shares = (runs.values[:, :, kept] * examples + 0.5) / (examples + 1)
    return runs._replace(metrics=[runs.metrics[position] for position in kept], values=logit(shares))


def floors(runs: PairedRuns, cells: Iterable[CellKey]) -> dict[str, str]:
    """By accuracy: which of these cells lies so near 0 that a synergy of theirs may be the floor's; none where none does."""
    cells = list(cells)
    values = runs.values[[runs.cells.index(cell) for cell in cells]]
    there = np.isfinite(values)
    means = np.where(there, values, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    low = there.any(axis=1) & (means < FLOOR) & [is_accuracy(metric) for metric in runs.metrics]
    said = {}
    for metric in low.any(axis=0).nonzero()[0]:
        names = [f"{cells[cell].name} has {100 * means[cell, metric]:.1f} %" for cell in low[:, metric].nonzero()[0]]
        said[runs.metrics[metric]] = f"on the floor: {', '.join(names)}"
    return said


def factors(runs: PairedRuns, metric: str) -> pd.DataFrame | None:
    """Two-way analysis of variance with the seed as a block (Type II sums of squares): one row per factor.

    Columns: factor, df, sum_sq, eta_sq (partial: its share of what it and the residual explain), F, p.

    Returns:
        None where the design is not complete: a cell or a seed is missing, a cell exists in several settings, cells differ in
        more than their names, or an axis has one option; or where nothing is left to tell an effect from.
    """
    if metric not in runs.metrics:
        return None
    values = runs.values[:, :, runs.metrics.index(metric)]
    # A cell that only another suite evaluated, for what this one lacks, is no cell of this design.
    there = np.isfinite(values).any(axis=1)
    cells, values = [cell for cell, known in zip(runs.cells, there, strict=True) if known], values[there]
    attacks, penalties = ({getattr(cell, axis) for cell in cells} for axis in ("attack", "penalty"))
    complete = len(cells) == len(attacks) * len(penalties) == len({cell[:2] for cell in cells})
    if not complete or not are_alike(cells) or min(len(attacks), len(penalties), len(runs.seeds)) < 2:
        return None
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return None
    rows = [
        (cell.attack, cell.penalty, str(seed), value)
        for cell, series in zip(cells, values, strict=True)
        for seed, value in zip(runs.seeds, series, strict=True)
    ]
    model = ols("value ~ C(attack) * C(penalty) + C(seed)", pd.DataFrame(rows, columns=["attack", "penalty", "seed", "value"]))
    found = anova_lm(model.fit(), typ=2)
    residual = found.loc["Residual", "sum_sq"]
    if residual <= SAME * found.sum_sq.sum():
        return None
    found.index = found.index.str.replace(r"C\((\w+)\)", r"\1", regex=True).str.replace(":", " x ")
    found = found.drop(index="Residual").rename(columns={"PR(>F)": "p"})
    found["eta_sq"] = found.sum_sq / (found.sum_sq + residual)
    return found.rename_axis("factor").reset_index()[["factor", "df", "sum_sq", "eta_sq", "F", "p"]]
