"""The comparison as a picture: each kind of training as a card of measured figures, beside the one that trains on nothing."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from temper.config.cell import Kind
from temper.report.statistics.contrasts import cells_of, mean
from temper.report.statistics.mean_and_sd import Spread
from temper.report.statistics.metric_catalogue import describe
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables import kind_comparison

EQUATIONS = {
    Kind.STANDARD: "risk",
    Kind.ADVERSARIAL: "risk under attack",
    Kind.REGULARIZED: "risk + penalties",
    Kind.COMBINED: "risk under attack + penalties",
}


class CardFigure(NamedTuple):
    """One figure of a card.

    Attributes:
        words: what it is, for people who have read nothing else.
        unit: behind the number.
    """

    metric: str
    words: str
    unit: str


FIGURES = (
    CardFigure("test/clean", "clean accuracy", "%"),
    CardFigure("test/worst_case", "robust accuracy", "%"),
    CardFigure("gap/clean", "generalization gap", "points"),
    CardFigure("cost/gradient_evaluations", "gradients per example", "an epoch"),
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


def infographic(runs: PairedRuns) -> list[Card]:
    """A card for each kind that the study has: standard, adversarial, regularized, combined."""
    said = {Kind.STANDARD: ("standard training", "fit the training set, and nothing else")}
    said |= {row.kind: (row.name, row.said["purpose"]) for row in kind_comparison.load()}
    found = {kind: _means(runs, kind) for kind in EQUATIONS}
    longest = {
        shown.metric: _scale(shown.metric, [means[shown.metric] for means in found.values() if shown.metric in means])
        for shown in FIGURES
    }
    return [
        Card(
            kind,
            *(said[kind][0], EQUATIONS[kind], said[kind][1]),
            cells=sum(any(np.isfinite(runs.series(cell, metric)).any() for metric in means) for cell in cells_of(runs, kind)),
            bars=[
                _bar(shown, means, found[Kind.STANDARD], longest[shown.metric]) for shown in FIGURES if shown.metric in means
            ],
        )
        for kind, means in found.items()
        if means
    ]


def _means(runs: PairedRuns, kind: Kind) -> dict[str, Spread]:
    """By metric, over seeds, of the mean over cells."""
    found = {shown.metric: mean(runs, kind, shown.metric) for shown in FIGURES}
    return {metric: value for metric, value in found.items() if value is not None}


def _scale(metric: str, found: Sequence[Spread]) -> float:
    """What a bar over the whole width stands for: accuracies share 0 to 1."""
    return 1.0 if metric.startswith("test/") else max((abs(value.mean) for value in found), default=1.0) or 1.0


def _bar(shown: CardFigure, means: Mapping[str, Spread], standard: Mapping[str, Spread], longest: float) -> Bar:
    def length(of: Mapping[str, Spread]) -> float:
        return 100 * min(max(of[shown.metric].mean / longest, 0.0), 1.0)

    value = means[shown.metric]
    known = shown.metric in standard and not math.isnan(standard[shown.metric].mean)
    text = f"{value.text(describe(shown.metric))} {shown.unit}"
    return Bar(shown.words, text, length(means), length(standard) if known else None)
