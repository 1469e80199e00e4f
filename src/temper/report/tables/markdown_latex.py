"""Tables of text as Markdown and LaTeX."""

import html
import re
import textwrap
from collections.abc import Mapping, Sequence

import pandas as pd

PACKAGES = r"\usepackage{array,booktabs,graphicx,longtable,pdflscape}"
LINE_WIDTH = 85  # characters of a line on an upright page
HEADING_WIDTH = 12  # characters of a line of a heading above numbers
ROWS, ROWS_LANDSCAPE = 38, 22  # rows that fit on a page
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # no wider than a line

BOLD = re.compile(r"\*\*(.+?)\*\*")
SIGNS = {
    "±": r"$\pm$",
    "–": "--",
    "✓": r"$\surd$",
    "✗": r"$\times$",
    "×": r"$\times$",
    "†": r"$\dagger$",
    "↳": r"$\hookrightarrow$",
}
ESCAPES = str.maketrans(
    {character: "\\" + character for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$"}
)


def to_markdown(table: pd.DataFrame, *, text_columns: int = 2) -> str:
    """Return a table as Markdown.

    Args:
        table: cells as text.
        text_columns: number of leading columns that hold text and are aligned left; the others are aligned right.
    """
    align = ["left"] * text_columns + ["right"] * (table.shape[1] - text_columns)
    return table.to_markdown(index=False, colalign=align, disable_numparse=True)


def escape_markdown(text: str) -> str:
    """Escape characters that Markdown would interpret as markup."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(text, quote=False))


def to_latex(
    table: pd.DataFrame, caption: str, *, columns: str | None = None, citations: str = "", label: str | None = None
) -> str:
    """Return a table with booktabs rules; Markdown's bold becomes bold.

    A table of numbers is shrunk to the page width, set in landscape if it is wider than a page, and continued in another
    table if it has more rows than a page. A table of text is set in landscape as a longtable, which breaks across pages.

    Args:
        table: cells as text.
        caption: caption, escaped here.
        columns: LaTeX column specification of a table of text; None: a table of numbers whose first two columns are names.
        citations: LaTeX code after the caption.
        label: label for cross references; None: no label.
    """
    headings = {name: [name] if columns else textwrap.wrap(name, HEADING_WIDTH) for name in table.columns}
    landscape = columns is not None or _width(table, headings) > LINE_WIDTH
    cells = table.rename(columns=lambda name: _stacked(headings[name])).map(_escape_latex)
    caption, rows = f"{_escape_latex(caption)}{citations}", ROWS_LANDSCAPE if landscape else ROWS
    if columns is not None:
        lines = _text_table(cells, columns, caption, label)
    else:
        lines = _number_table(cells[:rows], rf"\caption{{{caption}}}", *([rf"\label{{{label}}}"] if label else []))
        continued = rf"Table~\ref{{{label}}}, continued\par\smallskip" if label else r"Continued\par\smallskip"
        for first in range(rows, len(cells), rows):
            lines += _number_table(cells[first : first + rows], continued)
    if landscape:
        lines = [r"\begin{landscape}", *lines, r"\end{landscape}"]
    return "\n".join([f"% {PACKAGES}", *lines, ""])


def _text_table(cells: pd.DataFrame, columns: str, caption: str, label: str | None) -> list[str]:
    body = cells.style.hide(axis="index").to_latex(
        hrules=True, column_format=columns, environment="longtable", caption=caption, label=label
    )
    return [r"{\footnotesize", r"\setlength{\tabcolsep}{4pt}", r"\setlength{\LTcapwidth}{\linewidth}", body.strip(), "}"]


def _number_table(cells: pd.DataFrame, *above: str) -> list[str]:
    body = cells.style.hide(axis="index").to_latex(hrules=True, column_format="ll" + "r" * (cells.shape[1] - 2))
    return [r"\begin{table}", r"\centering", *above, r"\small", FITTED, body.strip() + "}", r"\end{table}"]


def text_column(width: float) -> str:
    """Return the LaTeX specification of a wrapped, left-aligned text column of this width in cm."""
    return rf">{{\raggedright\arraybackslash}}p{{{width:g}cm}}"


def _width(table: pd.DataFrame, headings: Mapping[str, Sequence[str]]) -> int:
    """Return the number of characters of the widest row, with two characters between columns."""
    return sum(2 + max(map(len, [*headings[column], *table[column]])) for column in table.columns)


def _stacked(lines: Sequence[str]) -> str:
    texts = [_escape_latex(line) for line in lines]
    return texts[0] if len(texts) == 1 else r"\shortstack[r]{" + r"\\".join(texts) + "}"


def _escape_latex(text: str) -> str:
    text = BOLD.sub(r"\\textbf{\1}", text.translate(ESCAPES))
    for sign, command in SIGNS.items():
        text = text.replace(sign, command)
    return text
