"""Which cells no other beats in clean accuracy, robust accuracy and cost at once, and how sure that is."""

import numpy as np
import pandas as pd

from temper.report.paired import Key, Runs

# More is better, or less.
GOALS = {"test/clean": 1, "test/worst_case": 1, "cost/gradient_evaluations": -1}
REPEATS = 1000
SEED = 0


def on_front(points: np.ndarray) -> np.ndarray:
    """Whether no other point is as good in everything and better in something.

    Args:
        points: (K, M), more is better.

    Returns:
        (K,) bool; equal points stand or fall together.
    """
    as_good = np.all([value[:, None] >= value for value in points.T], axis=0)
    better = np.any([value[:, None] > value for value in points.T], axis=0)
    return ~(as_good & better).any(axis=0)


def front(runs: Runs, goals: dict[str, int] = GOALS) -> pd.DataFrame:
    """One row per cell: the mean of each goal, whether it is on the front, and its `chance` of being there when the seeds are
    drawn anew, the same ones for all cells; NaN of one seed.

    Cells that lack a goal or a seed that others have are left out: on other seeds they would have had other luck.
    """
    wanted = [metric for metric in goals if metric in runs.metrics]
    values = runs.values[:, :, [runs.metrics.index(metric) for metric in wanted]]
    kept = np.flatnonzero(np.isfinite(values).all(axis=(1, 2)))
    values, signs = values[kept], np.array([goals[metric] for metric in wanted])
    found = pd.DataFrame([runs.cells[position] for position in kept], columns=list(Key._fields)).drop(columns="recipe")
    if found.empty or not wanted:
        return found
    found[wanted] = values.mean(axis=1)
    found["front"] = on_front(values.mean(axis=1) * signs)
    seeds = values.shape[1]
    if seeds < 2:
        return found.assign(chance=np.nan)
    drawn = np.random.default_rng(SEED).integers(seeds, size=(REPEATS, seeds))
    # A resample of seeds is how often each of them is in it.
    counts = (drawn[:, :, None] == np.arange(seeds)).sum(axis=1) / seeds
    means = np.einsum("rs,csm->rcm", counts, values * signs)
    return found.assign(chance=np.mean([on_front(points.round(12)) for points in means], axis=0))
