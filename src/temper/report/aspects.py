"""The comparison table: purpose, approach, impact, cost and use of each kind of training, with this study's figures in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import pandas as pd
from omegaconf import OmegaConf

from temper.cell import Kind
from temper.config import CONF
from temper.report.columns import Metric
from temper.report.spread import Spread

ASPECTS = {"purpose": "purpose", "approach": "approach", "impact": "impact on the model", "cost": "cost", "use": "use"}
NOT_MEASURED = "not measured in this study"
POINTS, TIMES = Metric("points"), Metric("times", 1)
# Along which axis two kinds differ: there the one that is set against lies at `none`.
AXES: dict[tuple[Kind, Kind], Literal["attack", "penalty"]] = {
    (Kind.ADVERSARIAL, Kind.STANDARD): "attack",
    (Kind.REGULARIZED, Kind.STANDARD): "penalty",
    (Kind.COMBINED, Kind.ADVERSARIAL): "penalty",
    (Kind.COMBINED, Kind.REGULARIZED): "attack",
}


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


class Aspects(NamedTuple):
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


def load(path: Path | None = None) -> list[Aspects]:
    """The rows of the comparison table; None: conf/report/aspects.yaml.

    Raises:
        ValueError: a row lacks an aspect, or names a kind that there is not.
    """
    path = path or Path(CONF) / "report" / "aspects.yaml"
    try:
        return [
            Aspects(row["name"], Kind(row["kind"]), Kind(row["against"]), {aspect: row[aspect] for aspect in ASPECTS})
            for row in cast(Any, OmegaConf.to_container(OmegaConf.load(path)))
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: every row has name, kind, against, {', '.join(ASPECTS)} ({error} is missing)") from error


def measured(data: pd.DataFrame, kind: Kind, against: Kind, checkpoint: str) -> dict[str, Spread]:
    """By name in `FIGURES`, how a kind differs from another, mean and standard deviation over seeds.

    Each cell is set against the one that lies at `none` of the axis in which the kinds differ, seed by seed; for each seed the
    mean over cells is taken. What no pair was measured in is left out.

    Args:
        data: rows as `temper.report.frame.frame` gives them.
    """
    axis = AXES[kind, against]
    rows = data[data.checkpoint.isin([checkpoint, "run"])].dropna(subset=["value"])
    values = rows.groupby(["kind", "attack", "penalty", "seed", "metric"]).value.mean().reset_index()
    shared = [column for column in ("attack", "penalty", "seed", "metric") if column != axis]
    ours, theirs = (values[values.kind == str(each)] for each in (kind, against))
    both = ours.merge(theirs, on=shared, suffixes=("", "_against"))
    found = {}
    for name, (metric, by) in FIGURES.items():
        pairs = both[both.metric == metric]
        if by == "times":
            pairs = pairs[pairs.value_against > 0]
        change = pairs.value / pairs.value_against if by == "times" else pairs.value - pairs.value_against
        seeds = change.groupby(pairs.seed).mean()
        if len(seeds):
            found[name] = Spread(seeds.mean(), seeds.std(), len(seeds))
    return found


def comparison(data: pd.DataFrame, checkpoint: str, rows: Sequence[Aspects] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The comparison table as text, and its figures raw.

    Args:
        data: rows as `temper.report.frame.frame` gives them.
        checkpoint: whose numbers are compared.
        rows: None: those of conf/report/aspects.yaml.

    Raises:
        ValueError: a sentence names a figure that there is not.
    """
    texts, numbers = [], []
    for row in load() if rows is None else rows:
        found = measured(data, row.kind, row.against, checkpoint)
        figures = {name: figure.text(found.get(name)) for name, figure in FIGURES.items()}
        try:
            said = {ASPECTS[aspect]: sentence.format_map(figures) for aspect, sentence in row.said.items()}
        except (KeyError, ValueError) as error:
            raise ValueError(f"aspects: {row.name}: {error}; in braces can stand {', '.join(FIGURES)}") from error
        texts.append({"kind": f"{row.name}, against {row.against} training"} | said)
        for name, value in found.items():
            metric, by = FIGURES[name]
            numbers.append([str(row.kind), str(row.against), metric, by, *value])
    columns = ["kind", "against", "metric", "by", "mean", "sd", "n"]
    return pd.DataFrame(texts), pd.DataFrame(numbers, columns=columns)
