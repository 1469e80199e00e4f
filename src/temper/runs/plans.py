"""Plans of a study: the runs that each sweep requested and the command that requested them, stored with the runs."""

import hashlib
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from temper.runs.atomic_files import atomic_write
from temper.runs.jobs import Job
from temper.runs.terminal import say

PLANS = ".sweeps"
IN_FOLDER_NAME = ("attack=", "penalty=", "seed=")  # overrides that the name of a run's folder shows


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One requested run.

    Attributes:
        folder: its folder, relative to the study.
        attack: name of its attack.
        suite: key of the suite that evaluates it.
        setting: overrides, as typed, that distinguish its cell from others of the same attack and penalty.
    """

    folder: str
    attack: str
    suite: str
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of one sweep.

    Attributes:
        command: the command as typed; repeating it runs what is missing.
        cwd: the folder in which it was typed.
        runs: the requested runs, in order.
    """

    command: str
    cwd: str
    runs: list[PlannedRun]

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> Self:
        """Return the plan of the present process's sweep.

        Args:
            jobs: its runs, all of one study.
        """
        common = set.intersection(*(set(job.overrides) for job in jobs))
        runs = [
            PlannedRun(
                folder=str(job.folder.relative_to(job.folder.parents[1])),
                attack=job.cell.attack,
                suite=job.suite,
                setting=" ".join(o for o in job.overrides if o not in common and not o.startswith(IN_FOLDER_NAME)),
            )
            for job in jobs
        ]
        return cls(command=shlex.join(["temper-train", *sys.argv[1:]]), cwd=str(Path.cwd()), runs=runs)

    def write(self, study: Path) -> None:
        """Write the plan into the study's folder; an equal plan replaces its own file.

        Args:
            study: the study's folder.
        """
        text = json.dumps(asdict(self), indent=1)
        path = study / PLANS / f"{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            part.write_text(text + "\n")

    @classmethod
    def read_all(cls, study: Path) -> list[Self]:
        """Return every readable plan of a study, the latest first; print a warning for each other file.

        Args:
            study: the study's folder.
        """
        paths = sorted((study / PLANS).glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        plans = []
        for path in paths:
            try:
                plan = json.loads(path.read_text())
                plans.append(cls(**plan | {"runs": [PlannedRun(**run) for run in plan["runs"]]}))
            except (ValueError, TypeError, KeyError):
                say(f"warning: {path} is damaged or in an unknown format, and is ignored. Repeat its command to rewrite it.")
        return plans
