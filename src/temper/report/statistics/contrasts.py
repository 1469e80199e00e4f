"""The sides of a contrast: which cells stand on each, and which of them pair."""

from collections.abc import Mapping
from itertools import product

import numpy as np
from pydantic import BaseModel, ConfigDict

from temper.config.cell import Kind
from temper.report.records.cell_names import Option, without
from temper.report.statistics.mean_and_sd import Spread
from temper.report.statistics.paired_differences import CellKey, Contrast, PairedRuns, mean_of_pairs

# What `any` leaves out: an attack that does nothing, and one that only seems to.
CONTROLS = {"attack": ("none", "noise"), "penalty": ("none",)}


class Side(BaseModel):
    """Cells by their two axes: `none`, `any`, a name, parts of which a penalty holds one, or `without` those of the other."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attack: str
    penalty: Option

    def __str__(self) -> str:
        return f"{self.attack} x {self.penalty if isinstance(self.penalty, str) else ' or '.join(self.penalty)}"

    def has(self, cell: CellKey) -> bool:
        """Whether a cell stands on this side, whatever the other one is."""
        return allows("attack", self.attack, cell.attack) and allows("penalty", self.penalty, cell.penalty)


def allows(axis: str, option: Option, name: str) -> bool:
    """Whether an option of a side includes the attack or penalty of this name."""
    if not isinstance(option, str):
        return not set(option).isdisjoint(name.split(" + "))
    return name not in CONTROLS[axis] if option == "any" else name == option


def pairs(runs: PairedRuns, of: Side, against: Side, best: Mapping[CellKey, float] | None = None) -> list[Contrast]:
    """Every cell of one side minus every one of the other that it pairs with.

    Args:
        best: how good each cell is; each then pairs with the best of its partners alone.
    """
    found: list[Contrast] = []
    for cell in filter(of.has, runs.cells):
        moves: dict[str, list[str]] = {}
        if of.attack != against.attack:
            moves["attack"] = _names(runs, "attack", against.attack)
        if against.penalty == "without":
            moves["penalty"] = [without(cell.penalty, of.penalty)]
        elif of.penalty != against.penalty:
            moves["penalty"] = _names(runs, "penalty", against.penalty)
        targets = [dict(zip(moves, names, strict=True)) for names in product(*moves.values())]
        free = best is not None
        partners = [each for moved in targets for each in runs.partners(cell, moved, free=free) if each != cell]
        if best is not None:
            partners = sorted(partners, key=lambda each: -best[each])[:1]
        found += [{cell: 1.0, each: -1.0} for each in partners]
    return found


def _names(runs: PairedRuns, axis: str, option: Option) -> list[str]:
    return [name for name in dict.fromkeys(getattr(cell, axis) for cell in runs.cells) if allows(axis, option, name)]


SIDES = {
    Kind.STANDARD: Side(attack="none", penalty="none"),
    Kind.ADVERSARIAL: Side(attack="any", penalty="none"),
    Kind.REGULARIZED: Side(attack="none", penalty="any"),
    Kind.COMBINED: Side(attack="any", penalty="any"),
}
# Each kind beside one that lacks one of its two parts.
PAIRS = (
    (Kind.ADVERSARIAL, Kind.STANDARD),
    (Kind.REGULARIZED, Kind.STANDARD),
    (Kind.COMBINED, Kind.ADVERSARIAL),
    (Kind.COMBINED, Kind.REGULARIZED),
)


def cells_of(runs: PairedRuns, kind: Kind) -> list[CellKey]:
    """The cells of a kind; controls, such as noise for an attack, are of none."""
    return [cell for cell in runs.cells if SIDES[kind].has(cell)]


def mean(runs: PairedRuns, kind: Kind, metric: str) -> Spread | None:
    """Over seeds, of the mean over the cells of a kind; None where they have the metric for no seed that all share."""
    return _spread([runs.series(cell, metric) for cell in cells_of(runs, kind)])


def difference(runs: PairedRuns, kind: Kind, against: Kind, metric: str) -> Spread | None:
    """Over seeds, of the mean over all pairs of cells: one kind minus the other."""
    return _spread([runs.series(ours, metric) - runs.series(theirs, metric) for ours, theirs in _pairs(runs, kind, against)])


def multiple(runs: PairedRuns, kind: Kind, against: Kind, metric: str) -> Spread | None:
    """Over seeds, of the mean over all pairs of cells: one kind as a multiple of the other."""
    found = []
    for ours, theirs in _pairs(runs, kind, against):
        below = runs.series(theirs, metric)
        found.append(runs.series(ours, metric) / np.where(below > 0, below, np.nan))
    return _spread(found)


def _pairs(runs: PairedRuns, kind: Kind, against: Kind) -> list[tuple[CellKey, CellKey]]:
    return [(ours, theirs) for ours, theirs in map(tuple, pairs(runs, SIDES[kind], SIDES[against]))]


def _spread(series: list[np.ndarray]) -> Spread | None:
    seeds = mean_of_pairs(series)
    seeds = seeds[np.isfinite(seeds)]
    if not len(seeds):
        return None
    return Spread(float(seeds.mean()), float(seeds.std(ddof=1)) if len(seeds) > 1 else np.nan, len(seeds))
