"""Which cells no other beats in clean accuracy, robust accuracy and cost at once, and how sure that is."""

import numpy as np
import pandas as pd

from temper.report.statistics.paired_differences import CellKey, PairedRuns

# More is better, or less.
GOALS = {"test/clean": 1, "test/worst_case": 1, "cost/gradient_evaluations": -1}
REPEATS = 1000
SEED = 0
MOST = 1000  # sets of seeds that are tried


def on_front(points: np.ndarray) -> np.ndarray:
    """Whether no other point is as good in everything and better in something.

    Args:
        points: (K, M), more is better.

    Returns:
        (K,) bool; equal points stand or fall together.
    """
    points = points.round(12)  # the same numbers in another order have another sum
    as_good = np.all([value[:, None] >= value for value in points.T], axis=0)
    better = np.any([value[:, None] > value for value in points.T], axis=0)
    return ~(as_good & better).any(axis=0)


def front(runs: PairedRuns, goals: dict[str, int] = GOALS) -> pd.DataFrame:
    """One row per cell: the mean of each goal, whether it is on the `front`, its `chance` of being there when the seeds are
    drawn anew, the same ones for all cells (NaN of one seed), and `n` seeds.

    Cells are compared on the same seeds, those that give the most runs of two cells or more. A cell that lacks one of them is
    not: it has no mean.
    """
    wanted = [metric for metric in goals if metric in runs.metrics]
    values = runs.values[:, :, [runs.metrics.index(metric) for metric in wanted]]
    there = np.isfinite(values).all(axis=2)
    found = pd.DataFrame(
        [cell for cell, seeds in zip(runs.cells, there, strict=True) if seeds.any()], columns=list(CellKey._fields)
    )
    values, there = values[there.any(axis=1)], there[there.any(axis=1)]
    found = found.drop(columns="recipe")
    if found.empty or not wanted:
        return found
    common = _common(there)
    kept, seeds = there[:, common].all(axis=1), int(common.sum())
    if kept.sum() == 1 < len(found):  # there is nothing that could beat it
        kept = np.zeros_like(kept)
    values = values[kept][:, common]
    means, signs = values.mean(axis=1), np.array([goals[metric] for metric in wanted])
    found.loc[kept, wanted] = means
    found["front"] = pd.Series(on_front(means * signs), index=found.index[kept], dtype="boolean").reindex(found.index)
    found["chance"] = np.nan
    found["n"] = np.where(kept, seeds, there.sum(axis=1))
    if seeds > 1 and kept.any():
        drawn = np.random.default_rng(SEED).integers(seeds, size=(REPEATS, seeds))
        # A resample of seeds is how often each of them is in it.
        counts = (drawn[:, :, None] == np.arange(seeds)).sum(axis=1) / seeds
        resampled = np.einsum("rs,csm->rcm", counts, values * signs)
        found.loc[kept, "chance"] = np.mean([on_front(points) for points in resampled], axis=0)
    return found


def _common(there: np.ndarray) -> np.ndarray:
    """The seeds, (S,) bool, that give the most runs of cells which have all of them, and of equals those with more cells; where
    no two cells share a seed, those of one.

    Args:
        there: which cell has which seed, (C, S) bool.
    """
    sets = {frozenset(np.flatnonzero(seeds).tolist()) for seeds in there}
    sets.add(frozenset.intersection(*sets))
    for seeds in list(sets):  # with what several of them share
        if len(sets) < MOST:
            sets |= {seeds & other for other in sets}
    cells = {seeds: int(there[:, sorted(seeds)].all(axis=1).sum()) for seeds in sets if seeds}
    shared = [seeds for seeds in cells if cells[seeds] > 1] or list(cells)
    best = max(shared, key=lambda seeds: (cells[seeds] * len(seeds), cells[seeds], sorted(seeds, reverse=True)))
    return np.isin(np.arange(there.shape[1]), sorted(best))
