"""Claims prepared for the page: each sentence with its verdict, each contrast with its interval as a drawing."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from temper.report.claims.claim import Verdict
from temper.report.claims.judgement import JudgedClaims, remarks
from temper.report.statistics.mean_and_sd import MISSING
from temper.report.statistics.metric_catalogue import NumberFormat
from temper.report.tables import formatting

SIGNS = {Verdict.SUPPORTED: "✓", Verdict.CONTRADICTED: "✗", Verdict.UNDECIDED: "?", Verdict.NOT_EVALUATED: "–"}
# Sides of a contrast as shown to readers.
SIDE_NAMES = {
    "none x none": "standard training",
    "any x none": "adversarial training",
    "none x any": "regularization",
    "any x any": "combined training",
}


class IntervalMark(NamedTuple):
    """Mean and 95 % interval in a drawing of width 100 with 0 in the middle.

    Attributes:
        low, mean, high: positions of the interval and its mean.
        left, width: range in which the claim holds, which begins at its margin.
    """

    low: float
    mean: float
    high: float
    left: float
    width: float


class ContrastView(NamedTuple):
    """One contrast on one metric.

    Attributes:
        joined_by: conjunction with the previous contrast: "and", "or", or empty.
        verdict: verdict of this contrast.
        contrast: description such as "adversarial vs. standard training".
        cells: the compared cells, such as "any x none vs. none x none".
        expectation: claimed difference, such as "clean % lower" or "weights near zero % above +10".
        text: measured difference with its interval, in the unit of the metric.
        interval: drawing of the interval; None if there is no interval, e.g. for one seed.
        g, p, seeds_needed: effect size, corrected p-value and number of seeds that would decide the contrast; empty if unknown.
        n: number of seeds.
        missing: missing cells or metric, with the command that adds them; empty if the contrast was evaluated.
    """

    joined_by: str
    verdict: Verdict
    contrast: str
    cells: str
    expectation: str
    text: str
    interval: IntervalMark | None
    g: str
    p: str
    n: int
    seeds_needed: str
    missing: str


class ClaimView(NamedTuple):
    """One claim.

    Attributes:
        name: name of the claim in the config.
        sentence: the claim in words.
        verdict: verdict by intervals.
        sign: sign of the verdict.
        corrected: the verdict holds after Holm's correction.
        note: remarks on the claim.
        contrasts: contrasts that decide the claim.
    """

    name: str
    sentence: str
    verdict: Verdict
    sign: str
    corrected: bool
    note: str
    contrasts: Sequence[ContrastView]


def claim_views(judged: JudgedClaims, style: NumberFormat) -> list[ClaimView]:
    """Return all claims in order.

    Args:
        judged: claims with their verdicts.
        style: unit and decimal places of differences.
    """
    views = []
    for name, rows in judged.table.groupby("claim", sort=False):
        first = rows.iloc[0]
        verdict = Verdict(first.verdict)
        previous = [None, *rows.joined[:-1]]
        contrasts = [_contrast_view(row, joined, style) for joined, (_, row) in zip(previous, rows.iterrows(), strict=True)]
        corrected = first.verdict == first.verdict_holm
        views.append(ClaimView(str(name), first.sentence, verdict, SIGNS[verdict], corrected, remarks(rows), contrasts))
    return views


def verdict_counts(judged: JudgedClaims) -> list[tuple[Verdict, int]]:
    """Return the number of claims with each verdict that occurs."""
    counts = Counter(judged.verdicts.values())
    return [(verdict, counts[verdict]) for verdict in Verdict if counts[verdict]]


def describe_contrast(contrast: str) -> str:
    """Return a contrast in words.

    Args:
        contrast: as in `temper.report.claims.claim.ContrastClaim.contrast`, e.g. "any x none - none x none".

    Returns:
        Text such as "adversarial vs. standard training".
    """
    if contrast.startswith("synergy of "):
        attack, penalty = contrast.removeprefix("synergy of ").split(" x ", 1)
        return f"synergy of {'attack' if attack == 'any' else attack} and {'penalty' if penalty == 'any' else penalty}"
    of, against = contrast.split(" - ", 1)
    attack, penalty = of.split(" x ", 1)
    base = SIDE_NAMES.get(f"{attack} x none", f"{attack} training")
    if against == f"best of {attack} x without":
        return f"{base} with {penalty} vs. the best without it"
    if penalty != "any" and against in (f"{attack} x none", f"{attack} x without"):
        return f"{base} with vs. without {penalty}"
    of, against = _describe_side(of), _describe_side(against)
    return f"{of.removesuffix(' training') if against.endswith(' training') else of} vs. {against}"


def _describe_side(side: str) -> str:
    if side in SIDE_NAMES:
        return SIDE_NAMES[side]
    attack, penalty = side.split(" x ", 1)
    base = SIDE_NAMES.get(f"{attack} x none", f"{attack} training")
    return base + {"none": "", "any": " with regularization"}.get(penalty, f" with {penalty}")


def _contrast_view(row: pd.Series, previous: str | None, style: NumberFormat) -> ContrastView:
    joined_by = "" if previous is None else "or" if previous == row.joined and previous.endswith("any") else "and"
    metric = style.of(row.metric, row.scale)
    side = ("above", "higher") if row.direction == "more" else ("below", "lower")
    expectation = f"{metric.label} " + (f"{side[0]} {row.margin * metric.factor:+g}" if row.margin else side[1])
    mean, low, high = (value * metric.factor for value in (row["mean"], row.low, row.high))
    return ContrastView(
        joined_by,
        Verdict(row.found),
        describe_contrast(row.contrast),
        row.contrast.replace(" - ", " vs. "),
        expectation,
        _or_empty(formatting.interval(mean, low, high, metric.precision)),
        _interval_mark(row),
        _or_empty(formatting.effect_size(row.g)),
        _or_empty(formatting.p_value(row.p_holm)),
        int(row.n),
        _or_empty(formatting.seeds_needed(row.seeds_needed)),
        row.lacks,
    )


def _or_empty(text: str) -> str:
    return "" if text == MISSING else text


def _interval_mark(row: pd.Series) -> IntervalMark | None:
    if pd.isna(row.low) or pd.isna(row["mean"]):
        return None
    widest = 1.1 * max(abs(row.low), abs(row.high), abs(row.margin)) or 1.0
    low, mean, high, edge = (50 + 50 * value / widest for value in (row.low, row["mean"], row.high, row.margin))
    left, width = (edge, 100 - edge) if row.direction == "more" else (0.0, edge)
    return IntervalMark(*(round(value, 2) for value in (low, mean, high, left, width)))
