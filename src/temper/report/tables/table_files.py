"""Tables of a report, and their files in Markdown, LaTeX and CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from temper.report.tables.markdown_latex import to_latex, to_markdown
from temper.runs.atomic_files import atomic_write


class ReportTable(NamedTuple):
    """One table of a report.

    Attributes:
        name: file name without its suffix, and LaTeX label.
        caption: caption without a final period.
        shown: cells as text with Markdown's bold.
        plain: cells as text without markup.
        numbers: raw numbers, written as CSV.
        text_columns: number of leading columns that hold text.
        latex_columns: LaTeX column specification of a table of text; None: a table of numbers.
        citations: LaTeX code after the caption.
        notes: remarks that a reader needs, below the table and in the LaTeX caption.
        about: further paragraphs below the table in Markdown only.
    """

    name: str
    caption: str
    shown: pd.DataFrame
    plain: pd.DataFrame
    numbers: pd.DataFrame
    text_columns: int = 2
    latex_columns: str | None = None
    citations: str = ""
    notes: Sequence[str] = ()
    about: Sequence[str] = ()

    def to_markdown(self) -> str:
        """Return the table with its notes and paragraphs, without the caption."""
        return "\n\n".join([to_markdown(self.shown, text_columns=self.text_columns), *self.notes, *self.about])

    def to_latex(self) -> str:
        """Return the table with its notes in the caption."""
        caption = " ".join([f"{self.caption}.", *self.notes])
        return to_latex(self.shown, caption, columns=self.latex_columns, citations=self.citations, label=f"tab:{self.name}")


def write_tables(tables: Mapping[str, ReportTable], folder: Path) -> None:
    """Write each table as <name>.md, <name>.tex and <name>.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        for suffix, text in {
            "md": table.to_markdown() + "\n",
            "tex": table.to_latex(),
            "csv": table.numbers.to_csv(index=False, lineterminator="\n"),
        }.items():
            with atomic_write(folder / f"{name}.{suffix}") as part:
                part.write_text(text)
