"""Pareto front of clean accuracy, robust accuracy and cost, and the bootstrap probability of each cell to be on it."""

import numpy as np
import pandas as pd

from temper.report.statistics.paired_differences import CellKey, PairedRuns

OBJECTIVES = {"test/clean": 1, "test/worst_case": 1, "cost/gradient_evaluations": -1}  # 1: maximized, -1: minimized
REPEATS = 1000
SEED = 0
MAX_SEED_SETS = 1000


def is_non_dominated(points: np.ndarray) -> np.ndarray:
    """Return which points are on the Pareto front: no other is at least as good in everything and better in something.

    Args:
        points: (K, M), more is better.

    Returns:
        (K,) bool; equal points have equal values.
    """
    points = points.round(12)  # sums of the same numbers in another order differ by rounding
    as_good = np.all([value[:, None] >= value for value in points.T], axis=0)
    better = np.any([value[:, None] > value for value in points.T], axis=0)
    return ~(as_good & better).any(axis=0)


def pareto_table(runs: PairedRuns) -> pd.DataFrame:
    """Return one row per cell with its means and its place relative to the Pareto front of `OBJECTIVES`.

    Cells are compared on common seeds: those that give the most runs of two or more cells. A cell that lacks one of them has no
    means.

    Returns:
        Columns: those of `CellKey` without the recipe; the mean of each objective; `front`, whether the cell is on the Pareto
        front; `chance`, the bootstrap probability that it is, with seeds resampled jointly for all cells (NaN for one seed);
        `n`, the number of seeds.
    """
    objectives = [metric for metric in OBJECTIVES if metric in runs.metrics]
    values = runs.values[:, :, [runs.metrics.index(metric) for metric in objectives]]
    present = np.isfinite(values).all(axis=2)
    table = pd.DataFrame(
        [cell for cell, seeds in zip(runs.cells, present, strict=True) if seeds.any()], columns=list(CellKey._fields)
    )
    values, present = values[present.any(axis=1)], present[present.any(axis=1)]
    table = table.drop(columns="recipe")
    if table.empty or not objectives:
        return table
    common = _common_seeds(present)
    kept, seeds = present[:, common].all(axis=1), int(common.sum())
    if kept.sum() == 1 < len(table):  # a single cell cannot be compared with any other
        kept = np.zeros_like(kept)
    values = values[kept][:, common]
    means, signs = values.mean(axis=1), np.array([OBJECTIVES[metric] for metric in objectives])
    table.loc[kept, objectives] = means
    table["front"] = pd.Series(is_non_dominated(means * signs), index=table.index[kept], dtype="boolean").reindex(table.index)
    table["chance"] = np.nan
    table["n"] = np.where(kept, seeds, present.sum(axis=1))
    if seeds > 1 and kept.any():
        drawn = np.random.default_rng(SEED).integers(seeds, size=(REPEATS, seeds))
        # A resample is determined by how often each seed is drawn.
        counts = (drawn[:, :, None] == np.arange(seeds)).sum(axis=1) / seeds
        resampled = np.einsum("rs,csm->rcm", counts, values * signs)
        table.loc[kept, "chance"] = np.mean([is_non_dominated(points) for points in resampled], axis=0)
    return table


def _common_seeds(present: np.ndarray) -> np.ndarray:
    """Return the seeds on which cells are compared, (S,) bool.

    These are the seeds with the most runs of cells that have all of them; among equals, those with more cells. If no two cells
    share a seed, they are the seeds of one cell.

    Args:
        present: which cell has which seed, (C, S) bool.
    """
    sets = {frozenset(np.flatnonzero(seeds).tolist()) for seeds in present}
    sets.add(frozenset.intersection(*sets))
    for seeds in list(sets):  # add intersections
        if len(sets) < MAX_SEED_SETS:
            sets |= {seeds & other for other in sets}
    cells = {seeds: int(present[:, sorted(seeds)].all(axis=1).sum()) for seeds in sets if seeds}
    shared = [seeds for seeds in cells if cells[seeds] > 1] or list(cells)
    best = max(shared, key=lambda seeds: (cells[seeds] * len(seeds), cells[seeds], sorted(seeds, reverse=True)))
    return np.isin(np.arange(present.shape[1]), sorted(best))
