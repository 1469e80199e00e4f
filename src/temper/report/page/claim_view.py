"""The claims of a study for the page: each sentence with its verdict, and each of its parts with its interval as a picture."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from temper.report.claims.claim import Verdict
from temper.report.claims.judgement import Judged, remarks
from temper.report.statistics.mean_and_sd import MISSING
from temper.report.statistics.metric_catalogue import Style
from temper.report.tables import formatting

SIGNS = {Verdict.SUPPORTED: "✓", Verdict.CONTRADICTED: "✗", Verdict.UNDECIDED: "?", Verdict.LACKING: "–"}


class Interval(NamedTuple):
    """Mean and 95 % interval in a picture that is 100 wide, with 0 in its middle.

    Attributes:
        left, width: of the side on which a claim holds, which begins at its margin.
    """

    low: float
    mean: float
    high: float
    left: float
    width: float


class PartShown(NamedTuple):
    """One contrast on one metric.

    Attributes:
        joint: how it is joined to the part before it: "and", "or", nothing.
        corrected: whether it is found so after Holm's correction too.
        contrast: which cells are set against which.
        asked: where the difference is to lie, such as "clean % lower" or "weights near zero % above +10".
        text: the difference with its interval, in the metric's unit.
        interval: None where there is none, as of one seed.
    """

    joint: str
    found: Verdict
    corrected: bool
    contrast: str
    asked: str
    text: str
    interval: Interval | None
    g: str
    p: str
    n: int
    seeds: str
    lacks: str


class ClaimShown(NamedTuple):
    """One claim."""

    name: str
    sentence: str
    verdict: Verdict
    sign: str
    corrected: bool
    note: str
    parts: Sequence[PartShown]


def claims(judged: Judged, style: Style) -> list[ClaimShown]:
    """All claims in their order."""
    found = []
    for name, rows in judged.table.groupby("claim", sort=False):
        first = rows.iloc[0]
        verdict = Verdict(first.verdict)
        before = [None, *rows.joined[:-1]]
        parts = [_part(row, joined, style) for joined, (_, row) in zip(before, rows.iterrows(), strict=True)]
        corrected = first.verdict == first.verdict_holm
        found.append(ClaimShown(str(name), first.sentence, verdict, SIGNS[verdict], corrected, remarks(rows), parts))
    return found


def counts(judged: Judged) -> list[tuple[Verdict, int]]:
    """How many claims have each verdict, those that none has left out."""
    found = Counter(judged.verdicts.values())
    return [(verdict, found[verdict]) for verdict in Verdict if found[verdict]]


def _part(row: pd.Series, before: str | None, style: Style) -> PartShown:
    joint = "" if before is None else "or" if before == row.joined and before.endswith("any") else "and"
    metric = style.of(row.metric, row.scale)
    side = ("above", "higher") if row.direction == "more" else ("below", "lower")
    asked = f"{metric.label} " + (f"{side[0]} {row.margin * metric.factor:+g}" if row.margin else side[1])
    mean, low, high = (value * metric.factor for value in (row["mean"], row.low, row.high))
    return PartShown(
        joint,
        Verdict(row.found),
        row.found == row.found_holm,
        row.contrast.replace(" - ", " against "),
        asked,
        _known(formatting.interval(mean, low, high, metric.precision)),
        _interval(row),
        _known(formatting.effect_size(row.g)),
        _known(formatting.p_value(row.p_holm)),
        int(row.n),
        _known(formatting.seeds(row.seeds_needed)),
        row.lacks,
    )


def _known(text: str) -> str:
    return "" if text == MISSING else text


def _interval(row: pd.Series) -> Interval | None:
    if pd.isna(row.low) or pd.isna(row["mean"]):
        return None
    widest = 1.1 * max(abs(row.low), abs(row.high), abs(row.margin)) or 1.0
    low, mean, high, edge = (50 + 50 * value / widest for value in (row.low, row["mean"], row.high, row.margin))
    left, width = (edge, 100 - edge) if row.direction == "more" else (0.0, edge)
    return Interval(*(round(value, 2) for value in (low, mean, high, left, width)))
