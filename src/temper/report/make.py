"""The report of a study, from its records alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.table import Table as RichTable

from temper.config import CONF
from temper.progress import console
from temper.records import RunRecord
from temper.report.across import Across, by_data, write_across
from temper.report.audit import LEGEND, badges, findings
from temper.report.claims import Judged
from temper.report.conclusions import conclude
from temper.report.evidence import evidence
from temper.report.figures import gallery, save
from temper.report.figures.strength import strengths_of
from temper.report.frame import choose_suite, evaluated, evaluations_of
from temper.report.page import Contents, chart, infographic, origin, render
from temper.report.paper import Printed, paper_of
from temper.report.studies import gather
from temper.storage import written_whole


class Reported(NamedTuple):
    """What the report of one data set says.

    Attributes:
        shown: on a terminal: the first table, problems, and where the report lies.
        data: its numbers, as `temper.report.evidence.evidence` gives them; None where there is no report.
        judged: the claims.
        checkpoint: whose numbers are shown.
    """

    shown: list[Any]
    data: pd.DataFrame | None = None
    judged: Judged | None = None
    checkpoint: str = ""


def make_report(
    study: Path | Sequence[Path], results: Path, *, suite: str | None = None, settings: DictConfig | None = None
) -> list[Any]:
    """Write index.html, runs.csv, table.md, table.tex, tables/, references.bib, and figures of a study into `results`.

    A study of several data sets has a report for each, in a folder of its name, and a page that sets them side by side.

    Args:
        study: folder of the study's runs; of several, they are reported together.
        results: folder of the report; files of an earlier report are replaced whole.
        suite: name of the evaluation to report; None: the one in the settings, or that most runs have.
        settings: as in conf/report.yaml, the default.

    Returns:
        What to show on a terminal: the first table, problems, and where the report lies.

    Raises:
        ValueError: a setting is wrong, such as a table that names a metric that no run has.
    """
    if settings is None:
        settings = cast(DictConfig, OmegaConf.load(Path(CONF) / "report.yaml"))
    studies = [study] if isinstance(study, Path) else list(study)
    title = "+".join(folder.name for folder in studies)
    records, problems = gather(studies, settings.filter)
    sets = by_data(records)
    if len(sets) < 2:
        return _report(records, problems, studies, results, title, suite, settings).shown
    made = {
        name: _report(own, [], studies, results / name, f"{title}: {name}", _of_these(own, suite), settings)
        for name, own in sets.items()
    }
    across = Across.of({name: one for name, one in made.items() if one.data is not None})
    write_across(across, results, title, problems)
    shown = [line for name, one in made.items() for line in (f"\n{name}", *one.shown)]
    return [*shown, *problems, f"side by side: {results}/index.html, table.md"]


def _of_these(records: Sequence[RunRecord], suite: str | None) -> str | None:
    """Data sets of different kinds are evaluated by different suites: one that these have not is none to ask for."""
    return suite if any(evaluations_of(record, suite) for record in records if suite) else None


def _report(
    records: Sequence[RunRecord],
    problems: list[str],
    studies: Sequence[Path],
    results: Path,
    title: str,
    suite: str | None,
    settings: DictConfig,
) -> Reported:
    """The report of one data set."""
    where = ", ".join(map(str, studies))
    failed = [record for record in records if not record.finished]
    problems += [
        f"{r.attack} x {r.penalty}, seed {r.seed} failed: {(r.error or '').splitlines()[0]}" for r in failed if r.error
    ]
    finished = [record for record in records if record.finished]
    if not finished:
        return Reported([f"no run of {where} is finished: no report", *problems])
    if not any(map(evaluated, finished)):
        return Reported([f"no run of {where} was evaluated on the test set: no report", *problems])
    suite = choose_suite(finished, suite or settings.suite)
    others = [record for record in finished if not evaluations_of(record, suite)]
    problems += [f"{r.attack} x {r.penalty}, seed {r.seed} was not evaluated by {suite}" for r in others]
    finished = [record for record in finished if record not in others]
    data = evidence(finished, suite)
    evaluation = finished[0].evaluations[evaluations_of(finished[0], suite)[0]]
    checkpoints = list(evaluation["checkpoints"])
    checkpoint = settings.table.checkpoint if settings.table.checkpoint in checkpoints else checkpoints[-1]
    if checkpoint != settings.table.checkpoint:
        problems.append(f"table.checkpoint={settings.table.checkpoint}: {suite} did not evaluate it; {checkpoint} is shown")
    paper = paper_of(finished, data, suite, settings, checkpoint)
    tables = paper.tables
    audited = findings(finished, suite, checkpoint) if badges(finished, suite) else None
    about = describe_study(finished, suite)

    results.mkdir(parents=True, exist_ok=True)
    texts = {
        "runs.csv": data.to_csv(index=False, lineterminator="\n"),
        "table.md": _markdown(title, about, tables, audited, problems),
        "table.tex": "\n".join(f"% {line}" for line in about)
        + "\n"
        + "\n".join(printed.to_latex() for printed in tables.values()),
    }
    concluded = conclude(studies, finished, data, suite, checkpoint, settings)
    texts["table.md"] += "\n" + concluded.markdown
    texts["table.tex"] += "\n" + concluded.latex
    texts |= concluded.files
    paper.write(results)
    for name, text in texts.items():
        with written_whole(results / name) as part:
            part.write_text(text)
    figures, missing = gallery(finished, data, studies, suite=suite, checkpoint=checkpoint, wanted=settings.get("figures"))
    for name, draw in figures.items():
        save(draw, results / name)
    pictures = [f"{name}.png" for name in figures]
    files = ["index.html", "table.md", "table.tex", "tables/", "references.bib", *pictures, "runs.csv", *concluded.files]
    page = Contents(
        title=title,
        about=about,
        cards=infographic(data, checkpoint),
        judged=concluded.judged,
        chart=chart(data, checkpoint),
        tables=tables,
        effects=concluded.effects,
        audited=audited,
        pictures=[results / name for name in pictures],
        problems=problems + missing,
        origin=origin(finished, studies, suite),
        files=files[1:],
    )
    with written_whole(results / "index.html") as part:
        part.write_text(render(page))
    shown = [
        _for_terminal(next(iter(tables.values())).plain),
        *([LEGEND] if audited is not None else []),
        *problems,
        *missing,
        concluded.summary,
        f"report: {results}/{', '.join(files)}",
    ]
    return Reported(shown, data, concluded.judged, checkpoint)


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
        *([f"Strengths: {chosen}."] if several else []),
        f"Made by {'; '.join(codes)}; {versions}; {'; '.join(machines)}.",
    ]


def _markdown(
    study: str, about: Sequence[str], tables: Mapping[str, Printed], audited: pd.DataFrame | None, problems: Sequence[str]
) -> str:
    parts = [f"# {study}", "\n".join(about)]
    for printed in tables.values():
        parts += [f"## {printed.caption}", printed.to_markdown()]
    if audited is not None:
        parts += ["## Audit: whether the robust accuracies can be believed", LEGEND]
        parts += ["Every check passed." if audited.empty else audited.to_markdown(index=False, disable_numparse=True)]
    if problems:
        parts += ["## Not in the tables", "\n".join(f"- {problem}" for problem in problems)]
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
