"""A table of texts as Markdown and as LaTeX."""

import re

import pandas as pd

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
    """A table environment with booktabs rules; what Markdown sets in bold is bold.

    Args:
        columns: how LaTeX sets them; None: two names to the left, numbers to the right.
        cited: what follows the caption, in LaTeX's own words.
        label: by which a text refers to it.
    """
    escaped = shown.rename(columns=_text).map(_text)
    body = escaped.style.hide(axis="index").to_latex(hrules=True, column_format=columns or "ll" + "r" * (shown.shape[1] - 2))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_text(caption)}{cited}}}",
            *([rf"\label{{{label}}}"] if label else []),
            r"\small",
            body.strip(),
            r"\end{table}",
            "",
        ]
    )


def _text(text: str) -> str:
    text = BOLD.sub(r"\\textbf{\1}", text.translate(ESCAPES))
    for sign, command in SIGNS.items():
        text = text.replace(sign, command)
    return text
