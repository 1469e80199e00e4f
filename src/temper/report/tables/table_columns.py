"""Columns of the results table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from temper.report.statistics.metric_catalogue import METRICS, Metric, Unit, describe_metric, resolve_metric_name


class Column(NamedTuple):
    """A metric at a checkpoint.

    Attributes:
        metric: name of the metric.
        checkpoint: "best" or "last"; "run" for a metric of the run as a whole.
        heading: heading of the column.
        shown: unit, decimal places and direction of the metric.
    """

    metric: str
    checkpoint: str
    heading: str
    shown: Metric

    @property
    def name(self) -> str:
        """Name such as `last:test/clean`."""
        return f"{self.checkpoint}:{self.metric}"


def columns_of(
    data: pd.DataFrame, wanted: Iterable[str], attacks: Sequence[str], checkpoint: str, unit: Unit = "percent"
) -> list[Column]:
    """Return the requested columns.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        wanted: metrics, their short names, or checkpoint:metric; "attacks" stands for every attack of the suite.
        attacks: names of the suite's attacks.
        checkpoint: checkpoint of columns that name none.
        unit: unit of accuracies.

    Raises:
        ValueError: No run has such a metric, or such a checkpoint.
    """
    pairs = data[["checkpoint", "metric"]].drop_duplicates()
    checkpoints_of: dict[str, set[str]] = {}
    for available, metric in zip(pairs.checkpoint, pairs.metric, strict=True):
        checkpoints_of.setdefault(metric, set()).add(available)
    attacks = [attack for attack in attacks if f"test/{attack}" in checkpoints_of]
    names = [name for column in wanted for name in (attacks if column == "attacks" else [column])]
    return [_column(str(name), checkpoints_of, checkpoint, unit) for name in names]


def _column(name: str, checkpoints_of: Mapping[str, set[str]], default: str, unit: Unit) -> Column:
    prefix, _, short = name.rpartition(":")
    metric = resolve_metric_name(short, checkpoints_of)
    checkpoints = {"best", "last", "run"}.union(*checkpoints_of.values())
    if prefix and prefix not in checkpoints:
        raise ValueError(f"table: {name}: no run has the checkpoint {prefix!r}. Checkpoints: {', '.join(sorted(checkpoints))}.")
    checkpoint = prefix or ("run" if checkpoints_of.get(metric) == {"run"} else default)
    if checkpoint not in checkpoints_of.get(metric, set()) and metric not in METRICS:
        raise ValueError(f"table: no run has the metric {metric} at {checkpoint!r}. See runs.csv for the available metrics.")
    shown = describe_metric(metric).of_unit(unit)
    heading = shown.label if checkpoint in (default, "run") else f"{shown.label} ({checkpoint})"
    return Column(metric, checkpoint, heading, shown)
