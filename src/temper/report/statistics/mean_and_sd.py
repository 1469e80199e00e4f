"""Mean and standard deviation over seeds, and their text."""

import math
from typing import NamedTuple

import pandas as pd

from temper.report.statistics.metric_catalogue import Metric

MISSING = "–"
Place = tuple[str, str, str, str, str]  # attack, penalty, setting, checkpoint, metric


class MeanAndSd(NamedTuple):
    """Mean, standard deviation over seeds (NaN for a single seed) and number of seeds."""

    mean: float
    sd: float
    n: int

    def text(self, metric: Metric, precision: int | None = None, *, signed: bool = False) -> str:
        """Format as "97.0 ± 1.4", or as the mean alone for a single seed, which has no standard deviation.

        Args:
            metric: display of the metric.
            precision: decimal places; None: those of the metric.
            signed: whether nonnegative means have a plus sign.
        """
        digits = metric.precision if precision is None else precision
        mean = f"{self.mean * metric.factor:{'+' if signed else ''}.{digits}f}"
        return mean if math.isnan(self.sd) else f"{mean} ± {self.sd * metric.factor:.{digits}f}"


def mean_and_sd_by_cell(data: pd.DataFrame) -> dict[Place, MeanAndSd]:
    """Compute mean and standard deviation of every metric of every cell; missing values (NaN) are ignored.

    Args:
        data: rows of `temper.report.records.long_format.frame`.
    """
    place = ["attack", "penalty", "setting", "checkpoint", "metric"]
    values = data.dropna(subset=["value"]).groupby(place, sort=False).value
    means, sds, counts = values.mean(), values.std(), values.count()
    return {key: MeanAndSd(*row) for key, row in zip(means.index, zip(means, sds, counts, strict=True), strict=True)}


def format_mean_and_sd(values: pd.Series | None, metric: Metric, precision: int | None = None) -> str:
    """Format mean ± standard deviation of some values; `MISSING` if there are none.

    Args:
        values: one for each seed.
        metric: display of the metric.
        precision: decimal places; None: those of the metric.
    """
    if values is None or values.empty:
        return MISSING
    return MeanAndSd(values.mean(), values.std(), len(values)).text(metric, precision)
