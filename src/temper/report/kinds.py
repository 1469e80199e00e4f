"""Kinds of training set against one another: the same seeds, and cells that differ in one axis alone."""

import numpy as np

from temper.cell import Kind
from temper.report.paired import Key, Runs, mean_of_pairs
from temper.report.sides import Side, pairs
from temper.report.spread import Spread

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


def cells_of(runs: Runs, kind: Kind) -> list[Key]:
    """The cells of a kind; controls, such as noise for an attack, are of none."""
    return [cell for cell in runs.cells if SIDES[kind].has(cell)]


def mean(runs: Runs, kind: Kind, metric: str) -> Spread | None:
    """Over seeds, of the mean over the cells of a kind; None where they have the metric for no seed that all share."""
    return _spread([runs.series(cell, metric) for cell in cells_of(runs, kind)])


def difference(runs: Runs, kind: Kind, against: Kind, metric: str) -> Spread | None:
    """Over seeds, of the mean over all pairs of cells: one kind minus the other."""
    return _spread([runs.series(ours, metric) - runs.series(theirs, metric) for ours, theirs in _pairs(runs, kind, against)])


def multiple(runs: Runs, kind: Kind, against: Kind, metric: str) -> Spread | None:
    """Over seeds, of the mean over all pairs of cells: one kind as a multiple of the other."""
    found = []
    for ours, theirs in _pairs(runs, kind, against):
        below = runs.series(theirs, metric)
        found.append(runs.series(ours, metric) / np.where(below > 0, below, np.nan))
    return _spread(found)


def _pairs(runs: Runs, kind: Kind, against: Kind) -> list[tuple[Key, Key]]:
    return [(ours, theirs) for ours, theirs in map(tuple, pairs(runs, SIDES[kind], SIDES[against]))]


def _spread(series: list[np.ndarray]) -> Spread | None:
    seeds = mean_of_pairs(series)
    seeds = seeds[np.isfinite(seeds)]
    if not len(seeds):
        return None
    return Spread(float(seeds.mean()), float(seeds.std(ddof=1)) if len(seeds) > 1 else np.nan, len(seeds))
