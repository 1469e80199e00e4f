"""The comparison table: purpose, approach, impact, cost and use of each kind of training, with this study's figures in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import pandas as pd
from omegaconf import OmegaConf

from temper.config.cell import Kind
from temper.config.composed import CONF
from temper.report.statistics.contrasts import difference, multiple
from temper.report.statistics.mean_and_sd import Spread
from temper.report.statistics.metric_catalogue import Metric
from temper.report.statistics.paired_differences import PairedRuns

ASPECTS = {"purpose": "purpose", "approach": "approach", "impact": "impact on the model", "cost": "cost", "use": "use"}
NOT_MEASURED = "not measured, or not for the same seeds"
POINTS, TIMES = Metric("points"), Metric("times", 1)


class Figure(NamedTuple):
    """What can stand in braces: a metric, and whether two kinds differ in it by points or by a factor."""

    metric: str
    by: Literal["points", "times"]

    def text(self, value: Spread | None) -> str:
        if value is None:
            return NOT_MEASURED
        return f"{value.text(POINTS, signed=True)} points" if self.by == "points" else f"{value.text(TIMES)} times"


FIGURES = {
    "robust": Figure("test/worst_case", "points"),
    "clean": Figure("test/clean", "points"),
    "gap": Figure("gap/clean", "points"),
    "robust_gap": Figure("gap/robust", "points"),
    "gradients": Figure("cost/gradient_evaluations", "times"),
    "seconds": Figure("cost/seconds", "times"),
}


class KindComparisonRow(NamedTuple):
    """One kind of training.

    Attributes:
        name: in words.
        kind, against: which kinds are compared.
        said: by aspect, the sentence, figures in braces.
    """

    name: str
    kind: Kind
    against: Kind
    said: Mapping[str, str]


def load(path: Path | None = None) -> list[KindComparisonRow]:
    """The rows of the comparison table; None: conf/report/kind_comparison.yaml.

    Raises:
        ValueError: a row lacks an aspect, or names a kind that there is not.
    """
    path = path or Path(CONF) / "report" / "kind_comparison.yaml"
    try:
        return [
            KindComparisonRow(row["name"], Kind(row["kind"]), Kind(row["against"]), {aspect: row[aspect] for aspect in ASPECTS})
            for row in cast(Any, OmegaConf.to_container(OmegaConf.load(path)))
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: every row has name, kind, against, {', '.join(ASPECTS)} ({error} is missing)") from error


def measured(runs: PairedRuns, kind: Kind, against: Kind) -> dict[str, Spread]:
    """By name in `FIGURES`, how a kind differs from another, mean and standard deviation over seeds; what no pair of cells was
    measured in is left out."""
    how = {"points": difference, "times": multiple}
    found = {name: how[by](runs, kind, against, metric) for name, (metric, by) in FIGURES.items()}
    return {name: value for name, value in found.items() if value is not None}


def comparison(runs: PairedRuns, rows: Sequence[KindComparisonRow] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The comparison table as text, and its figures raw.

    Args:
        rows: None: those of conf/report/kind_comparison.yaml.

    Raises:
        ValueError: a sentence names a figure that there is not.
    """
    texts, numbers = [], []
    for row in load() if rows is None else rows:
        found = measured(runs, row.kind, row.against)
        figures = {name: figure.text(found.get(name)) for name, figure in FIGURES.items()}
        try:
            said = {ASPECTS[aspect]: sentence.format_map(figures) for aspect, sentence in row.said.items()}
        except (KeyError, ValueError) as error:
            raise ValueError(f"kind_comparison: {row.name}: {error}; in braces can stand {', '.join(FIGURES)}") from error
        texts.append({"kind": f"{row.name}, against {row.against} training"} | said)
        for name, value in found.items():
            metric, by = FIGURES[name]
            numbers.append([str(row.kind), str(row.against), metric, by, *value])
    columns = ["kind", "against", "metric", "by", "mean", "sd", "n"]
    return pd.DataFrame(texts), pd.DataFrame(numbers, columns=columns)
