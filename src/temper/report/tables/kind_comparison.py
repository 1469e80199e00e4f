"""Comparison table: purpose, approach, impact, cost and use of each kind of training, with figures measured in the study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import pandas as pd
from omegaconf import OmegaConf

from temper.config.cell import Kind
from temper.config.composed import CONF
from temper.report.statistics.contrasts import kind_difference, kind_ratio
from temper.report.statistics.mean_and_sd import MeanAndSd
from temper.report.statistics.metric_catalogue import Metric
from temper.report.statistics.paired_differences import PairedRuns

ASPECTS = {"purpose": "purpose", "approach": "approach", "impact": "impact on the model", "cost": "cost", "use": "use"}
NOT_MEASURED = "not evaluated for the same seeds"
POINTS, TIMES = Metric("points"), Metric("times", 1)


class ComparisonFigure(NamedTuple):
    """A placeholder that a sentence may contain in braces.

    Attributes:
        metric: name of the metric.
        by: compare two kinds by their difference in percentage points, or by their ratio.
    """

    metric: str
    by: Literal["points", "times"]

    def text(self, value: MeanAndSd | None) -> str:
        """Return the figure with its unit, or `NOT_MEASURED`."""
        if value is None:
            return NOT_MEASURED
        return f"{value.text(POINTS, signed=True)} points" if self.by == "points" else f"{value.text(TIMES)} times"


COMPARISON_FIGURES = {
    "robust": ComparisonFigure("test/worst_case", "points"),
    "clean": ComparisonFigure("test/clean", "points"),
    "gap": ComparisonFigure("gap/clean", "points"),
    "robust_gap": ComparisonFigure("gap/robust", "points"),
    "gradients": ComparisonFigure("cost/gradient_evaluations", "times"),
    "seconds": ComparisonFigure("cost/seconds", "times"),
}


class KindComparisonRow(NamedTuple):
    """One kind of training.

    Attributes:
        name: name shown to readers.
        kind, against: the two kinds that are compared.
        sentences: sentence by aspect, with placeholders of `COMPARISON_FIGURES` in braces.
    """

    name: str
    kind: Kind
    against: Kind
    sentences: Mapping[str, str]


def load() -> list[KindComparisonRow]:
    """Load the rows of the comparison table from conf/report/kind_comparison.yaml.

    Raises:
        ValueError: A row lacks an aspect, or names an unknown kind.
    """
    path = Path(CONF) / "report" / "kind_comparison.yaml"
    try:
        return [
            KindComparisonRow(row["name"], Kind(row["kind"]), Kind(row["against"]), {aspect: row[aspect] for aspect in ASPECTS})
            for row in cast(Any, OmegaConf.to_container(OmegaConf.load(path)))
        ]
    except (KeyError, TypeError) as error:
        keys = ", ".join(["name", "kind", "against", *ASPECTS])
        raise ValueError(f"{path}: {error} is missing. Every row needs {keys}.") from error


def kind_differences(runs: PairedRuns, kind: Kind, against: Kind) -> dict[str, MeanAndSd]:
    """Return how one kind differs from another, by name in `COMPARISON_FIGURES`.

    Each value is the mean and standard deviation over seeds. Figures that no pair of cells has are left out.
    """
    compare = {"points": kind_difference, "times": kind_ratio}
    values = {name: compare[by](runs, kind, against, metric) for name, (metric, by) in COMPARISON_FIGURES.items()}
    return {name: value for name, value in values.items() if value is not None}


def comparison_tables(runs: PairedRuns, rows: Sequence[KindComparisonRow] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the comparison table as text, and its figures as raw numbers.

    Args:
        runs: runs of the study.
        rows: rows of the table; None: those of conf/report/kind_comparison.yaml.

    Raises:
        ValueError: A sentence contains an unknown placeholder.
    """
    texts, numbers = [], []
    for row in load() if rows is None else rows:
        values = kind_differences(runs, row.kind, row.against)
        figures = {name: figure.text(values.get(name)) for name, figure in COMPARISON_FIGURES.items()}
        try:
            sentences = {ASPECTS[aspect]: sentence.format_map(figures) for aspect, sentence in row.sentences.items()}
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"kind_comparison: {row.name}: {error} is not a placeholder. Use {', '.join(COMPARISON_FIGURES)} in braces."
            ) from error
        texts.append({"kind": f"{row.name} vs. {row.against} training"} | sentences)
        for name, value in values.items():
            metric, by = COMPARISON_FIGURES[name]
            numbers.append([str(row.kind), str(row.against), metric, by, *value])
    columns = ["kind", "against", "metric", "by", "mean", "sd", "n"]
    return pd.DataFrame(texts), pd.DataFrame(numbers, columns=columns)
