"""Contrasts between cells: the two sides of a claim, and the four kinds of training against one another."""

from collections.abc import Mapping
from itertools import product

import numpy as np
from pydantic import BaseModel, ConfigDict

from temper.config.cell import Kind
from temper.report.records.cell_names import Option, drop_penalties
from temper.report.statistics.mean_and_sd import MeanAndSd
from temper.report.statistics.paired_differences import CellKey, Contrast, PairedRuns, mean_of_pairs

# Options that `any` excludes: no attack or penalty, and random noise, which is a control and no adversarial training.
CONTROLS = {"attack": ("none", "noise"), "penalty": ("none",)}


class Side(BaseModel):
    """One side of a contrast: the cells with a given attack and penalty.

    Attributes:
        attack: `none`, `any`, or a name.
        penalty: `none`, `any`, a name, a list of names of which the penalty contains one, or `without`: the penalty of the
            other side without the names listed there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attack: str
    penalty: Option

    def __str__(self) -> str:
        return f"{self.attack} x {self.penalty if isinstance(self.penalty, str) else ' or '.join(self.penalty)}"

    def contains(self, cell: CellKey) -> bool:
        """Return whether a cell is on this side; the other side does not matter."""
        return option_matches("attack", self.attack, cell.attack) and option_matches("penalty", self.penalty, cell.penalty)


KIND_SIDES = {
    Kind.STANDARD: Side(attack="none", penalty="none"),
    Kind.ADVERSARIAL: Side(attack="any", penalty="none"),
    Kind.REGULARIZED: Side(attack="none", penalty="any"),
    Kind.COMBINED: Side(attack="any", penalty="any"),
}
# Kinds that differ in one axis.
KIND_PAIRS = (
    (Kind.ADVERSARIAL, Kind.STANDARD),
    (Kind.REGULARIZED, Kind.STANDARD),
    (Kind.COMBINED, Kind.ADVERSARIAL),
    (Kind.COMBINED, Kind.REGULARIZED),
)


def option_matches(axis: str, option: Option, name: str) -> bool:
    """Return whether an option of a side includes the attack or penalty of this name."""
    if not isinstance(option, str):
        return not set(option).isdisjoint(name.split(" + "))
    return name not in CONTROLS[axis] if option == "any" else name == option


def paired_contrasts(runs: PairedRuns, of: Side, against: Side, best: Mapping[CellKey, float] | None = None) -> list[Contrast]:
    """Return the contrasts of every cell on one side with each of its partners on the other.

    Args:
        runs: metrics of the study.
        of: side with weight +1.
        against: side with weight -1.
        best: score of each cell; if given, each cell is paired with its best partner only, and common penalties may differ in
            settings and strength.
    """
    contrasts: list[Contrast] = []
    for cell in filter(of.contains, runs.cells):
        options: dict[str, list[str]] = {}
        if of.attack != against.attack:
            options["attack"] = _matching_names(runs, "attack", against.attack)
        if against.penalty == "without":
            options["penalty"] = [drop_penalties(cell.penalty, of.penalty)]
        elif of.penalty != against.penalty:
            options["penalty"] = _matching_names(runs, "penalty", against.penalty)
        partners = [
            partner
            for names in product(*options.values())
            for partner in runs.partners(cell, dict(zip(options, names, strict=True)), ignore_penalty_settings=best is not None)
            if partner != cell
        ]
        if best is not None:
            partners = sorted(partners, key=lambda partner: -best[partner])[:1]
        contrasts += [{cell: 1.0, partner: -1.0} for partner in partners]
    return contrasts


def cells_of_kind(runs: PairedRuns, kind: Kind) -> list[CellKey]:
    """Return the cells of a kind. Controls, such as random noise for an attack, belong to no kind."""
    return [cell for cell in runs.cells if KIND_SIDES[kind].contains(cell)]


def kind_mean(runs: PairedRuns, kind: Kind, metric: str) -> MeanAndSd | None:
    """Summarize over seeds the mean of a metric over the cells of a kind; None if the cells share no seed with it."""
    return _over_seeds([runs.series(cell, metric) for cell in cells_of_kind(runs, kind)])


def kind_difference(runs: PairedRuns, kind: Kind, against: Kind, metric: str) -> MeanAndSd | None:
    """Summarize over seeds the mean difference of a metric over all pairs of cells: one kind minus another."""
    return _over_seeds(
        [runs.series(ours, metric) - runs.series(theirs, metric) for ours, theirs in _pairs(runs, kind, against)]
    )


def kind_ratio(runs: PairedRuns, kind: Kind, against: Kind, metric: str) -> MeanAndSd | None:
    """Summarize over seeds the mean ratio of a metric over all pairs of cells: one kind as a multiple of another."""
    ratios = []
    for ours, theirs in _pairs(runs, kind, against):
        denominator = runs.series(theirs, metric)
        ratios.append(runs.series(ours, metric) / np.where(denominator > 0, denominator, np.nan))
    return _over_seeds(ratios)


def _matching_names(runs: PairedRuns, axis: str, option: Option) -> list[str]:
    return [name for name in dict.fromkeys(getattr(cell, axis) for cell in runs.cells) if option_matches(axis, option, name)]


def _pairs(runs: PairedRuns, kind: Kind, against: Kind) -> list[tuple[CellKey, CellKey]]:
    return [(ours, theirs) for ours, theirs in map(tuple, paired_contrasts(runs, KIND_SIDES[kind], KIND_SIDES[against]))]


def _over_seeds(series: list[np.ndarray]) -> MeanAndSd | None:
    values = mean_of_pairs(series)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    return MeanAndSd(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else np.nan, len(values))
