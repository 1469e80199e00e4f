"""Paired differences by seed, the unit of inference: effect sizes first, intervals with them, p-values second.

Cells of one seed share initial weights, split and order of batches, so that a difference between two of them is one
observation, and its spread over seeds is what a comparison of two methods has to stand out from.
"""

import gc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.special import gammaln
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from temper.config.cell import Kind
from temper.report.records.recipe import STRENGTH, parsed, unlike

ALPHA = 0.05
SAME = 1e-9  # a spread below it, beside the mean, is rounding
STATISTICS = ["n", "mean", "sd", "low", "high", "d_z", "g", "p"]


class CellKey(NamedTuple):
    """Which cell under which suite: columns of `temper.report.records.long_format.frame`."""

    attack: str
    penalty: str
    setting: str
    digest: str
    suite: str
    recipe: str = ""

    @property
    def name(self) -> str:
        """Such as "pgd x l2 (strength=3)"."""
        return f"{self.attack} x {self.penalty}" + (f" ({self.setting})" if self.setting else "")


# A weight for each cell that takes part: +1 and -1 for a pair.
Contrast = Mapping[CellKey, float]


class PairedRuns(NamedTuple):
    """All numbers of a study as one block.

    Attributes:
        cells: C of them, networks that were trained elsewhere apart.
        seeds: S of them.
        metrics: M of them, by name; of another checkpoint than the chosen one as "best:test/clean".
        values: (C, S, M), NaN where there is none.
    """

    cells: list[CellKey]
    seeds: list[int]
    metrics: list[str]
    values: np.ndarray

    @classmethod
    def of(cls, data: pd.DataFrame, checkpoint: str = "last") -> Self:
        """From rows as `temper.report.records.long_format.frame` gives them."""
        rows = data[(data.kind != str(Kind.EXTERNAL)) & data.value.notna()]
        where = rows.checkpoint
        name = rows.metric.where(where.isin([checkpoint, "run"]), where + ":" + rows.metric)
        cells, of_cell = _numbered(rows[list(CellKey._fields)].itertuples(index=False, name=None))
        seeds, of_seed = np.unique(rows.seed.to_numpy(), return_inverse=True)
        metrics, of_metric = _numbered(name)
        total, count = np.zeros((2, len(cells), len(seeds), len(metrics)))
        np.add.at(total, (of_cell, of_seed, of_metric), rows.value.to_numpy())
        np.add.at(count, (of_cell, of_seed, of_metric), 1)
        values = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        return cls([CellKey(*cell) for cell in cells], seeds.tolist(), metrics, values)

    def series(self, cell: CellKey, metric: str) -> np.ndarray:
        """One metric of one cell, (S,); NaN where no run has it."""
        if metric not in self.metrics:
            return np.full(len(self.seeds), np.nan)
        return self.values[self.cells.index(cell), :, self.metrics.index(metric)]

    def difference(self, contrast: Contrast) -> np.ndarray:
        """The weighted sum over its cells, (S, M); NaN where one of them lacks the number."""
        parts = [weight * self.values[self.cells.index(cell)] for cell, weight in contrast.items()]
        return np.sum(parts, axis=0)

    def partners(self, cell: CellKey, moved: Mapping[str, str], *, free: bool = False) -> list[CellKey]:
        """The cells under the same suite that are the same but for the axes that are moved to other options.

        What both are made by is the same in both. The strength is too, unless each cell was tuned to one of its own, and there
        is one of either name: `tuned_apart` tells of that.

        Args:
            free: whether penalties that both have may differ in their settings and strength.
        """
        target = cell._replace(**moved)
        named = [c for c in self.cells if (c.attack, c.penalty, c.suite) == (target.attack, target.penalty, cell.suite)]
        but = ("penalty.", STRENGTH) if free else (STRENGTH,)
        alike = [c for c in named if not unlike(cell.recipe, c.recipe, but)]
        as_strong = [c for c in alike if free or not unlike(cell.recipe, c.recipe)]
        own = [c for c in self.cells if c[:2] == cell[:2] and c.suite == cell.suite and not unlike(cell.recipe, c.recipe, but)]
        return as_strong or (alike if len(alike) == len(own) == 1 else [])


def _numbered(names: Iterable[Any]) -> tuple[list[Any], np.ndarray]:
    """The different ones in their order, and for each its place among them."""
    places: dict[Any, int] = {}
    numbers = np.array([places.setdefault(name, len(places)) for name in names], dtype=int)
    return list(places), numbers


def are_alike(cells: Iterable[CellKey]) -> bool:
    """Whether cells differ in nothing but attacks and penalties that only some of them have."""
    known: dict[str, str] = {}
    return all(known.setdefault(name, value) == value for cell in cells for name, value in parsed(cell.recipe).items())


