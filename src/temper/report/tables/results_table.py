"""Tables of a study: cells down, metrics across, mean ± standard deviation over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from temper.report.statistics.mean_and_sd import MISSING, Spread, spread, spreads
from temper.report.statistics.metric_catalogue import METRICS, NAMES, Metric, Unit, describe
from temper.report.tables.audit_badges import BADGES, Audited
from temper.report.tables.markdown_latex import to_latex, to_markdown
from temper.report.tables.published_numbers import SELECTED_ON_TEST, Entry, Published
from temper.report.tables.table_columns import Column, columns_of
from temper.report.tables.table_rows import Row, rows_of

__all__ = [
    "METRICS",
    "MISSING",
    "NAMES",
    "Line",
    "Metric",
    "Table",
    "describe",
    "percent",
    "spread",
    "table",
    "tabulate",
    "to_latex",
    "to_markdown",
]


class Line(NamedTuple):
    """What stands in one row.

    Attributes:
        row: the cell.
        label: of its penalty, or of the published values beside it.
        source: "measured", or the name of what was published.
        n: how many seeds, in words.
        spreads: one for each column; None where there is no value.
        signs: for each column what stands behind its value: the badge of an audit, or that it was selected on the test set.
    """

    row: Row
    label: str
    source: str
    n: str
    spreads: tuple[Spread | None, ...]
    signs: tuple[str, ...]

    @property
    def measured(self) -> bool:
        return self.source == "measured"


class Table(NamedTuple):
    """The numbers of a table, as text and raw."""

    columns: Sequence[Column]
    lines: Sequence[Line]

    def text(self, precision: int | None = None, *, mark: bool = False) -> pd.DataFrame:
        """Ready to print.

        Args:
            precision: digits behind the point, for all columns; None: what suits each.
            mark: the best mean of each column in bold, as Markdown writes it.
        """
        best = [self._best(position) if mark else None for position in range(len(self.columns))]
        shown = []
        for line in self.lines:
            texts = {"attack": line.row.attack, "penalty": line.label}
            for column, value, sign, mean in zip(self.columns, line.spreads, line.signs, best, strict=True):
                text = MISSING if value is None else value.text(column.shown, precision)
                bold = line.measured and value is not None and value.mean == mean
                texts[column.heading] = (f"**{text}**" if bold else text) + (f" {sign}" if sign else "")
            shown.append(texts | {"n": line.n})
        return pd.DataFrame(shown)

    def numbers(self) -> pd.DataFrame:
        """Raw, in the unit of the record: for each column its mean, standard deviation and n."""
        shown = []
        for line in self.lines:
            numbers: dict[str, object] = dict(zip(("attack", "penalty", "setting"), line.row.cell, strict=True))
            numbers["source"] = line.source if line.measured else f"{line.source}: {line.label}"
            for column, value, sign in zip(self.columns, line.spreads, line.signs, strict=True):
                mean, sd, n = value or Spread(float("nan"), float("nan"), 0)
                numbers |= {f"{column.name} mean": mean, f"{column.name} sd": sd, f"{column.name} n": n}
                if any(SELECTED_ON_TEST in other.signs for other in self.lines):
                    numbers[f"{column.name} selected on test"] = sign == SELECTED_ON_TEST
            shown.append(numbers)
        return pd.DataFrame(shown)

    def _best(self, position: int) -> float | None:
        """The best measured mean of a column, unless there is none, or nothing to tell apart."""
        better = self.columns[position].shown.better
        values = [line.spreads[position] for line in self.lines if line.measured]
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
    badges: Mapping[Audited, str] | None = None,
    published: Sequence[Published] = (),
) -> Table:
    """One line per cell of attack x penalty; a cell without runs is shown as missing.

    Args:
        data: rows as `temper.report.records.long_format.frame` gives them.
        columns, attacks, checkpoint, unit: see `temper.report.statistics.metric_catalogue.columns_of`.
        rows: see `temper.report.tables.table_rows.rows_of`.
        badges: what the audit says of each cell, a sign beside each of its robust accuracies.
        published: values of papers; a line of theirs stands below the cells that it fits.

    Raises:
        ValueError: no run has such a metric, or no cell fits such a pattern.
    """
    chosen = columns_of(data, columns, attacks, checkpoint, unit)
    lines, known, study = [], spreads(data), data.seed.nunique()
    robust = {"test/worst_case", *(f"test/{name}" for name in attacks)}
    signs = _signs(data, badges or {})
    ordered = rows_of(data, rows)
    for row, following in zip(ordered, [*ordered[1:], None], strict=True):
        # Fewer seeds than the study has is told beside n.
        n = str(row.seeds) if row.seeds == study else f"{row.seeds} of {study}"
        values = tuple(known.get((*row.cell, column.checkpoint, column.metric)) for column in chosen)
        beside = tuple(signs.get((*row.cell, c.checkpoint), "") if c.metric in robust else "" for c in chosen)
        lines.append(Line(row, row.label, "measured", n, values, beside))
        if row.seeds and (following is None or following[:2] != row[:2]):
            beneath = [_published(row, paper, entry, chosen) for paper in published for entry in paper.of(*row[:2])]
            lines += [line for line in beneath if any(line.spreads)]
    return Table(chosen, lines)


def table(
    data: pd.DataFrame,
    columns: Sequence[str],
    attacks: Sequence[str],
    *,
    checkpoint: str = "last",
    precision: int | None = None,
    badges: Mapping[Audited, str] | None = None,
) -> pd.DataFrame:
    """The text of a table of all cells; see `tabulate` and `Table.text`."""
    return tabulate(data, columns, attacks, checkpoint=checkpoint, badges=badges).text(precision)


def _published(row: Row, paper: Published, entry: Entry, columns: Sequence[Column]) -> Line:
    values = [entry.value(column.metric, column.checkpoint) for column in columns]
    found = tuple(None if value is None else value.spread(paper.runs) for value in values)
    signs = tuple(SELECTED_ON_TEST if value is not None and value.selected_on_test else "" for value in values)
    return Line(row, f"↳ {paper.paper}: {entry.method}", paper.name, str(paper.runs), found, signs)


def _signs(data: pd.DataFrame, badges: Mapping[Audited, str]) -> dict[tuple[str, ...], str]:
    """By cell and checkpoint, the worst badge of its evaluations: it may have been evaluated by several suites of one name."""
    if not badges:
        return {}
    order = list(BADGES.values())
    worst: dict[tuple[str, ...], str] = {}
    evaluated = data[["attack", "penalty", "setting", "checkpoint", "digest", "suite"]].drop_duplicates()
    for *cell, checkpoint, digest, suite in evaluated.itertuples(index=False):
        if sign := badges.get(Audited(digest, suite, checkpoint)):
            key = (*cell, checkpoint)
            worst[key] = max(worst.get(key, sign), sign, key=order.index)
    return worst


def percent(shares: Sequence[float]) -> str:
    """Mean ± standard deviation of shares, in %; as `spread` of accuracies."""
    return spread(pd.Series(shares, dtype=float), Metric(""))
