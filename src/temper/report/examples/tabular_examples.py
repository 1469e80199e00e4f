"""Tabular test examples: the columns that an attack changed, in their original units, and the predictions of each network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from temper.report.examples.kept_examples import Arrays, Example, ExamplePrediction, kept_examples
from temper.report.records.representatives import RepresentativeRun
from temper.report.tables.markdown_latex import escape_markdown, to_markdown

MAX_COLUMNS = 8
UNCHANGED = "–"
CAPTION = "Examples: rows of the test set before and after an attack"
ABOUT = (
    "Values that an attack changed, in the units of the data set. Where many columns changed, those with the largest change"
    " relative to their standard deviation are shown. Prediction: the predicted class before → after the attack, and the"
    " probability of the true class."
)


@dataclass(frozen=True)
class TabularRow:
    """A row of a tabular data set.

    Attributes:
        values: value by column.
        moved: change by column, in standard deviations of the column; 1 for another category.
    """

    values: dict[str, str]
    moved: dict[str, float] = field(compare=False)


def kept_rows(
    runs: Sequence[RepresentativeRun], suites: Sequence[str], checkpoint: str
) -> tuple[list[Example[TabularRow]], list[str]]:
    """Return the kept rows; see `temper.report.examples.kept_examples.kept_examples`. None if inputs are not tabular."""
    return kept_examples(runs, suites, checkpoint, "rows", _read)


def _read(arrays: Arrays, name: str) -> list[TabularRow]:
    columns = arrays["columns"].tolist()
    rows = zip(arrays[f"rows/{name}"].tolist(), arrays[f"moved/{name}"].tolist(), strict=True)
    return [
        TabularRow(dict(zip(columns, values, strict=True)), dict(zip(columns, moved, strict=True))) for values, moved in rows
    ]


def changes_table(row: Example[TabularRow], escape: Callable[[str], str] = str) -> tuple[pd.DataFrame, str]:
    """Return a table of the changed columns, and a note on the changed columns that are not shown.

    Args:
        row: the example.
        escape: escapes the values for the format in which the table is shown.
    """
    original = row.original.values
    moved = {column: max(_moved(prediction, column) for prediction in row.predictions) for column in original}
    changed = [
        column for column in original if any(_change(row, prediction, column) != UNCHANGED for prediction in row.predictions)
    ]
    shown = sorted(changed, key=lambda column: -moved[column])[:MAX_COLUMNS]
    lines = [["prediction", f"label {row.label}", *(f"{p.before} → {p.after}" for p in row.predictions)]]
    for column in sorted(shown, key=changed.index):
        changes = [_change(row, prediction, column) for prediction in row.predictions]
        marked = [UNCHANGED if change == UNCHANGED else f"**{escape(change)}**" for change in changes]
        lines.append([escape(column), escape(original[column]), *marked])
    titles = ["column", "original", *(prediction.title for prediction in row.predictions)]
    more = len(changed) - len(shown)
    note = f"{more} more {'column' if more == 1 else 'columns'} changed." if more else ""
    return pd.DataFrame(lines, columns=titles), note


def rows_to_markdown(rows: Sequence[Example[TabularRow]]) -> str:
    """Return a section with a table for each example."""
    parts = [f"## {CAPTION}", ABOUT]
    for row in rows:
        table, note = changes_table(row, escape_markdown)
        parts += [to_markdown(table, text_columns=1), *filter(None, [note])]
    return "\n\n".join(parts) + "\n"


def _moved(prediction: ExamplePrediction[TabularRow], column: str) -> float:
    """Return the change of a column, rounded so that floating point errors do not affect the order."""
    return round(prediction.perturbed.moved[column], 2) if prediction.perturbed else 0.0


def _change(row: Example[TabularRow], prediction: ExamplePrediction[TabularRow], column: str) -> str:
    value = prediction.perturbed.values[column] if prediction.perturbed else row.original.values[column]
    return UNCHANGED if value == row.original.values[column] else value
