"""Results table of a study: one row per cell, one column per metric, mean ± standard deviation over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from temper.report.statistics.mean_and_sd import MISSING, MeanAndSd, format_mean_and_sd, mean_and_sd_by_cell
from temper.report.statistics.metric_catalogue import Metric, Unit
from temper.report.tables.audit_badges import BADGES, EvaluationKey
from temper.report.tables.markdown_latex import to_latex, to_markdown
from temper.report.tables.published_numbers import SELECTED_ON_TEST, PublishedMethod, PublishedPaper
from temper.report.tables.table_columns import Column, columns_of
from temper.report.tables.table_rows import Row, rows_of

__all__ = ["MISSING", "Metric", "Table", "format_mean_and_sd", "percent", "table", "tabulate", "to_latex", "to_markdown"]


class TableLine(NamedTuple):
    """One line of the table: a cell of the study, or a published method that is compared with it.

    Attributes:
        row: the cell.
        label: penalty, or name of the published method.
        source: "measured", or the name of the published numbers.
        n: number of seeds as text.
        values: value of each column; None if there is none.
        marks: mark after the value of each column: an audit badge, or the mark of a checkpoint selected on the test set.
    """

    row: Row
    label: str
    source: str
    n: str
    values: tuple[MeanAndSd | None, ...]
    marks: tuple[str, ...]

    @property
    def measured(self) -> bool:
        return self.source == "measured"


class Table(NamedTuple):
    """Values of a table, available as text and as raw numbers."""

    columns: Sequence[Column]
    lines: Sequence[TableLine]

    def text(self, precision: int | None = None, *, mark: bool = False) -> pd.DataFrame:
        """Return the table as formatted text.

        Args:
            precision: decimal places of all columns; None: those of each metric.
            mark: set the best mean of each column in bold, as Markdown.
        """
        best = [self._best(position) if mark else None for position in range(len(self.columns))]
        rows = []
        for line in self.lines:
            texts = {"attack": line.row.attack, "penalty": line.label}
            for column, value, sign, mean in zip(self.columns, line.values, line.marks, best, strict=True):
                text = MISSING if value is None else value.text(column.shown, precision)
                bold = line.measured and value is not None and value.mean == mean
                texts[column.heading] = (f"**{text}**" if bold else text) + (f" {sign}" if sign else "")
            rows.append(texts | {"n": line.n})
        return pd.DataFrame(rows)

    def numbers(self) -> pd.DataFrame:
        """Return mean, standard deviation and n of each column, in the unit of the record."""
        rows = []
        for line in self.lines:
            numbers: dict[str, object] = dict(zip(("attack", "penalty", "setting"), line.row.cell, strict=True))
            numbers["source"] = line.source if line.measured else f"{line.source}: {line.label}"
            for column, value, sign in zip(self.columns, line.values, line.marks, strict=True):
                mean, sd, n = value or MeanAndSd(float("nan"), float("nan"), 0)
                numbers |= {f"{column.name} mean": mean, f"{column.name} sd": sd, f"{column.name} n": n}
                if any(SELECTED_ON_TEST in other.marks for other in self.lines):
                    numbers[f"{column.name} selected on test"] = sign == SELECTED_ON_TEST
            rows.append(numbers)
        return pd.DataFrame(rows)

    def _best(self, position: int) -> float | None:
        """Return the best measured mean of a column; None if no direction is better, or all means are equal."""
        better = self.columns[position].shown.better
        values = [line.values[position] for line in self.lines if line.measured]
        means = {value.mean for value in values if value is not None}
        if better is None or len(means) < 2:
            return None
        return max(means) if better == "higher" else min(means)


def tabulate(
    data: pd.DataFrame,
    columns: Iterable[str],
    attacks: Sequence[str],
    *,
    checkpoint: str = "last",
    unit: Unit = "percent",
    rows: str | Sequence[str] = "attack",
    badges: Mapping[EvaluationKey, str] | None = None,
    published: Sequence[PublishedPaper] = (),
) -> Table:
    """Return a table with one line per combination of attack and penalty; cells without runs are shown as missing.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        columns: see `temper.report.tables.table_columns.columns_of`.
        attacks: names of the suite's attacks.
        checkpoint: checkpoint of columns that name none.
        unit: unit of accuracies.
        rows: see `temper.report.tables.table_rows.rows_of`.
        badges: audit badge of each evaluation, shown after its robust accuracies; None: no badges.
        published: published numbers, each shown below the cells that it is compared with.

    Raises:
        ValueError: No run has such a metric, or no cell matches such a pattern.
    """
    chosen = columns_of(data, columns, attacks, checkpoint, unit)
    lines, measured, seeds = [], mean_and_sd_by_cell(data), data.seed.nunique()
    robust = {"test/worst_case", *(f"test/{name}" for name in attacks)}
    marks = _marks(data, badges or {})
    ordered = rows_of(data, rows)
    for row, following in zip(ordered, [*ordered[1:], None], strict=True):
        # n states the number of seeds of the study where the cell has fewer.
        n = str(row.seeds) if row.seeds == seeds else f"{row.seeds} of {seeds}"
        cell_values = tuple(measured.get((*row.cell, column.checkpoint, column.metric)) for column in chosen)
        cell_marks = tuple(marks.get((*row.cell, c.checkpoint), "") if c.metric in robust else "" for c in chosen)
        lines.append(TableLine(row, row.label, "measured", n, cell_values, cell_marks))
        if row.seeds and (following is None or following[:2] != row[:2]):
            methods = [(paper, method) for paper in published for method in paper.methods_for(*row[:2])]
            published_lines = [_published_line(row, paper, method, chosen) for paper, method in methods]
            lines += [line for line in published_lines if any(line.values)]
    return Table(chosen, lines)


def table(
    data: pd.DataFrame,
    columns: Sequence[str],
    attacks: Sequence[str],
    *,
    checkpoint: str = "last",
    badges: Mapping[EvaluationKey, str] | None = None,
) -> pd.DataFrame:
    """Return the text of a table of all cells; see `tabulate` and `Table.text`."""
    return tabulate(data, columns, attacks, checkpoint=checkpoint, badges=badges).text()


def _published_line(row: Row, paper: PublishedPaper, method: PublishedMethod, columns: Sequence[Column]) -> TableLine:
    values = [method.value(column.metric, column.checkpoint) for column in columns]
    numbers = tuple(None if value is None else value.mean_and_sd(paper.runs) for value in values)
    marks = tuple(SELECTED_ON_TEST if value is not None and value.selected_on_test else "" for value in values)
    return TableLine(row, f"↳ {paper.paper}: {method.method}", paper.name, str(paper.runs), numbers, marks)


def _marks(data: pd.DataFrame, badges: Mapping[EvaluationKey, str]) -> dict[tuple[str, ...], str]:
    """Return the worst badge by cell and checkpoint: a cell may be evaluated by several suites of one name."""
    if not badges:
        return {}
    order = list(BADGES.values())
    worst: dict[tuple[str, ...], str] = {}
    evaluated = data[["attack", "penalty", "setting", "checkpoint", "digest", "suite"]].drop_duplicates()
    for *cell, checkpoint, digest, suite in evaluated.itertuples(index=False):
        if badge := badges.get(EvaluationKey(digest, suite, checkpoint)):
            key = (*cell, checkpoint)
            worst[key] = max(worst.get(key, badge), badge, key=order.index)
    return worst


def percent(fractions: Sequence[float]) -> str:
    """Return mean ± standard deviation of fractions, in percent."""
    return format_mean_and_sd(pd.Series(fractions, dtype=float), Metric(""))
