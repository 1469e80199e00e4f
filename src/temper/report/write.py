"""Write the report of one data set: tables, figures, page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table as RichTable

from temper.config.types import number_text
from temper.report.analysis import Analysis
from temper.report.examples.tabular_examples import rows_to_markdown
from temper.report.examples.text_examples import texts_to_markdown
from temper.report.figures import available_figures, save
from temper.report.figures.strength_sweep import strengths_of
from temper.report.page import PageContents, build_cards, render_page, reproduction_info, scatter_chart
from temper.report.records.baseline import describe_baseline
from temper.report.records.load import group_by_dataset
from temper.report.records.long_format import evaluation_keys
from temper.report.tables.audit_badges import LEGEND
from temper.report.tables.markdown_latex import to_markdown
from temper.report.tables.table_files import write_tables
from temper.runs.atomic_files import atomic_write
from temper.runs.record import RunRecord
from temper.runs.terminal import console


def write_report(analysis: Analysis, results: Path) -> list[Any]:
    """Write all files of a report.

    Args:
        analysis: results of the data set.
        results: folder of the report; files of an earlier report are replaced.

    Returns:
        Output for the terminal: the first table, problems, and the paths of the report.
    """
    results.mkdir(parents=True, exist_ok=True)
    about = describe_study(analysis.records, analysis.suite)
    paper, conclusions = analysis.paper, analysis.conclusions
    for name, text in _text_files(analysis, about).items():
        with atomic_write(results / name) as part:
            part.write_text(text)
    write_tables({**paper.tables, **conclusions.tables}, results / "tables")
    figures, figure_problems = _draw_figures(analysis, results)
    problems = [*analysis.problems, *figure_problems]
    files = ["table.md", "table.tex", "tables/", "references.bib", *figures, "runs.csv", *conclusions.files]
    page = PageContents(
        title=analysis.request.title,
        about=about,
        cards=build_cards(analysis.runs),
        judged=analysis.judged,
        style=analysis.style,
        chart=scatter_chart(analysis.data, analysis.checkpoint),
        tables={**paper.tables, **{name: table for name, table in conclusions.tables.items() if name == "front"}},
        effects=conclusions.effects,
        audited=analysis.audit,
        texts=analysis.texts,
        rows=analysis.rows,
        pictures=[results / name for name in figures],
        problems=problems,
        origin=reproduction_info(analysis.records, analysis.request.studies, analysis.suite, analysis.request.overrides),
        files=files,
    )
    with atomic_write(results / "index.html") as part:
        part.write_text(render_page(page))
    return [
        _terminal_table(next(iter(paper.tables.values())).plain),
        *([LEGEND] if analysis.audit is not None else []),
        *problems,
        conclusions.summary,
        f"report: {results}/{', '.join(['index.html', *files])}",
    ]


def describe_study(records: Sequence[RunRecord], suite: str) -> list[str]:
    """Describe the conditions of a study, one line each: data, threat, suite, seeds, baseline, strengths, code and machines.

    Args:
        records: finished runs.
        suite: name of the evaluation suite.
    """
    first = records[0]
    keys = [(record, key) for record in records for key in evaluation_keys(record, suite)]
    suites = [record.evaluations[key]["suite"] for record, key in keys]
    threats = sorted({f"{each['norm']} eps {number_text(each['threat']['eps'])}" for each in suites})
    datasets = sorted(group_by_dataset(records))
    seeds = {record.seed for record in records}
    packages = ("python", "torch", "pytorch-lightning", "torchattacks")
    versions = ", ".join(f"{name} {first.versions.get(name, 'unknown')}" for name in packages)
    machines = sorted(
        {f"{r.hardware.get('gpu', r.hardware.get('cpu', 'unknown machine'))}, {r.threads} thread(s) per run" for r in records}
    )
    codes = sorted({f"code {r.code}, commit {(r.commit or 'none')[:10]}{' with changes' if r.dirty else ''}" for r in records})
    statistics = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed, which is not a result"
    penalized = {(f"{r.attack} x {r.penalty}", float(r.config.get("strength", 1))) for r in records if r.penalty != "none"}
    # A common strength needs no line, and swept strengths are part of the cells' names.
    list_strengths = len({strength for _, strength in penalized}) > 1 and not strengths_of(records)
    strengths = ", ".join(f"{name} {strength:g}" for name, strength in sorted(penalized))
    return [
        f"{', '.join(datasets)}, {', '.join(threats)}, suite {', '.join(sorted({key for _, key in keys}))}; {statistics}.",
        *describe_baseline(records),
        *([f"Strengths: {strengths}."] if list_strengths else []),
        f"Made by {'; '.join(codes)}; {versions}; {'; '.join(machines)}.",
    ]


def _text_files(analysis: Analysis, about: Sequence[str]) -> dict[str, str]:
    """Return the text files of a report, by name."""
    paper, conclusions = analysis.paper, analysis.conclusions
    examples = [texts_to_markdown(analysis.texts)] if analysis.texts else []
    examples += [rows_to_markdown(analysis.rows)] if analysis.rows else []
    latex = [
        *(f"% {line}" for line in about),
        *(table.to_latex() for table in [*paper.tables.values(), *conclusions.tables.values()]),
    ]
    return {
        "runs.csv": analysis.data.drop(columns="recipe").to_csv(index=False, lineterminator="\n"),
        "table.md": "\n".join([_markdown(analysis, about), conclusions.to_markdown(), *examples]),
        "table.tex": "\n".join(latex),
        "references.bib": paper.bibliography,
        **conclusions.files,
    }


def _draw_figures(analysis: Analysis, results: Path) -> tuple[list[str], list[str]]:
    """Draw the figures for which the study has data.

    Returns:
        The names of the files, and a line for each figure whose files are missing or damaged.
    """
    figures, problems = available_figures(
        analysis.records,
        analysis.data,
        analysis.request.studies,
        suite=analysis.suite,
        checkpoint=analysis.checkpoint,
        wanted=analysis.request.settings.get("figures"),
    )
    for name, draw in figures.items():
        save(draw, results / name)
    return [f"{name}.png" for name in figures], problems


def _markdown(analysis: Analysis, about: Sequence[str]) -> str:
    parts = [f"# {analysis.request.title}", "\n".join(about)]
    for table in analysis.paper.tables.values():
        parts += [f"## {table.caption}", table.to_markdown()]
    audit = analysis.audit
    if audit is not None:
        text = "Every check passed." if audit.empty else to_markdown(audit, text_columns=audit.shape[1])
        parts += ["## Audit of the robust accuracies", LEGEND, text]
    if analysis.problems:
        parts += ["## Left out, or not compared", "\n".join(f"- {problem}" for problem in analysis.problems)]
    return "\n\n".join(parts) + "\n"


def _terminal_table(table: pd.DataFrame) -> RichTable:
    """Return a table with one line per row; a narrow terminal omits columns in the middle, which table.md has."""
    while True:
        rich = RichTable(box=None, header_style="bold", pad_edge=False)
        for position, column in enumerate(table.columns):
            # Long penalty names are wrapped, so that the numbers have enough room.
            wrapping: Any = {"max_width": 48} if position == 1 else {"no_wrap": True}
            rich.add_column(column, justify="left" if position < 2 else "right", **wrapping)
        for row in table.itertuples(index=False):
            rich.add_row(*row)
        if console.measure(rich).maximum <= console.width or table.shape[1] <= 5:
            return rich
        table = table.drop(columns=table.columns[-4])
