"""HTML page of a report."""

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

from temper.report.claims.conclusions import MARGINAL_NOTE
from temper.report.claims.judgement import JudgedClaims
from temper.report.examples import tabular_examples, text_examples
from temper.report.examples.kept_examples import Example
from temper.report.examples.tabular_examples import TabularRow, changes_table
from temper.report.figures.registry import FIGURE_CAPTIONS
from temper.report.page.claim_view import claim_views, verdict_counts
from temper.report.page.kind_cards import Card
from temper.report.page.reproduce import ReproductionInfo
from temper.report.statistics.metric_catalogue import NumberFormat
from temper.report.tables.markdown_latex import BOLD
from temper.report.tables.table_files import ReportTable

ASSETS = Path(__file__).parent / "assets"
CODE = re.compile(r"`(.+?)`")


@dataclass(frozen=True, kw_only=True)
class PageContents:
    """Contents of the page.

    Attributes:
        title: title of the study.
        about: sentences on data, seeds, code and machine.
        cards: a card for each kind of training.
        judged: claims with their verdicts.
        style: unit and decimal places of differences.
        chart: data of the scatter plot, see `temper.report.page.interactive_scatter.scatter_chart`.
        tables: tables by name.
        effects: table of effects as text.
        audited: audit checks that did not pass; None: no audit was run.
        texts: examples of texts with replaced words.
        rows: examples of perturbed rows of a tabular data set.
        pictures: PNG files, in order.
        problems: messages on data that the report excludes.
        origin: commands and environment that reproduce the numbers.
        files: names of the report's other files.
    """

    title: str
    about: Sequence[str]
    cards: Sequence[Card]
    judged: JudgedClaims
    style: NumberFormat
    chart: Mapping[str, Any] | None
    tables: Mapping[str, ReportTable]
    effects: pd.DataFrame
    audited: pd.DataFrame | None
    texts: Sequence[Example[str]]
    rows: Sequence[Example[TabularRow]]
    pictures: Sequence[Path]
    problems: Sequence[str]
    origin: ReproductionInfo
    files: Sequence[str]


def render_page(contents: PageContents) -> str:
    """Return the page as HTML with embedded images, data and scripts; the same contents give the same bytes."""
    return load_template("page.html.jinja").render(
        page=contents,
        claims=claim_views(contents.judged, contents.style),
        counts=verdict_counts(contents.judged),
        captions=FIGURE_CAPTIONS,
        marginal_note=MARGINAL_NOTE,
        about_texts=text_examples.ABOUT,
        word_changes=text_examples.word_changes,
        about_rows=tabular_examples.ABOUT,
        rows=[changes_table(row) for row in contents.rows],
        library=Markup(_library()) if contents.chart else "",
    )


def load_template(name: str) -> Template:
    """Return a template of the assets folder, with the style sheet and the scripts as globals."""
    environment = Environment(
        loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"markdown": markdown_to_html, "data_url": _data_url, "json": _json}
    assets = {"style": "style.css", "tables_script": "tables.js", "chart_script": "chart.js"}
    environment.globals |= {key: Markup((ASSETS / file).read_text()) for key, file in assets.items()}
    return environment.get_template(name)


def markdown_to_html(text: str) -> Markup:
    """Convert Markdown's bold and code to HTML and escape everything else."""
    text = BOLD.sub(r"<strong>\1</strong>", str(escape(text)))
    return Markup(CODE.sub(r"<code>\1</code>", text))


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _json(value: Any) -> Markup:
    """Return JSON for a script element; "<" is escaped, so that no value can close the element."""
    return Markup(json.dumps(value).replace("<", r"\u003c"))


@cache
def _library() -> str:
    """Return the JavaScript bundle of Vega, Vega-Lite and Vega-Embed."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", r"<\/script")
