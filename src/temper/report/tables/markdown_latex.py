"""A table of texts as Markdown and as LaTeX."""

import html
import re
import textwrap
from collections.abc import Mapping, Sequence

import pandas as pd

PACKAGES = r"\usepackage{array,booktabs,graphicx,longtable,pdflscape}"
WIDE = 85  # characters that a line of a page has
HEADING = 12  # characters of a line of a heading over numbers
ROWS, ROWS_TURNED = 38, 22  # that a page has, upright and turned
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


def to_markdown(shown: pd.DataFrame, *, words: int = 2) -> str:
    """A table whose first columns are words, to the left, and the others numbers, to the right."""
    align = ["left"] * words + ["right"] * (shown.shape[1] - words)
    return shown.to_markdown(index=False, colalign=align, disable_numparse=True)


def plain(text: str) -> str:
    """So that Markdown takes none of it for a mark."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(text, quote=False))


def to_latex(
    shown: pd.DataFrame, caption: str, *, columns: str | None = None, cited: str = "", label: str | None = None
) -> str:
    """A table with booktabs rules; what Markdown sets in bold is bold.

    One of numbers is made narrower where it is wider than the page, which is turned for it, and goes on in another where it
    has more rows than a page. One of words is turned, and breaks where the page does.

    Args:
        columns: how LaTeX sets those of a table of words; None: one of numbers, two names to the left.
        cited: what follows the caption, in LaTeX's own words.
        label: by which a text refers to it.
    """
    headings = {name: [name] if columns else textwrap.wrap(name, HEADING) for name in shown.columns}
    turned = columns is not None or _width(shown, headings) > WIDE
    printed = shown.rename(columns=lambda name: _stacked(headings[name])).map(_text)
    said, rows = f"{_text(caption)}{cited}", ROWS_TURNED if turned else ROWS
    if columns is not None:
        lines = _of_words(printed, columns, said, label)
    else:
        lines = _of_numbers(printed[:rows], rf"\caption{{{said}}}", *([rf"\label{{{label}}}"] if label else []))
        again = rf"Table~\ref{{{label}}}, continued\par\smallskip" if label else r"Continued\par\smallskip"
        for first in range(rows, len(printed), rows):
            lines += _of_numbers(printed[first : first + rows], again)
    if turned:
        lines = [r"\begin{landscape}", *lines, r"\end{landscape}"]
    return "\n".join([f"% {PACKAGES}", *lines, ""])


def _of_words(printed: pd.DataFrame, columns: str, caption: str, label: str | None) -> list[str]:
    body = printed.style.hide(axis="index").to_latex(
        hrules=True, column_format=columns, environment="longtable", caption=caption, label=label
    )
    return [r"{\footnotesize", r"\setlength{\tabcolsep}{4pt}", r"\setlength{\LTcapwidth}{\linewidth}", body.strip(), "}"]


def _of_numbers(printed: pd.DataFrame, *above: str) -> list[str]:
    body = printed.style.hide(axis="index").to_latex(hrules=True, column_format="ll" + "r" * (printed.shape[1] - 2))
    return [r"\begin{table}", r"\centering", *above, r"\small", FITTED, body.strip() + "}", r"\end{table}"]


def words(width: float) -> str:
    """How LaTeX sets a column of words: so many cm wide, wrapped, and not stretched to its right edge."""
    return rf">{{\raggedright\arraybackslash}}p{{{width:g}cm}}"


def _width(shown: pd.DataFrame, headings: Mapping[str, Sequence[str]]) -> int:
    """Characters of the widest line, and two between columns."""
    return sum(2 + max(map(len, [*headings[column], *shown[column]])) for column in shown.columns)


def _stacked(lines: Sequence[str]) -> str:
    texts = [_text(line) for line in lines]
    return texts[0] if len(texts) == 1 else r"\shortstack[r]{" + r"\\".join(texts) + "}"


def _text(text: str) -> str:
    text = BOLD.sub(r"\\textbf{\1}", text.translate(ESCAPES))
    for sign, command in SIGNS.items():
        text = text.replace(sign, command)
    return text
