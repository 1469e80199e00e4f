"""Cards of the four kinds of training, with measured figures next to those of standard training."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from temper.config.cell import Kind
from temper.report.statistics.contrasts import cells_of_kind, kind_mean
from temper.report.statistics.mean_and_sd import MeanAndSd
from temper.report.statistics.metric_catalogue import describe_metric
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables import kind_comparison

OBJECTIVES = {
    Kind.STANDARD: "risk",
    Kind.ADVERSARIAL: "risk under attack",
    Kind.REGULARIZED: "risk + penalties",
    Kind.COMBINED: "risk under attack + penalties",
}


class CardFigure(NamedTuple):
    """A figure shown on every card.

    Attributes:
        metric: name of the metric.
        label: name shown to readers.
        unit: text after the number.
    """

    metric: str
    label: str
    unit: str


CARD_FIGURES = (
    CardFigure("test/clean", "clean accuracy", "%"),
    CardFigure("test/worst_case", "robust accuracy", "%"),
    CardFigure("gap/clean", "generalization gap", "points"),
    CardFigure("cost/gradient_evaluations", "gradients per example", "per epoch"),
)


class Bar(NamedTuple):
    """A measured figure as a bar.

    Attributes:
        label: name shown to readers.
        text: mean ± standard deviation over seeds, with its unit.
        length: length of the bar, in percent of the longest bar.
        mark: length of the bar of standard training; None if it was not measured.
    """

    label: str
    text: str
    length: float
    mark: float | None


class Card(NamedTuple):
    """One kind of training.

    Attributes:
        kind: the kind.
        name: name shown to readers.
        objective: what the training minimizes.
        purpose: purpose of the kind.
        cells: number of cells that the figures are means over.
        bars: measured figures.
    """

    kind: Kind
    name: str
    objective: str
    purpose: str
    cells: int
    bars: Sequence[Bar]


def build_cards(runs: PairedRuns) -> list[Card]:
    """Return a card for each kind of training in the study: standard, adversarial, regularized, combined."""
    texts = {Kind.STANDARD: ("standard training", "fit the training set only")}
    texts |= {row.kind: (row.name, row.sentences["purpose"]) for row in kind_comparison.load()}
    by_kind = {kind: _means(runs, kind) for kind in OBJECTIVES}
    longest = {
        figure.metric: _scale(figure.metric, [means[figure.metric] for means in by_kind.values() if figure.metric in means])
        for figure in CARD_FIGURES
    }
    cards = []
    for kind, means in by_kind.items():
        if means:
            name, purpose = texts[kind]
            cells = cells_of_kind(runs, kind)
            measured = sum(any(np.isfinite(runs.series(cell, metric)).any() for metric in means) for cell in cells)
            figures = [figure for figure in CARD_FIGURES if figure.metric in means]
            bars = [_bar(figure, means, by_kind[Kind.STANDARD], longest[figure.metric]) for figure in figures]
            cards.append(Card(kind, name, OBJECTIVES[kind], purpose, measured, bars))
    return cards


def _means(runs: PairedRuns, kind: Kind) -> dict[str, MeanAndSd]:
    """Return mean and standard deviation over seeds of the mean over cells, by metric."""
    means = {figure.metric: kind_mean(runs, kind, figure.metric) for figure in CARD_FIGURES}
    return {metric: value for metric, value in means.items() if value is not None}


def _scale(metric: str, values: Sequence[MeanAndSd]) -> float:
    """Return the value of a bar of full width: 1 for accuracies, else the largest value."""
    return 1.0 if metric.startswith("test/") else max((abs(value.mean) for value in values), default=1.0) or 1.0


def _bar(figure: CardFigure, means: Mapping[str, MeanAndSd], standard: Mapping[str, MeanAndSd], longest: float) -> Bar:
    def length(of: Mapping[str, MeanAndSd]) -> float:
        return 100 * min(max(of[figure.metric].mean / longest, 0.0), 1.0)

    has_mark = figure.metric in standard and not math.isnan(standard[figure.metric].mean)
    text = f"{means[figure.metric].text(describe_metric(figure.metric))} {figure.unit}"
    return Bar(figure.label, text, length(means), length(standard) if has_mark else None)
