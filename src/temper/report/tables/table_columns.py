"""Columns of the results table."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from temper.report.statistics.metric_catalogue import METRICS, Metric, Unit, describe, full_name


class Column(NamedTuple):
    """A metric at a checkpoint (best, last, or `run` for what belongs to the run as a whole), under its heading."""

    metric: str
    checkpoint: str
    heading: str
    shown: Metric

    @property
    def name(self) -> str:
        """As runs.csv has it, such as `last:test/clean`."""
        return f"{self.checkpoint}:{self.metric}"


def columns_of(
    data: pd.DataFrame, wanted: Iterable[str], attacks: Sequence[str], checkpoint: str, unit: Unit = "percent"
) -> list[Column]:
    """What the columns that are asked for show.

    Args:
        data: rows as `temper.report.records.long_format.frame` gives them.
        wanted: metrics, their short names, or checkpoint:metric; "attacks" stands for every attack of the suite.
        attacks: names of the suite's attacks.
        checkpoint: of a column that names none.

    Raises:
        ValueError: no run has such a metric, or such a checkpoint.
    """
    found = data[["checkpoint", "metric"]].drop_duplicates()
    there: dict[str, set[str]] = {}
    for where, metric in zip(found.checkpoint, found.metric, strict=True):
        there.setdefault(metric, set()).add(where)
    attacks = [attack for attack in attacks if f"test/{attack}" in there]
    names = [name for column in wanted for name in (attacks if column == "attacks" else [column])]
    return [_column(str(name), there, checkpoint, unit) for name in names]


def _column(name: str, there: dict[str, set[str]], checkpoint: str, unit: Unit) -> Column:
    said, _, short = name.rpartition(":")
    metric = full_name(short, there)
    checkpoints = {"best", "last", "run"}.union(*there.values())
    if said and said not in checkpoints:
        raise ValueError(f"table: {name}: no run has the checkpoint {said!r}; there are {', '.join(sorted(checkpoints))}")
    where = said or ("run" if there.get(metric) == {"run"} else checkpoint)
    if where not in there.get(metric, set()) and metric not in METRICS:
        raise ValueError(f"table: no run has the metric {metric} for {where!r}; runs.csv lists what there is")
    shown = describe(metric).of_unit(unit)
    heading = shown.label if where in (checkpoint, "run") else f"{shown.label} ({where})"
    return Column(metric, where, heading, shown)
