"""The page of a study of several data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from temper.report.page.page import template

if TYPE_CHECKING:
    from temper.report.across import Across


def render_across(across: Across, title: str, prices_note: str, problems: Sequence[str]) -> str:
    """As HTML, with everything that it shows inside of it; each data set's own page lies beside it in a folder of its name."""
    return template("across.html.jinja").render(across=across, title=title, prices_note=prices_note, problems=problems)
