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

from temper.report.claims.conclusions import PART
from temper.report.claims.judgement import Judged
from temper.report.examples import tabular_examples, text_examples
from temper.report.examples.kept_examples import Example
from temper.report.examples.tabular_examples import Row, tabulated
from temper.report.page.claim_view import claims, counts
from temper.report.page.kind_cards import Card
from temper.report.page.reproduce import Origin
from temper.report.statistics.metric_catalogue import Style
from temper.report.tables.markdown_latex import BOLD
from temper.report.tables.table_files import ReportTable

ASSETS = Path(__file__).parent / "assets"
CODE = re.compile(r"`(.+?)`")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What stands on the page.

    Attributes:
        title: of the study.
        about: what the numbers rest on, a sentence each.
        cards: the infographic.
        judged: the claims; `style`: how their differences are shown.
        chart: see `temper.report.page.interactive_scatter.chart`.
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
    tables: Mapping[str, ReportTable]
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
        about_texts=text_examples.ABOUT,
        exchanged=text_examples.exchanged,
        about_rows=tabular_examples.ABOUT,
        rows=[tabulated(row) for row in contents.rows],
        library=Markup(_library()) if contents.chart else "",
    )


def template(name: str) -> Template:
    """One of this folder, which knows the style and the scripts."""
    environment = Environment(
        loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"marked": marked, "picture": _picture, "embedded": _embedded}
    own = {"style": "style.css", "tables": "tables.js", "plane": "chart.js"}
    environment.globals |= {key: Markup((ASSETS / file).read_text()) for key, file in own.items()}
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


FIGURES = {
    "tradeoff": "Clean against robust accuracy, a mark for each cell, bars for standard deviations over seeds. What lies on the"
    " dashed line is beaten by no other cell in both.",
    "heatmap": "The grid, a panel for each metric: attacks across, penalties down.",
    "interaction": "Where lines run parallel, attack and penalty add up; where they close or cross, one changes what the other"
    " does.",
    "parts": "What each penalty does on average over those that it is combined with, by the attack that is trained against: the"
    " mean over all cells that have it, each minus the same one without it, and its 95 % interval over seeds.",
    "curves": "Validation accuracy over epochs. A robust accuracy that falls while training goes on is robust overfitting.",
    "radii": "Robust accuracy over the radius eps. The strip below shows what an audit could break beyond that.",
    "strength": "What more of a penalty does to clean accuracy, robust accuracy and cost.",
    "cost": "Robust accuracy against what training cost.",
    "examples": "The input, what the attack adds, what the network then sees, and what it says.",
    "surface": "The loss around one example, along the gradient and a random direction, for one cell of each kind.",
    "weights": "How the weights are distributed, for one cell of each kind.",
}
