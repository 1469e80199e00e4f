"""Paired differences by seed, the unit of inference: means, t intervals, effect sizes and corrected p-values.

Cells of one seed share initial weights, split and order of batches. A difference between two of them is therefore one
observation, and the standard deviation over seeds is the noise that a comparison of two methods must exceed.
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
from temper.report.records.recipe import STRENGTH, differing_parts, parse_recipe

ALPHA = 0.05
ROUNDING_ERROR = 1e-9  # a standard deviation below this, relative to the mean, is rounding
STATISTICS = ["n", "mean", "sd", "low", "high", "d_z", "g", "p"]


class CellKey(NamedTuple):
    """A cell under a suite; the fields are columns of `temper.report.records.long_format.frame`."""

    attack: str
    penalty: str
    setting: str
    digest: str
    suite: str
    recipe: str = ""

    @property
    def name(self) -> str:
        """Attack, penalty and setting, such as "pgd x l2 (strength=3)"."""
        return f"{self.attack} x {self.penalty}" + (f" ({self.setting})" if self.setting else "")


# Weights of the cells of a contrast: +1 and -1 for a pair.
Contrast = Mapping[CellKey, float]


class PairedRuns(NamedTuple):
    """All metrics of a study as one array.

    Attributes:
        cells: the C cells, without external networks.
        seeds: the S seeds.
        metrics: names of the M metrics; "best:test/clean" at another checkpoint than the chosen one.
        values: (C, S, M), NaN where missing.
    """

    cells: list[CellKey]
    seeds: list[int]
    metrics: list[str]
    values: np.ndarray

    @classmethod
    def of(cls, data: pd.DataFrame, checkpoint: str = "last") -> Self:
        """Build the array from rows of `temper.report.records.long_format.frame`.

        Args:
            data: the rows.
            checkpoint: the chosen checkpoint.
        """
        rows = data[(data.kind != str(Kind.EXTERNAL)) & data.value.notna()]
        name = rows.metric.where(rows.checkpoint.isin([checkpoint, "run"]), rows.checkpoint + ":" + rows.metric)
        cells, of_cell = _factorize(rows[list(CellKey._fields)].itertuples(index=False, name=None))
        seeds, of_seed = np.unique(rows.seed.to_numpy(), return_inverse=True)
        metrics, of_metric = _factorize(name)
        total, count = np.zeros((2, len(cells), len(seeds), len(metrics)))
        np.add.at(total, (of_cell, of_seed, of_metric), rows.value.to_numpy())
        np.add.at(count, (of_cell, of_seed, of_metric), 1)
        values = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        return cls([CellKey(*cell) for cell in cells], seeds.tolist(), metrics, values)

    def series(self, cell: CellKey, metric: str) -> np.ndarray:
        """Return one metric of one cell by seed, (S,); NaN where missing."""
        if metric not in self.metrics:
            return np.full(len(self.seeds), np.nan)
        return self.values[self.cells.index(cell), :, self.metrics.index(metric)]

    def difference(self, contrast: Contrast) -> np.ndarray:
        """Return the weighted sum over the cells of a contrast, (S, M); NaN where a value of any cell is missing."""
        parts = [weight * self.values[self.cells.index(cell)] for cell, weight in contrast.items()]
        return np.sum(parts, axis=0)

    def partners(self, cell: CellKey, changed: Mapping[str, str], *, ignore_penalty_settings: bool = False) -> list[CellKey]:
        """Return the cells under the same suite that differ from a cell only in the changed axes.

        The parts that both recipes have must be equal. The strength may differ only where each cell was tuned to a strength of
        its own, that is, where each of the two names has one cell; `strength_note` then says so.

        Args:
            cell: a cell.
            changed: by axis (attack, penalty), the option of the partners.
            ignore_penalty_settings: whether settings and strength of common penalties may differ.
        """
        target = cell._replace(**changed)
        named = [c for c in self.cells if (c.attack, c.penalty, c.suite) == (target.attack, target.penalty, cell.suite)]
        ignored = ("penalty.", STRENGTH) if ignore_penalty_settings else (STRENGTH,)

        def matches(other: CellKey) -> bool:
            return not differing_parts(cell.recipe, other.recipe, ignored)

        alike = [c for c in named if matches(c)]
        same_strength = [c for c in alike if ignore_penalty_settings or not differing_parts(cell.recipe, c.recipe)]
        siblings = [c for c in self.cells if c[:2] == cell[:2] and c.suite == cell.suite and matches(c)]
        return same_strength or (alike if len(alike) == len(siblings) == 1 else [])


def _factorize(names: Iterable[Any]) -> tuple[list[Any], np.ndarray]:
    """Return the distinct names in order of appearance, and the position of each name among them."""
    positions: dict[Any, int] = {}
    codes = np.array([positions.setdefault(name, len(positions)) for name in names], dtype=int)
    return list(positions), codes


def share_settings(cells: Iterable[CellKey]) -> bool:
    """Return whether cells differ only in attacks and penalties that some of them lack."""
    settings: dict[str, str] = {}
    return all(settings.setdefault(name, value) == value for cell in cells for name, value in parse_recipe(cell.recipe).items())


def strength_note(cells: Iterable[CellKey]) -> str:
    """Return a note that compared cells were tuned to different strengths; empty if they were not."""
    strengths = {cell.name: parse_recipe(cell.recipe)[STRENGTH] for cell in cells if STRENGTH in parse_recipe(cell.recipe)}
    if len(set(strengths.values())) < 2:
        return ""
    return f"strengths differ: {', '.join(f'{strength} in {name}' for name, strength in strengths.items())}"


def summarize(differences: np.ndarray, null: float = 0.0, resolution: np.ndarray | float = 0.0) -> pd.DataFrame:
    """Summarize K series of differences, one row each, with the columns `STATISTICS`.

    n: number of seeds with a difference. mean, sd: over these seeds. low, high: 95 % t interval. d_z: Cohen's effect size of
    paired differences, mean / sd. g: d_z with Hedges' correction (1981) of its small-sample bias, which is not finite for two
    seeds. p: two-sided t test of the mean against `null`. One seed gives n and mean only.

    If all seeds have the same difference, there is no effect size, and the true standard deviation is below the resolution of
    the metric. Interval and p are then those of a standard deviation equal to the resolution.

    Args:
        differences: (K, S), NaN where a seed lacks the difference.
        null: mean under the null hypothesis.
        resolution: resolution of each series, (K,), or of all, from `temper.report.statistics.metric_catalogue.resolution`. 0:
            the value is exact, and p is NaN; NaN: unknown, and interval and p are NaN.
    """
    steps = np.broadcast_to(resolution, len(differences))
    table = pd.DataFrame(np.nan, index=range(len(differences)), columns=STATISTICS)
    present = np.isfinite(differences)
    table["n"] = present.sum(axis=1)
    # Series with the same seeds are summarized in one call; a study has few patterns of missing seeds.
    patterns, of_pattern = np.unique(present, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows, n = np.flatnonzero(of_pattern.reshape(-1) == number), int(pattern.sum())
        if n == 0:
            continue
        values = differences[np.ix_(rows, np.flatnonzero(pattern))]
        table.loc[rows, "mean"] = values.mean(axis=1)
        if n == 1:
            continue
        mean, sd, step = values.mean(axis=1), values.std(axis=1, ddof=1), steps[rows]
        same = sd <= ROUNDING_ERROR * np.maximum(1, np.abs(mean))
        sample = DescrStatsW(values.T)
        with np.errstate(divide="ignore", invalid="ignore"):
            tested = np.stack([*sample.tconfint_mean(ALPHA), sample.ttest_mean(null)[1]])
            effect = np.where(same, np.nan, mean / sd)
        table.loc[rows, "sd"] = np.where(same, 0.0, sd)
        table.loc[rows, ["low", "high", "p"]] = np.where(same, _test_at_resolution(mean, step, n, null), tested).T
        table.loc[rows, "d_z"] = effect
        table.loc[rows, "g"] = effect * hedges_correction(n)
    return table


def _test_at_resolution(mean: np.ndarray, step: np.ndarray, n: int, null: float) -> np.ndarray:
    """Return low, high and p, (3, K), of means over n seeds with a standard deviation equal to the resolution."""
    error = step / np.sqrt(n)
    half = student.ppf(1 - ALPHA / 2, n - 1) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error == 0, np.nan, 2 * student.sf(np.abs(mean - null) / error, n - 1))
    return np.stack([mean - half, mean + half, p])


def hedges_correction(n: int) -> float:
    """Return Hedges' correction factor J for n differences; NaN for two, where the mean of d_z is not finite."""
    half = (n - 1) / 2
    return float(np.exp(gammaln(half) - gammaln(half - 0.5)) / np.sqrt(half)) if n > 2 else np.nan


def holm(p: pd.Series, family: pd.Series) -> pd.Series:
    """Correct p-values for the number of comparisons in their family (Holm 1979).

    Args:
        p: p-values; NaN stays NaN and is not counted.
        family: label of the family of each p-value.
    """
    corrected = p.astype(float).copy()
    gc.freeze()  # multipletests runs the garbage collector in every call: a third of a second with torch's objects alive
    try:
        for _, values in p[p.notna()].groupby(family[p.notna()], sort=False):
            corrected[values.index] = multipletests(values, method="holm")[1]
    finally:
        gc.unfreeze()
    return corrected


def mean_of_pairs(differences: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean by seed, (S,), of several pairs.

    Pairs without any value are dropped. A seed that lacks one of the remaining pairs is NaN, because a mean over other cells
    would not be a repetition of the same comparison.

    Args:
        differences: one series for each pair, (S,).
    """
    present = np.array([difference for difference in differences if np.isfinite(difference).any()])
    return present.mean(axis=0) if len(present) else np.full(len(differences[0]) if len(differences) else 0, np.nan)
