"""Report of a study with several data sets: effects of each kind of training and verdicts on claims, compared by data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import pandas as pd

from temper.config.cell import Kind
from temper.report.analysis import Analysis
from temper.report.claims.claim import Verdict
from temper.report.page.claim_view import SIGNS
from temper.report.page.kind_cards import Card, build_cards
from temper.report.page.page import load_template
from temper.report.statistics.mean_and_sd import MISSING
from temper.report.statistics.metric_catalogue import NumberFormat
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables.kind_comparison import POINTS, TIMES, kind_differences
from temper.report.tables.markdown_latex import to_markdown
from temper.runs.atomic_files import atomic_write

# Columns of the table of effects: a kind, the kind that it is compared with, and a figure of
# `temper.report.tables.kind_comparison`.
KIND_EFFECTS = {
    "adversarial: worst case": (Kind.ADVERSARIAL, Kind.STANDARD, "robust"),
    "adversarial: clean": (Kind.ADVERSARIAL, Kind.STANDARD, "clean"),
    "adversarial: gradients": (Kind.ADVERSARIAL, Kind.STANDARD, "gradients"),
    "regularized: worst case": (Kind.REGULARIZED, Kind.STANDARD, "robust"),
    "regularized: clean": (Kind.REGULARIZED, Kind.STANDARD, "clean"),
    "combined - adversarial: worst case": (Kind.COMBINED, Kind.ADVERSARIAL, "robust"),
    "combined - adversarial: clean": (Kind.COMBINED, Kind.ADVERSARIAL, "clean"),
}
EFFECTS_NOTE = (
    "Differences in points of accuracy from the cell that differs in one axis, and gradient evaluations as a multiple of its;"
    " mean ± standard deviation over seeds. Unless a heading names two kinds, the comparison is with standard training."
)
RAISES, BEATS, LOWERS = "adversarial_raises_robustness", "adversarial_beats_regularization", "adversarial_lowers_clean"


class CrossDatasetReport(NamedTuple):
    """Comparison of several data sets.

    Attributes:
        findings: by data set, a sentence on adversarial training compared with regularization.
        kind_effects: effects of each kind of training, one row per data set; mean ± standard deviation over seeds.
        claims: one row per claim, one column per data set: the verdict, and the difference if the claim has one contrast.
        not_evaluated: number of further claims that no data set evaluates.
        cards: by data set, the cards of its kinds of training.
    """

    findings: Mapping[str, str]
    kind_effects: pd.DataFrame
    claims: pd.DataFrame
    not_evaluated: int
    cards: Mapping[str, list[Card]]

    @classmethod
    def of(cls, analyses: Mapping[str, Analysis]) -> Self:
        """Compare the analyses of several data sets, by name."""
        claims = _claims(analyses)
        unevaluated = (claims.iloc[:, 1:] == _verdict_text(Verdict.NOT_EVALUATED)).all(axis=1)
        return cls(
            findings={name: overall_finding(analysis.judged.verdicts) for name, analysis in analyses.items()},
            kind_effects=pd.DataFrame([{"data set": name} | _kind_effects(a.runs) for name, a in analyses.items()]),
            claims=claims[~unevaluated],
            not_evaluated=int(unevaluated.sum()),
            cards={name: build_cards(analysis.runs) for name, analysis in analyses.items()},
        )


def overall_finding(verdicts: Mapping[str, Verdict]) -> str:
    """Summarize adversarial training compared with regularization, from the verdicts on three claims."""
    raises, beats, lowers = (verdicts.get(name, Verdict.NOT_EVALUATED) for name in (RAISES, BEATS, LOWERS))
    if Verdict.SUPPORTED == raises == beats:
        costs = {Verdict.SUPPORTED: "at a cost in clean accuracy", Verdict.CONTRADICTED: "at no cost in clean accuracy"}
        return f"adversarial training pays off, {costs.get(lowers, 'with an undecided cost in clean accuracy')}"
    if beats == Verdict.CONTRADICTED:
        return "regularization alone suffices"
    if raises == Verdict.CONTRADICTED:
        return "adversarial training does not pay off"
    if Verdict.NOT_EVALUATED in (raises, beats):
        return "not evaluated: cells are missing"
    return "undecided at this sample size"


def write_cross_dataset_report(report: CrossDatasetReport, results: Path, title: str, problems: Sequence[str]) -> None:
    """Write table.md and index.html of a study with several data sets.

    The page is self-contained, except for links to the page of each data set in a subfolder of that name.

    Args:
        report: comparison of the data sets.
        results: folder of the report.
        title: title of the report.
        problems: a line for each record that is left out.
    """
    parts = [f"# {title}", *(f"- {name}: {text}" for name, text in report.findings.items())]
    parts += ["## Effects of each kind of training", to_markdown(report.kind_effects, text_columns=1), EFFECTS_NOTE]
    parts += ["## Claims by data set", to_markdown(report.claims, text_columns=report.claims.shape[1])]
    if report.not_evaluated:
        parts.append(
            f"{report.not_evaluated} further claims are not evaluated on any data set; the report of each data set lists the"
            " missing cells and metrics."
        )
    if problems:
        parts += ["## Left out, or not compared", "\n".join(f"- {problem}" for problem in problems)]
    page = load_template("across.html.jinja").render(across=report, title=title, note=EFFECTS_NOTE, problems=problems)
    results.mkdir(parents=True, exist_ok=True)
    for name, text in {"table.md": "\n\n".join(parts) + "\n", "index.html": page}.items():
        with atomic_write(results / name) as part:
            part.write_text(text)


def _kind_effects(runs: PairedRuns) -> dict[str, str]:
    texts = {}
    for heading, (kind, against, figure) in KIND_EFFECTS.items():
        value = kind_differences(runs, kind, against).get(figure)
        shown = TIMES if figure == "gradients" else POINTS
        texts[heading] = MISSING if value is None else value.text(shown, signed=shown is POINTS)
    return texts


def _claims(analyses: Mapping[str, Analysis]) -> pd.DataFrame:
    columns = {
        name: {
            rows.sentence.iloc[0]: _claim_text(rows, analysis.style)
            for _, rows in analysis.judged.table.groupby("claim", sort=False)
        }
        for name, analysis in analyses.items()
    }
    return pd.DataFrame(columns).fillna(MISSING).rename_axis("claim").reset_index()


def _claim_text(rows: pd.DataFrame, style: NumberFormat) -> str:
    row = rows.iloc[0]
    verdict = _verdict_text(Verdict(row.verdict))
    if len(rows) > 1 or pd.isna(row["mean"]):
        return verdict
    shown = style.of(row.metric, row.scale)
    return f"{verdict} ({row['mean'] * shown.factor:+.{shown.precision}f})"


def _verdict_text(verdict: Verdict) -> str:
    return f"{SIGNS[verdict]} {verdict}"
