"""A table that is ready to be written: as Markdown, LaTeX and CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from temper.report.tables.markdown_latex import to_latex, to_markdown
from temper.runs.atomic_files import atomic_write


class ReportTable(NamedTuple):
    """One table.

    Attributes:
        shown: its text, with Markdown's marks; `plain` without.
        numbers: raw.
        words: how many of its first columns are no numbers.
        latex: how LaTeX sets the columns of a table of words; None: it is one of numbers.
        cited: what follows the caption in LaTeX.
        notes: what a reader must know, a line each.
        about: what is said below it where there is room, a paragraph each.
    """

    name: str
    caption: str
    shown: pd.DataFrame
    plain: pd.DataFrame
    numbers: pd.DataFrame
    words: int = 2
    latex: str | None = None
    cited: str = ""
    notes: Sequence[str] = ()
    about: Sequence[str] = ()

    def to_markdown(self) -> str:
        return "\n\n".join([to_markdown(self.shown, words=self.words), *self.notes, *self.about])

    def to_latex(self) -> str:
        notes = "".join(f" {note}" for note in self.notes)
        return to_latex(self.shown, f"{self.caption}.{notes}", columns=self.latex, cited=self.cited, label=f"tab:{self.name}")


def write_tables(tables: Mapping[str, ReportTable], folder: Path) -> None:
    """Each as <name>.md, .tex and .csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, printed in tables.items():
        for ending, text in {
            "md": printed.to_markdown() + "\n",
            "tex": printed.to_latex(),
            "csv": printed.numbers.to_csv(index=False, lineterminator="\n"),
        }.items():
            with atomic_write(folder / f"{name}.{ending}") as part:
                part.write_text(text)
