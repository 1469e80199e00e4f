"""A study of several data sets: the same claims on each, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pandas as pd

from temper.config.cell import Kind
from temper.report.claims.claim import Verdict
from temper.report.claims.judgement import Judged
from temper.report.page.claim_view import SIGNS
from temper.report.page.kind_cards import Card, infographic
from temper.report.page.page import template
from temper.report.statistics.mean_and_sd import MISSING
from temper.report.statistics.metric_catalogue import Style
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables.kind_comparison import POINTS, TIMES, measured
from temper.report.tables.markdown_latex import to_markdown
from temper.runs.atomic_files import atomic_write

# Columns of the table of prices: one kind against another, in a figure of `temper.report.tables.kind_comparison`.
PRICES = {
    "adversarial: worst case": (Kind.ADVERSARIAL, Kind.STANDARD, "robust"),
    "adversarial: clean": (Kind.ADVERSARIAL, Kind.STANDARD, "clean"),
    "adversarial: gradients": (Kind.ADVERSARIAL, Kind.STANDARD, "gradients"),
    "regularized: worst case": (Kind.REGULARIZED, Kind.STANDARD, "robust"),
    "regularized: clean": (Kind.REGULARIZED, Kind.STANDARD, "clean"),
    "combined - adversarial: worst case": (Kind.COMBINED, Kind.ADVERSARIAL, "robust"),
    "combined - adversarial: clean": (Kind.COMBINED, Kind.ADVERSARIAL, "clean"),
}
PRICES_NOTE = (
    "Differences in points of accuracy to the cell that differs in one axis, and gradient evaluations as a multiple of it;"
    " mean ± standard deviation over seeds."
)
RAISES, BEATS, LOWERS = "adversarial_raises_robustness", "adversarial_beats_regularization", "adversarial_lowers_clean"


class DatasetReport(Protocol):
    """The report of one data set."""

    @property
    def runs(self) -> PairedRuns: ...
    @property
    def judged(self) -> Judged: ...
    @property
    def style(self) -> Style: ...


class Across(NamedTuple):
    """Several data sets side by side.

    Attributes:
        readings: by data set, what the claims say of adversarial training against regularization there.
        prices: what each kind brings and costs, a row for each data set: mean ± standard deviation over seeds.
        claims: a row for each claim, a column for each data set: verdict, and the difference that a claim of one part rests on.
        lacking: how many more claims lack cells or metrics in every data set.
        cards: of the infographic.
    """

    readings: Mapping[str, str]
    prices: pd.DataFrame
    claims: pd.DataFrame
    lacking: int
    cards: Mapping[str, list[Card]]

    @classmethod
    def of(cls, made: Mapping[str, DatasetReport]) -> Across:
        judged = {name: one.judged for name, one in made.items()}
        claims = _claims(made)
        nowhere = (claims.iloc[:, 1:] == _said(Verdict.LACKING)).all(axis=1)
        return cls(
            readings={name: reading(one.verdicts) for name, one in judged.items()},
            prices=pd.DataFrame([{"data": name} | _prices(one.runs) for name, one in made.items()]),
            claims=claims[~nowhere],
            lacking=int(nowhere.sum()),
            cards={name: infographic(one.runs) for name, one in made.items()},
        )


def reading(verdicts: Mapping[str, Verdict]) -> str:
    """Where adversarial training pays, and where regularization is enough, by the verdicts on three claims."""
    raises, beats, lowers = (verdicts.get(name, Verdict.LACKING) for name in (RAISES, BEATS, LOWERS))
    if Verdict.SUPPORTED == raises == beats:
        price = {Verdict.SUPPORTED: ", at a price in clean accuracy", Verdict.CONTRADICTED: ", at no price in clean accuracy"}
        return "adversarial training pays" + price.get(lowers, ", its price in clean accuracy undecided")
    if beats == Verdict.CONTRADICTED:
        return "regularization is enough"
    if raises == Verdict.CONTRADICTED:
        return "adversarial training does not pay"
    return "undecided at this sample size" if Verdict.LACKING not in (raises, beats) else "cells are lacking"


def write_across(across: Across, results: Path, title: str, problems: Iterable[str]) -> None:
    """table.md and index.html of a study of several data sets."""
    problems = list(problems)
    parts = [f"# {title}", *(f"- {name}: {text}" for name, text in across.readings.items())]
    parts += ["## What each kind of training brings and costs", to_markdown(across.prices, words=1), PRICES_NOTE]
    parts += ["## The claims, data set by data set", to_markdown(across.claims, words=across.claims.shape[1])]
    if across.lacking:
        parts.append(f"{across.lacking} more claims lack cells or metrics in every data set; its own report says which.")
    if problems:
        parts += ["## Left out, or not compared", "\n".join(f"- {problem}" for problem in problems)]
    results.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "table.md": "\n\n".join(parts) + "\n",
        "index.html": render_across(across, title, PRICES_NOTE, problems),
    }.items():
        with atomic_write(results / name) as part:
            part.write_text(text)


def _prices(runs: PairedRuns) -> dict[str, str]:
    found = {}
    for heading, (kind, against, figure) in PRICES.items():
        value = measured(runs, kind, against).get(figure)
        shown = TIMES if figure == "gradients" else POINTS
        found[heading] = MISSING if value is None else value.text(shown, signed=shown is POINTS)
    return found


def _claims(made: Mapping[str, DatasetReport]) -> pd.DataFrame:
    columns = {
        name: {rows.sentence.iloc[0]: _cell(rows, one.style) for _, rows in one.judged.table.groupby("claim", sort=False)}
        for name, one in made.items()
    }
    return pd.DataFrame(columns).fillna(MISSING).rename_axis("claim").reset_index()


def _cell(parts: pd.DataFrame, style: Style) -> str:
    row = parts.iloc[0]
    said = _said(Verdict(row.verdict))
    if len(parts) > 1 or pd.isna(row["mean"]):
        return said
    shown = style.of(row.metric, row.scale)
    return f"{said} ({row['mean'] * shown.factor:+.{shown.precision}f})"


def _said(verdict: Verdict) -> str:
    return f"{SIGNS[verdict]} {verdict}"


if TYPE_CHECKING:
    from temper.report.cross_dataset import Across


def render_across(across: Across, title: str, prices_note: str, problems: Sequence[str]) -> str:
    """As HTML, with everything that it shows inside of it; each data set's own page lies beside it in a folder of its name."""
    return template("across.html.jinja").render(across=across, title=title, prices_note=prices_note, problems=problems)
