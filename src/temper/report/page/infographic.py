"""The comparison as a picture: each kind of training as a card of measured figures, beside the one that trains on nothing."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from temper.cell import Kind
from temper.report import aspects
from temper.report.columns import describe
from temper.report.spread import Spread

EQUATIONS = {
    Kind.STANDARD: "risk",
    Kind.ADVERSARIAL: "risk under attack",
    Kind.REGULARIZED: "risk + penalties",
    Kind.COMBINED: "risk under attack + penalties",
}


class Shown(NamedTuple):
    """One figure of a card.

    Attributes:
        words: what it is, for people who have read nothing else.
        unit: behind the number.
    """

    metric: str
    words: str
    unit: str


FIGURES = (
    Shown("test/clean", "clean accuracy", "%"),
    Shown("test/worst_case", "robust accuracy", "%"),
    Shown("gap/clean", "generalization gap", "points"),
    Shown("cost/gradient_evaluations", "gradients per example", "an epoch"),
)


class Bar(NamedTuple):
    """A measured figure as a bar.

    Attributes:
        text: mean and standard deviation over seeds, with its unit.
        length, mark: of this kind, and of standard training, as percentages of the longest; None where it was not measured.
    """

    words: str
    text: str
    length: float
    mark: float | None


class Card(NamedTuple):
    """One kind of training, averaged over its cells."""

    kind: Kind
    name: str
    equation: str
    purpose: str
    cells: int
    bars: Sequence[Bar]


def infographic(data: pd.DataFrame, checkpoint: str) -> list[Card]:
    """A card for each kind that the study has: standard, adversarial, regularized, combined.

    Args:
        data: rows as `temper.report.frame.frame` gives them.
        checkpoint: whose numbers are shown.
    """
    said = {Kind.STANDARD: ("standard training", "fit the training set, and nothing else")}
    said |= {row.kind: (row.name, row.said["purpose"]) for row in aspects.load()}
    rows = data[data.checkpoint.isin([checkpoint, "run"])]
    found = {kind: _means(rows[rows.kind == str(kind)]) for kind in EQUATIONS}
    longest = {
        shown.metric: _scale(shown.metric, [means[shown.metric] for means in found.values() if shown.metric in means])
        for shown in FIGURES
    }
    cells = rows.groupby("kind")[["attack", "penalty", "setting"]].apply(lambda group: len(group.drop_duplicates()))
    return [
        Card(
            kind,
            *(said[kind][0], EQUATIONS[kind], said[kind][1]),
            cells=int(cells[str(kind)]),
            bars=[
                _bar(shown, means, found[Kind.STANDARD], longest[shown.metric]) for shown in FIGURES if shown.metric in means
            ],
        )
        for kind, means in found.items()
        if means
    ]


def _means(rows: pd.DataFrame) -> dict[str, Spread]:
    """By metric, over seeds, of the mean over cells."""
    wanted = rows[rows.metric.isin([shown.metric for shown in FIGURES])].dropna(subset=["value"])
    seeds = wanted.groupby(["metric", "seed"]).value.mean()
    return {str(metric): Spread(of.mean(), of.std(), len(of)) for metric, of in seeds.groupby(level="metric")}


def _scale(metric: str, found: Sequence[Spread]) -> float:
    """What a bar over the whole width stands for: accuracies share 0 to 1."""
    return 1.0 if metric.startswith("test/") else max((abs(value.mean) for value in found), default=1.0) or 1.0


def _bar(shown: Shown, means: Mapping[str, Spread], standard: Mapping[str, Spread], longest: float) -> Bar:
    def length(of: Mapping[str, Spread]) -> float:
        return 100 * min(max(of[shown.metric].mean / longest, 0.0), 1.0)

    value = means[shown.metric]
    known = shown.metric in standard and not math.isnan(standard[shown.metric].mean)
    text = f"{value.text(describe(shown.metric))} {shown.unit}"
    return Bar(shown.words, text, length(means), length(standard) if known else None)
