"""All result tables of a study, with the references of its methods."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from temper.report.records.baseline import baseline_penalties
from temper.report.records.long_format import evaluation_keys
from temper.report.statistics.metric_catalogue import NumberFormat, Unit, resolve_metric_name
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables import published_numbers
from temper.report.tables.audit_badges import badges
from temper.report.tables.bibliography import citations, cited, methods_of
from temper.report.tables.kind_comparison import comparison_tables
from temper.report.tables.markdown_latex import text_column
from temper.report.tables.results_table import Table, tabulate
from temper.report.tables.table_files import ReportTable
from temper.runs.record import RunRecord

CAPTIONS = {
    "accuracy": "Accuracy on the test set: clean, under each attack, and in the worst case over all attacks",
    "model": "Properties of the trained models: generalization, calibration, sensitivity, weights",
    "views": "Robustness beyond one radius: eps curve, distance to the decision boundary, distribution shift",
    "detection": "Detection of class 1 in binary data: average precision, TPR at 1 % FPR and MCC, clean and in the worst case",
    "cost": "Training cost",
    "comparison": "Kinds of training: purpose, approach, measured impact, cost and use",
}
OPTIONAL = {"views", "detection"}  # tables that only some suites, or binary data, have metrics for
BEST_NOTE = "Bold: the best mean of each column, regardless of significance."
COMPARISON_NOTE = (
    "Figures: difference or ratio to the cell that differs in one axis only; mean ± standard deviation over seeds."
)
COMPARISON_COLUMNS = text_column(2.2) + 5 * text_column(2.9)


class TableOptions(BaseModel):
    """Validated `table` section of conf/report.yaml."""

    model_config = ConfigDict(extra="forbid")

    columns: list[str]
    rows: str | list[str]
    precision: int | None = Field(ge=0, le=12)
    unit: Unit
    checkpoint: str = Field(pattern="^(best|last)$")
    published: list[str] | None
    tables: dict[str, list[str]]

    @property
    def style(self) -> NumberFormat:
        """Unit and decimal places of differences."""
        return NumberFormat(self.unit, self.precision)

    @classmethod
    def of(cls, settings: DictConfig) -> "TableOptions":
        """Return the options of a report's config.

        Raises:
            ValueError: A value is invalid; the message names the key, the value and the expected input.
        """
        values: Any = OmegaConf.to_container(settings.table, resolve=True)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"] if part not in ("str", "list[str]"))
            message = "Input should be 'best' or 'last'" if key == "checkpoint" else first["msg"]
            raise ValueError(f"table.{key}={first['input']}: {message}.") from error


class PaperTables(NamedTuple):
    """Tables and bibliography of a study.

    Attributes:
        tables: tables by name; the first is the main table.
        bibliography: BibTeX entries of all methods and published numbers.
    """

    tables: Mapping[str, ReportTable]
    bibliography: str


def paper_tables(
    records: Sequence[RunRecord], data: pd.DataFrame, runs: PairedRuns, suite: str, options: TableOptions, checkpoint: str
) -> PaperTables:
    """Return the requested tables and the comparison of the kinds of training.

    Args:
        records: runs that were evaluated by the suite.
        data: their numbers, as returned by `temper.report.records.long_format.frame`.
        runs: the same numbers as an array.
        suite: name of the evaluation suite.
        options: options of the tables.
        checkpoint: checkpoint of columns that name none.
    """
    keys = list(dict.fromkeys(key for record in records for key in evaluation_keys(record, suite)))
    attacks = list(dict.fromkeys(name for r in records for key in keys if key in r.evaluations for name in r.attacks(key)))
    loaded = published_numbers.load(_published_names(records) if options.published is None else options.published)
    papers = [paper.relative_to(baseline_penalties(records)) for paper in loaded]
    marks, metrics = badges(records, suite), set(data.metric)
    tables: dict[str, ReportTable] = {}
    for name, columns in options.tables.items():
        if name in OPTIONAL:
            columns = [column for column in columns if resolve_metric_name(column.rpartition(":")[2], metrics) in metrics]
        if columns:
            table = tabulate(
                data,
                columns,
                attacks,
                checkpoint=checkpoint,
                unit=options.unit,
                rows=options.rows,
                badges=marks,
                published=papers,
            )
            tables[name] = _report_table(name, table, options.precision, papers, records)
    methods = [*methods_of(records, keys), *(f"published:{paper.name}" for paper in papers)]
    for name in list(tables)[:1]:
        unmatched = [
            paper.unmatched_note() for paper, renamed in zip(loaded, papers, strict=True) if not renamed.matches_any(records)
        ]
        tables[name] = tables[name]._replace(citations=citations(methods), notes=[*tables[name].notes, *unmatched])
    texts, numbers = comparison_tables(runs)
    tables["comparison"] = ReportTable(
        "comparison", CAPTIONS["comparison"], texts, texts, numbers, 6, COMPARISON_COLUMNS, notes=[COMPARISON_NOTE]
    )
    return PaperTables(tables, "\n".join(reference.text for reference in cited(methods)))


def _published_names(records: Sequence[RunRecord]) -> list[str]:
    """Return the published numbers that the experiment of these runs lists."""
    return list(dict.fromkeys(str(name) for record in records for name in record.config.get("published") or []))


def _report_table(
    name: str,
    table: Table,
    precision: int | None,
    papers: Sequence[published_numbers.PublishedPaper],
    records: Sequence[RunRecord],
) -> ReportTable:
    shown, notes = table.text(precision, mark=True), []
    if shown.map(lambda text: "**" in text).any(axis=None):
        notes.append(BEST_NOTE)
    sources = {line.source for line in table.lines if any(value is not None for value in line.values)}
    notes += [paper.describe(records) for paper in papers if paper.name in sources]
    if shown.map(lambda text: published_numbers.SELECTED_ON_TEST in text).any(axis=None):
        notes.append(published_numbers.LEGEND)
    return ReportTable(name, CAPTIONS.get(name, name), shown, table.text(precision), table.numbers(), notes=notes)
