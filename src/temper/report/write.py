"""The report of one data set as files: texts, figures, the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table as RichTable

from temper.report.analysis import Analysis
from temper.report.examples.tabular_examples import rows_to_markdown
from temper.report.examples.text_examples import texts_to_markdown
from temper.report.figures import gallery, save
from temper.report.figures.strength_sweep import strengths_of
from temper.report.page import Contents, chart, infographic, origin, render
from temper.report.records import baseline
from temper.report.records.load import by_data
from temper.report.records.long_format import evaluations_of
from temper.report.tables.audit_badges import LEGEND
from temper.report.tables.markdown_latex import to_markdown
from temper.report.tables.table_files import write_tables
from temper.runs.atomic_files import atomic_write
from temper.runs.record import RunRecord
from temper.runs.terminal import console


def write(found: Analysis, results: Path) -> list[Any]:
    """Write all files of a report.

    Args:
        results: its folder; files of an earlier report are replaced whole.

    Returns:
        What to show on a terminal: the first table, problems, and where the report lies.
    """
    results.mkdir(parents=True, exist_ok=True)
    about = describe_study(found.records, found.suite)
    for name, text in _texts(found, about).items():
        with atomic_write(results / name) as part:
            part.write_text(text)
    write_tables({**found.paper.tables, **found.concluded.tables}, results / "tables")
    pictures, missing = _pictures(found, results)
    problems = [*found.problems, *missing]
    files = ["table.md", "table.tex", "tables/", "references.bib", *pictures, "runs.csv", *found.concluded.files]
    page = Contents(
        title=found.asked.title,
        about=about,
        cards=infographic(found.runs),
        judged=found.judged,
        style=found.style,
        chart=chart(found.data, found.checkpoint),
        tables={**found.paper.tables, **{n: t for n, t in found.concluded.tables.items() if n == "front"}},
        effects=found.concluded.effects,
        audited=found.audited,
        texts=found.texts,
        rows=found.rows,
        pictures=[results / name for name in pictures],
        problems=problems,
        origin=origin(found.records, found.asked.studies, found.suite, found.asked.typed),
        files=files,
    )
    with atomic_write(results / "index.html") as part:
        part.write_text(render(page))
    return [
        _for_terminal(next(iter(found.paper.tables.values())).plain),
        *([LEGEND] if found.audited is not None else []),
        *problems,
        found.concluded.summary,
        f"report: {results}/{', '.join(['index.html', *files])}",
    ]


def _texts(found: Analysis, about: Sequence[str]) -> dict[str, str]:
    """By the name of its file."""
    tables, concluded = found.paper.tables, found.concluded
    examples = [texts_to_markdown(found.texts)] if found.texts else []
    examples += [rows_to_markdown(found.rows)] if found.rows else []
    latex = [
        *(f"% {line}" for line in about),
        *(printed.to_latex() for printed in [*tables.values(), *concluded.tables.values()]),
    ]
    return {
        "runs.csv": found.data.drop(columns="recipe").to_csv(index=False, lineterminator="\n"),
        "table.md": "\n".join([_markdown(found, about), concluded.to_markdown(), *examples]),
        "table.tex": "\n".join(latex),
        "references.bib": found.paper.bibliography,
        **concluded.files,
    }


def _pictures(found: Analysis, results: Path) -> tuple[list[str], list[str]]:
    """Draw what the study has what for: names of files, and a line for each figure that what lies on disk is no good for."""
    figures, missing = gallery(
        found.records,
        found.data,
        found.asked.studies,
        suite=found.suite,
        checkpoint=found.checkpoint,
        wanted=found.asked.settings.get("figures"),
    )
    for name, draw in figures.items():
        save(draw, results / name)
    return [f"{name}.png" for name in figures], missing


def _markdown(found: Analysis, about: Sequence[str]) -> str:
    parts = [f"# {found.asked.title}", "\n".join(about)]
    for printed in found.paper.tables.values():
        parts += [f"## {printed.caption}", printed.to_markdown()]
    if found.audited is not None:
        audited = "Every check passed." if found.audited.empty else to_markdown(found.audited, words=found.audited.shape[1])
        parts += ["## Audit: whether the robust accuracies can be believed", LEGEND, audited]
    if found.problems:
        parts += ["## Left out, or not compared", "\n".join(f"- {problem}" for problem in found.problems)]
    return "\n\n".join(parts) + "\n"


def _for_terminal(shown: pd.DataFrame) -> RichTable:
    """A table in one line a row; where the terminal is too narrow, columns in the middle are left to table.md."""
    while True:
        rich = RichTable(box=None, header_style="bold", pad_edge=False)
        for position, column in enumerate(shown.columns):
            # A name that holds a whole setting goes on in the next line, so that the numbers keep their room.
            wrapped: Any = {"max_width": 48} if position == 1 else {"no_wrap": True}
            rich.add_column(column, justify="left" if position < 2 else "right", **wrapped)
        for row in shown.itertuples(index=False):
            rich.add_row(*row)
        if console.measure(rich).maximum <= console.width or shown.shape[1] <= 5:
            return rich
        shown = shown.drop(columns=shown.columns[-4])


def describe_study(records: Sequence[RunRecord], suite: str) -> list[str]:
    """What the numbers rest on: data, threat, suite, seeds, code, machine."""
    first = records[0]
    evaluations = [r.evaluations[key]["suite"] for r in records for key in evaluations_of(r, suite)]
    threats = sorted({f"{e['norm']} eps {e['threat']['eps']}" for e in evaluations})
    keys = sorted({key for r in records for key in evaluations_of(r, suite)})
    sets = sorted(by_data(records))
    seeds = sorted({record.seed for record in records})
    told = ("python", "torch", "pytorch-lightning", "torchattacks")
    versions = ", ".join(f"{name} {first.versions.get(name, 'unknown')}" for name in told)
    machines = sorted(
        {f"{r.hardware.get('gpu', r.hardware.get('cpu', 'unknown machine'))}, {r.threads} thread(s) a run" for r in records}
    )
    codes = sorted({f"code {r.code}, commit {(r.commit or 'none')[:10]}{' with changes' if r.dirty else ''}" for r in records})
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed, which is not a result"
    penalized = {(f"{r.attack} x {r.penalty}", float(r.config.get("strength", 1))) for r in records if r.penalty != "none"}
    # What every row has in common, or tells of itself, needs no line of its own.
    several = len({strength for _, strength in penalized}) > 1 and not strengths_of(records)
    chosen = ", ".join(f"{name} {strength:g}" for name, strength in sorted(penalized))
    return [
        f"{', '.join(sets)}, {', '.join(threats)}, suite {', '.join(keys)}; {spread}.",
        *baseline.described(records),
        *([f"Strengths: {chosen}."] if several else []),
        f"Made by {'; '.join(codes)}; {versions}; {'; '.join(machines)}.",
    ]
