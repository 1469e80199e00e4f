"""What an attack made of some rows of a table, in the table's own values, and what each kind of network takes them for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from temper.report.examples.kept_examples import Arrays, Example, ExamplePrediction, kept_examples
from temper.report.records.representatives import Pick
from temper.report.tables.markdown_latex import plain, to_markdown

MOST = 8  # columns: those that moved furthest
SAME = "–"
CAPTION = "Examples: rows of the table as an attack left them"
ABOUT = (
    "Values that an attack changed, in the table's own units; of many columns, those that moved furthest, measured by their"
    " spread. Taken for: the class without → with the change, and the true one's probability."
)


@dataclass(frozen=True)
class Row:
    """The values of a row by column, and how far each was moved, in units of its spread."""

    values: dict[str, str]
    moved: dict[str, float] = field(compare=False)


def kept_rows(picks: Sequence[Pick], suites: Sequence[str], checkpoint: str) -> tuple[list[Example[Row]], list[str]]:
    """See `temper.report.examples.kept_examples.kept_examples`; none where inputs are no rows of a table."""
    return kept_examples(picks, suites, checkpoint, "rows", _read)


def _read(arrays: Arrays, name: str) -> list[Row]:
    columns = arrays["columns"].tolist()
    rows = zip(arrays[f"rows/{name}"].tolist(), arrays[f"moved/{name}"].tolist(), strict=True)
    return [Row(dict(zip(columns, values, strict=True)), dict(zip(columns, moved, strict=True))) for values, moved in rows]


def tabulated(row: Example[Row], escaped: Callable[[str], str] = str) -> tuple[pd.DataFrame, str]:
    """A line for each column that was changed for some network, and what is to be said of those that are not shown.

    Args:
        escaped: makes what the table says safe for where it will stand.
    """
    original = row.original.values
    moved = {column: max(_moved(reading, column) for reading in row.readings) for column in original}
    changed = [column for column in original if any(_change(row, reading, column) != SAME for reading in row.readings)]
    shown = sorted(changed, key=lambda column: -moved[column])[:MOST]
    lines = [["taken for", f"label {row.label}", *(f"{reading.before} → {reading.after}" for reading in row.readings)]]
    for column in sorted(shown, key=changed.index):
        changes = [_change(row, reading, column) for reading in row.readings]
        made = [SAME if change == SAME else f"**{escaped(change)}**" for change in changes]
        lines.append([escaped(column), escaped(original[column]), *made])
    titles = ["column", "as it is", *(reading.title for reading in row.readings)]
    more = len(changed) - len(shown)
    said = f"{more} more {'column is' if more == 1 else 'columns are'} changed." if more else ""
    return pd.DataFrame(lines, columns=titles), said


def rows_to_markdown(shown: Sequence[Example[Row]]) -> str:
    """A table for each row."""
    parts = [f"## {CAPTION}", ABOUT]
    for row in shown:
        table, more = tabulated(row, plain)
        parts += [to_markdown(table, words=1), *filter(None, [more])]
    return "\n\n".join(parts) + "\n"


def _moved(reading: ExamplePrediction[Row], column: str) -> float:
    """To two digits, so that a rounding error orders nothing."""
    return round(reading.made.moved[column], 2) if reading.made else 0.0


def _change(row: Example[Row], reading: ExamplePrediction[Row], column: str) -> str:
    made = reading.made.values[column] if reading.made else row.original.values[column]
    return SAME if made == row.original.values[column] else made
