"""All tables of a study, each as Markdown, LaTeX and CSV, with the papers of its methods."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from temper.report.records.baseline import baseline_of
from temper.report.records.long_format import evaluations_of
from temper.report.statistics.metric_catalogue import Style, Unit, full_name
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables import kind_comparison, published_numbers
from temper.report.tables.audit_badges import badges
from temper.report.tables.bibliography import citations, cited, methods_of
from temper.report.tables.markdown_latex import words
from temper.report.tables.results_table import Table, tabulate
from temper.report.tables.table_files import ReportTable
from temper.runs.record import RunRecord

CAPTIONS = {
    "accuracy": "Accuracy on the test set: clean, under each attack, and in the worst case over all of them",
    "model": "What training changed: generalization, calibration, sensitivity, weights",
    "views": "Beyond one radius: the eps curve, the distance to the decision boundary, distribution shift",
    "detection": "How class 1 of two is found: average precision, recall, Matthews correlation; clean and in the worst case",
    "cost": "What training cost",
    "comparison": "What each kind of training is for, and what it was measured to do",
}
OPTIONAL = {"views", "detection"}  # tables of what only some suites, or data of two classes, have
BEST = "In bold: the best mean of a column, be its lead large or small."
COMPARED = (
    "Figures: mean ± standard deviation over seeds of the difference to, or the multiple of, the cell that differs in one axis."
)
TEXT_COLUMNS = words(2.2) + 5 * words(2.9)  # of the comparison, which is words


class TableOptions(BaseModel):
    """`table` of conf/report.yaml, checked."""

    model_config = ConfigDict(extra="forbid")

    columns: list[str]
    rows: str | list[str]
    precision: int | None = Field(ge=0, le=12)
    unit: Unit
    checkpoint: str = Field(pattern="^(best|last)$")
    published: list[str] | None
    tables: dict[str, list[str]]

    @property
    def style(self) -> Style:
        """Of differences."""
        return Style(self.unit, self.precision)

    @classmethod
    def of(cls, settings: DictConfig) -> "TableOptions":
        """Raises:
        ValueError: a value is wrong; the message names the key, the value and what would be right.
        """
        values: Any = OmegaConf.to_container(settings.table, resolve=True)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"] if part not in ("str", "list[str]"))
            meant = "Input should be 'best' or 'last'" if key == "checkpoint" else first["msg"]
            raise ValueError(f"table.{key}={first['input']}: {meant}") from error


class Paper(NamedTuple):
    """What a study gives a paper.

    Attributes:
        tables: by name; the first is the one of the paper.
        bibliography: the papers of all methods and published numbers, as BibTeX.
    """

    tables: Mapping[str, ReportTable]
    bibliography: str


def paper_of(
    records: Sequence[RunRecord], data: pd.DataFrame, runs: PairedRuns, suite: str, wanted: TableOptions, checkpoint: str
) -> Paper:
    """The tables that are asked for, and the comparison of the kinds.

    Args:
        records: the runs that were evaluated by the suite.
        data: their numbers, as `temper.report.records.long_format.frame` gives them; `runs` as one block.
        wanted: what is asked of the tables.
        checkpoint: of a column that names none.
    """
    keys = list(dict.fromkeys(key for record in records for key in evaluations_of(record, suite)))
    attacks = list(dict.fromkeys(name for r in records for key in keys if key in r.evaluations for name in r.attacks(key)))
    printed = published_numbers.load(_asked(records) if wanted.published is None else wanted.published)
    papers = [paper.on(baseline_of(records)) for paper in printed]
    signs, there = badges(records, suite), set(data.metric)
    tables: dict[str, ReportTable] = {}
    for name, columns in wanted.tables.items():
        if name in OPTIONAL:
            columns = [column for column in columns if full_name(column.rpartition(":")[2], there) in there]
        if columns:
            made = tabulate(
                data,
                columns,
                attacks,
                checkpoint=checkpoint,
                unit=wanted.unit,
                rows=wanted.rows,
                badges=signs,
                published=papers,
            )
            tables[name] = _printed(name, made, wanted.precision, papers, records)
    methods = [*methods_of(records, keys), *(f"published:{paper.name}" for paper in papers)]
    for name in list(tables)[:1]:
        unmatched = [paper.unmatched() for paper, own in zip(printed, papers, strict=True) if not own.fits(records)]
        tables[name] = tables[name]._replace(cited=citations(methods), notes=[*tables[name].notes, *unmatched])
    texts, numbers = kind_comparison.comparison(runs)
    tables["comparison"] = ReportTable(
        "comparison", CAPTIONS["comparison"], texts, texts, numbers, 6, TEXT_COLUMNS, notes=[COMPARED]
    )
    return Paper(tables, "\n".join(reference.text for reference in cited(methods)))


def _asked(records: Sequence[RunRecord]) -> list[str]:
    """The papers that the experiment of these runs named."""
    return list(dict.fromkeys(str(name) for record in records for name in record.config.get("published") or []))


def _printed(
    name: str, made: Table, precision: int | None, papers: Sequence[published_numbers.Published], records: Sequence[RunRecord]
) -> ReportTable:
    shown, notes = made.text(precision, mark=True), []
    if shown.map(lambda text: "**" in text).any(axis=None):
        notes.append(BEST)
    told = {line.source for line in made.lines if any(value is not None for value in line.spreads)}
    notes += [paper.describe(records) for paper in papers if paper.name in told]
    if shown.map(lambda text: published_numbers.SELECTED_ON_TEST in text).any(axis=None):
        notes.append(published_numbers.LEGEND)
    return ReportTable(name, CAPTIONS.get(name, name), shown, made.text(precision), made.numbers(), notes=notes)
