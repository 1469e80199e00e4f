"""How each number of a study is made again: commands, code, versions, machines."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from temper.report.records.load import folder_of
from temper.report.records.long_format import evaluations_of, settings_of
from temper.report.records.run_setup import overrides_of
from temper.runs.plans import Plan
from temper.runs.record import RunRecord

UNKNOWN = "its overrides are gone; the whole config stands in its result.json"


class CellOrigin(NamedTuple):
    """One cell.

    Attributes:
        command: what trains and evaluates one of its runs, but for the seed.
        folder: of the cell, in the folder of runs.
        seeds: of its runs, in words.
        seconds: of training, in all.
    """

    attack: str
    penalty: str
    folder: str
    seeds: str
    seconds: str
    command: str


class Origin(NamedTuple):
    """All of a study.

    Attributes:
        commands: that were typed, each once.
        report: what makes this report again.
        facts: name and value, such as commit, versions, hardware.
    """

    commands: Sequence[str]
    report: str
    facts: Sequence[tuple[str, str]]
    cells: Sequence[CellOrigin]


def origin(records: Sequence[RunRecord], studies: Sequence[Path], suite: str, typed: Sequence[str] = ()) -> Origin:
    """Of finished runs that lie in these folders.

    Args:
        typed: the command line of this report; study and suite are told as they were found.
    """
    names = ",".join(study.name for study in studies)
    named = f"study=[{names}]" if len(studies) > 1 else f"study={names}"
    others = [part for part in typed if not part.startswith(("study=", "suite="))]
    return Origin(
        commands=list(dict.fromkeys(plan.command for study in studies for plan in reversed(Plan.all_of(study)))),
        report=shlex.join(["temper-report", named, f"suite={suite}", *others]),
        facts=_facts(records, suite),
        cells=_cells(records, studies, suite),
    )


def _facts(records: Sequence[RunRecord], suite: str) -> list[tuple[str, str]]:
    def each(values: list[str]) -> str:
        return "; ".join(dict.fromkeys(values))

    versions = each([", ".join(f"{name} {version}" for name, version in r.versions.items()) for r in records])
    machines = each([", ".join(f"{name} {value}" for name, value in r.hardware.items()) for r in records])
    return [
        ("commit", each([f"{r.commit or 'none'}{', with changes' if r.dirty else ''}" for r in records])),
        ("digest of the code", each([r.code for r in records])),
        ("suite", each([key for r in records for key in evaluations_of(r, suite)])),
        ("versions", versions),
        ("hardware", machines),
        ("threads of a run", each([str(r.threads) for r in records])),
        ("seconds of training", f"{sum(r.cost.get('seconds') or 0 for r in records):,.0f}"),
    ]


def _cells(records: Sequence[RunRecord], studies: Sequence[Path], suite: str) -> list[CellOrigin]:
    settings = settings_of((record, key) for record in records for key in evaluations_of(record, suite))
    cells: dict[str, list[RunRecord]] = {}
    for record in records:
        cells.setdefault(record.digest, []).append(record)
    shown = []
    for runs in cells.values():
        first = runs[0]
        setting = settings[first.digest, evaluations_of(first, suite)[0]]
        folder = folder_of(first, studies)
        shown.append(
            CellOrigin(
                first.attack,
                f"{first.penalty} ({setting})" if setting else first.penalty,
                folder.parent.name if folder else first.digest,
                ", ".join(str(run.seed) for run in runs),
                f"{sum(run.cost.get('seconds') or 0 for run in runs):,.0f}",
                _command(folder),
            )
        )
    return shown


def _command(folder: Path | None) -> str:
    overrides = None if folder is None else overrides_of(folder)
    if overrides is None:
        return UNKNOWN
    return shlex.join(["temper-train", *(o for o in overrides if not o.startswith("seed="))])