def tuned_apart(cells: Iterable[CellKey]) -> str:
    """That cells which are set against each other were tuned to strengths of their own, in words; empty where they were not."""
    of = {cell.name: parsed(cell.recipe)[STRENGTH] for cell in cells if STRENGTH in parsed(cell.recipe)}
    return f"strengths differ: {', '.join(f'{s} in {name}' for name, s in of.items())}" if len(set(of.values())) > 1 else ""


def summarize(differences: np.ndarray, null: float = 0.0, resolution: np.ndarray | float = 0.0) -> pd.DataFrame:
    """What K series of differences say, one row each, with `STATISTICS`.

    n: seeds that have the difference. mean, sd: over them. low, high: the 95 % t interval. d_z: Cohen's effect size of paired
    differences, mean / sd; g: the same with Hedges' correction (1981) of its bias in small samples, which two seeds have no
    finite one of. p: of a two-sided t test of the mean against `null`. One seed gives a mean and nothing else.

    Seeds that all have the same difference have no effect size, and show a spread below the resolution of their metric: their
    interval and p are those of an sd as large as that.

    Args:
        differences: (K, S), NaN where a seed lacks it.
        null: the mean under the null hypothesis.
        resolution: of each series, (K,), or of all, as `temper.report.statistics.metric_catalogue.resolution` gives it. 0:
            it is known exactly, and there is nothing to test; NaN: unknown, and no interval is told.
    """
    steps = np.broadcast_to(resolution, len(differences))
    found = pd.DataFrame(np.nan, index=range(len(differences)), columns=STATISTICS)
    there = np.isfinite(differences)
    found["n"] = there.sum(axis=1)
    # Series with the same seeds are one call; a study has few patterns of missing ones.
    patterns, of_pattern = np.unique(there, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows, n = np.flatnonzero(of_pattern.reshape(-1) == number), int(pattern.sum())
        if n == 0:
            continue
        values = differences[np.ix_(rows, np.flatnonzero(pattern))]
        found.loc[rows, "mean"] = values.mean(axis=1)
        if n == 1:
            continue
        mean, sd, step = values.mean(axis=1), values.std(axis=1, ddof=1), steps[rows]
        same = sd <= SAME * np.maximum(1, np.abs(mean))
        sample = DescrStatsW(values.T)
        with np.errstate(divide="ignore", invalid="ignore"):
            told = np.stack([*sample.tconfint_mean(ALPHA), sample.ttest_mean(null)[1]])
            effect = np.where(same, np.nan, mean / sd)
        found.loc[rows, "sd"] = np.where(same, 0.0, sd)
        found.loc[rows, ["low", "high", "p"]] = np.where(same, _to_a_step(mean, step, n, null), told).T
        found.loc[rows, "d_z"] = effect
        found.loc[rows, "g"] = effect * hedges(n)
    return found


def _to_a_step(mean: np.ndarray, step: np.ndarray, n: int, null: float) -> np.ndarray:
    """Both ends of the interval and p, (3, K), of means over n seeds whose standard deviation is as large as a step."""
    error = step / np.sqrt(n)
    half = student.ppf(1 - ALPHA / 2, n - 1) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error == 0, np.nan, 2 * student.sf(np.abs(mean - null) / error, n - 1))
    return np.stack([mean - half, mean + half, p])


def hedges(n: int) -> float:
    """Hedges' J for n differences, by which an effect size is too large on average; NaN for two, where it has no mean."""
    half = (n - 1) / 2
    return float(np.exp(gammaln(half) - gammaln(half - 0.5)) / np.sqrt(half)) if n > 2 else np.nan


def holm(p: pd.Series, family: pd.Series) -> pd.Series:
    """p-values corrected for the number of comparisons in their family (Holm 1979); NaN stays, and counts for none."""
    corrected = p.astype(float).copy()
    gc.freeze()  # multipletests collects garbage at every call, which beside torch's objects takes a third of a second
    try:
        for _, known in p[p.notna()].groupby(family[p.notna()], sort=False):
            corrected[known.index] = multipletests(known, method="holm")[1]
    finally:
        gc.unfreeze()
    return corrected


def mean_of_pairs(differences: Sequence[np.ndarray]) -> np.ndarray:
    """One series, (S,), from those of several pairs, (S,) each: their mean by seed.

    Pairs without any number are left out, and then seeds that lack some pair: another mean of other cells is no repetition.
    """
    there = np.array([difference for difference in differences if np.isfinite(difference).any()])
    return there.mean(axis=0) if len(there) else np.full(len(differences[0]) if len(differences) else 0, np.nan)
