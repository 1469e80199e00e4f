"""Commands, code version and environment that reproduce the numbers of a study."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from temper.report.records.load import find_run_folder
from temper.report.records.long_format import distinguishing_settings, evaluation_keys
from temper.report.records.run_setup import read_overrides
from temper.report.tables.formatting import penalty_label
from temper.runs.plans import Plan
from temper.runs.record import RunRecord

UNKNOWN = "overrides not found; result.json of each run contains the full config"


class CellInfo(NamedTuple):
    """Commands and folder that reproduce one cell.

    Attributes:
        attack, penalty: names of the cell.
        folder: name of the cell's folder.
        seeds: seeds of its runs, separated by commas.
        seconds: total training time in seconds.
        command: command that trains and evaluates one run, without the seed.
    """

    attack: str
    penalty: str
    folder: str
    seeds: str
    seconds: str
    command: str


class ReproductionInfo(NamedTuple):
    """Commands and environment that reproduce a study.

    Attributes:
        commands: distinct commands that ran the study.
        report: command that makes this report.
        facts: name and value, such as commit, versions and hardware.
        cells: commands and folder of each cell.
    """

    commands: Sequence[str]
    report: str
    facts: Sequence[tuple[str, str]]
    cells: Sequence[CellInfo]


def reproduction_info(
    records: Sequence[RunRecord], studies: Sequence[Path], suite: str, typed: Sequence[str] = ()
) -> ReproductionInfo:
    """Return the commands and the environment of finished runs.

    Args:
        records: the runs.
        studies: folders of the studies that contain the runs.
        suite: name of the evaluation suite.
        typed: command line of this report; its study and suite are replaced by the resolved ones.
    """
    names = ",".join(study.name for study in studies)
    named = f"study=[{names}]" if len(studies) > 1 else f"study={names}"
    others = [part for part in typed if not part.startswith(("study=", "suite="))]
    return ReproductionInfo(
        commands=list(dict.fromkeys(plan.command for study in studies for plan in reversed(Plan.read_all(study)))),
        report=shlex.join(["temper-report", named, f"suite={suite}", *others]),
        facts=_facts(records, suite),
        cells=_cells(records, studies, suite),
    )


def _facts(records: Sequence[RunRecord], suite: str) -> list[tuple[str, str]]:
    def distinct(values: Iterable[str]) -> str:
        return "; ".join(dict.fromkeys(values))

    return [
        ("commit", distinct(f"{r.commit or 'none'}{' with uncommitted changes' if r.dirty else ''}" for r in records)),
        ("code digest", distinct(r.code for r in records)),
        ("suite", distinct(key for r in records for key in evaluation_keys(r, suite))),
        ("versions", distinct(", ".join(f"{name} {version}" for name, version in r.versions.items()) for r in records)),
        ("hardware", distinct(", ".join(f"{name} {value}" for name, value in r.hardware.items()) for r in records)),
        ("threads per run", distinct(str(r.threads) for r in records)),
        ("training time (s)", _seconds(records)),
    ]


def _cells(records: Sequence[RunRecord], studies: Sequence[Path], suite: str) -> list[CellInfo]:
    settings = distinguishing_settings((record, key) for record in records for key in evaluation_keys(record, suite))
    by_digest: dict[str, list[RunRecord]] = {}
    for record in records:
        by_digest.setdefault(record.digest, []).append(record)
    cells = []
    for runs in by_digest.values():
        first = runs[0]
        folder = find_run_folder(first, studies)
        cells.append(
            CellInfo(
                first.attack,
                penalty_label(first.penalty, settings[first.digest, evaluation_keys(first, suite)[0]]),
                folder.parent.name if folder else first.digest,
                ", ".join(str(run.seed) for run in runs),
                _seconds(runs),
                _command(folder),
            )
        )
    return cells


def _seconds(runs: Iterable[RunRecord]) -> str:
    return f"{sum(run.cost.get('seconds') or 0 for run in runs):,.0f}"


def _command(folder: Path | None) -> str:
    overrides = None if folder is None else read_overrides(folder)
    if overrides is None:
        return UNKNOWN
    return shlex.join(["temper-train", *(o for o in overrides if not o.startswith("seed="))])
