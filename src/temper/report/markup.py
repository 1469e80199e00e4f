"""A table of texts as Markdown and as LaTeX."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

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


def to_latex(
    shown: pd.DataFrame, caption: str, *, columns: str | None = None, cited: str = "", label: str | None = None
) -> str:
    """A table with booktabs rules; what Markdown sets in bold is bold.

    A table of numbers is made narrower where it is wider than the page, which is turned for it. One of words, or of more rows
    than a page has, goes on over several pages.

    Args:
        columns: how LaTeX sets those of a table of words; None: one of numbers, two names to the left.
        cited: what follows the caption, in LaTeX's own words.
        label: by which a text refers to it.
    """
    headings = {name: [name] if columns else textwrap.wrap(name, HEADING) for name in shown.columns}
    turned = columns is not None or _width(shown, headings) > WIDE
    styled = shown.rename(columns=lambda name: _stacked(headings[name])).map(_text).style.hide(axis="index")
    setting: dict[str, Any] = {"hrules": True, "column_format": columns or "ll" + "r" * (shown.shape[1] - 2)}
    said = f"{_text(caption)}{cited}"
    if columns is not None or len(shown) > (ROWS_TURNED if turned else ROWS):
        body = styled.to_latex(**setting, environment="longtable", caption=said, label=label)
        lines = [r"{\footnotesize", r"\setlength{\tabcolsep}{4pt}", r"\setlength{\LTcapwidth}{\linewidth}", body.strip(), "}"]
    else:
        names = [rf"\label{{{label}}}"] if label else []
        body = styled.to_latex(**setting).strip()
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{said}}}", *names, r"\small", FITTED, body + "}", r"\end{table}"]
    if turned:
        lines = [r"\begin{landscape}", *lines, r"\end{landscape}"]
    return "\n".join([f"% {PACKAGES}", *lines, ""])


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
