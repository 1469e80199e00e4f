"""From the parts of a report to its page."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from temper.report import changed_rows, texts
from temper.report.changed_rows import Row, tabulated
from temper.report.claims import Judged
from temper.report.columns import Style
from temper.report.conclusions import PART
from temper.report.markup import BOLD
from temper.report.page.captions import FIGURES
from temper.report.page.infographic import Card
from temper.report.page.origin import Origin
from temper.report.page.verdicts import claims, counts
from temper.report.printed import Printed
from temper.report.readings import Example

HERE = Path(__file__).parent
CODE = re.compile(r"`(.+?)`")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What stands on the page.

    Attributes:
        title: of the study.
        about: what the numbers rest on, a sentence each.
        cards: the infographic.
        judged: the claims; `style`: how their differences are shown.
        chart: see `temper.report.page.plane.chart`.
        tables: by name; words are in `comparison`.
        effects: ready to print.
        audited: what of the audit did not pass; None: there was no audit.
        texts: examples of what exchanging words did.
        rows: examples of what an attack did to rows of a table.
        pictures: PNG files, in their order.
        problems: what is not in the tables.
        origin: how each number is made again.
        files: that lie beside the page.
    """

    title: str
    about: Sequence[str]
    cards: Sequence[Card]
    judged: Judged
    style: Style
    chart: Mapping[str, Any] | None
    tables: Mapping[str, Printed]
    effects: pd.DataFrame
    audited: pd.DataFrame | None
    texts: Sequence[Example[str]]
    rows: Sequence[Example[Row]]
    pictures: Sequence[Path]
    problems: Sequence[str]
    origin: Origin
    files: Sequence[str]


def render(contents: Contents) -> str:
    """The page as HTML, with everything that it shows inside of it; the same contents give the same bytes."""
    return template("page.html.jinja").render(
        page=contents,
        claims=claims(contents.judged, contents.style),
        counts=counts(contents.judged),
        captions=FIGURES,
        about_parts=PART,
        about_texts=texts.ABOUT,
        exchanged=texts.exchanged,
        about_rows=changed_rows.ABOUT,
        rows=[tabulated(row) for row in contents.rows],
        library=Markup(_library()) if contents.chart else "",
    )


def template(name: str) -> Template:
    """One of this folder, which knows the style and the scripts."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"marked": marked, "picture": _picture, "embedded": _embedded}
    own = {"style": "style.css", "tables": "tables.js", "plane": "chart.js"}
    environment.globals |= {key: Markup((HERE / file).read_text()) for key, file in own.items()}
    return environment.get_template(name)


def marked(text: str) -> Markup:
    """Markdown's bold and code as HTML; all else stays text."""
    text = BOLD.sub(r"<strong>\1</strong>", str(escape(text)))
    return Markup(CODE.sub(r"<code>\1</code>", text))


def _picture(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _embedded(value: Any) -> Markup:
    """As JSON that a script can hold: no value can end it."""
    return Markup(json.dumps(value).replace("<", r"\u003c"))


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", r"<\/script")
