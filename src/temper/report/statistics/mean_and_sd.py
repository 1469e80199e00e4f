"""Mean and standard deviation over seeds, and how they are printed."""

import math
from typing import NamedTuple

import pandas as pd

from temper.report.statistics.metric_catalogue import Metric

MISSING = "–"
Place = tuple[str, str, str, str, str]  # attack, penalty, setting, checkpoint, metric


class Spread(NamedTuple):
    """Mean, standard deviation over seeds (NaN for a single one) and their number."""

    mean: float
    sd: float
    n: int

    def text(self, metric: Metric, precision: int | None = None, *, signed: bool = False) -> str:
        """Such as "97.0 ± 1.4"; the mean alone for a single seed, which has no spread to tell.

        Args:
            precision: digits behind the point; None: what suits the metric.
            signed: whether a plus stands before what is not negative.
        """
        digits = metric.precision if precision is None else precision
        mean = f"{self.mean * metric.factor:{'+' if signed else ''}.{digits}f}"
        return mean if math.isnan(self.sd) else f"{mean} ± {self.sd * metric.factor:.{digits}f}"


def spreads(data: pd.DataFrame) -> dict[Place, Spread]:
    """Of every metric of every cell, missing values (NaN) left out.

    Args:
        data: rows as `temper.report.records.long_format.frame` gives them.
    """
    place = ["attack", "penalty", "setting", "checkpoint", "metric"]
    values = data.dropna(subset=["value"]).groupby(place, sort=False).value
    means, sds, counts = values.mean(), values.std(), values.count()
    return {key: Spread(*row) for key, row in zip(means.index, zip(means, sds, counts, strict=True), strict=True)}


def spread(values: pd.Series | None, metric: Metric, precision: int | None = None) -> str:
    """Mean ± standard deviation of some values, as a table shows them."""
    if values is None or values.empty:
        return MISSING
    return Spread(values.mean(), values.std(), len(values)).text(metric, precision)
