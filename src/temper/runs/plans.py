"""What a study was asked for: the runs of each sweep and the command that asked for them, kept beside the runs."""

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
NAMED = ("attack=", "penalty=", "seed=")  # what the folder's name tells


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One run that was asked for: its folder within the study, the key of the suite that is to evaluate it, and what tells its
    cell from others of the same attack and penalty, as it was typed."""

    folder: str
    attack: str
    suite: str
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One sweep.

    Attributes:
        command: as it was typed; typed again, it does what is missing.
        cwd: the folder that it was typed in.
        runs: in their order.
    """

    command: str
    cwd: str
    runs: list[Planned]

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> Self:
        """The plan of the sweep that this process is."""
        common = set.intersection(*(set(job.overrides) for job in jobs))
        runs = [
            Planned(
                folder=str(job.folder.relative_to(job.folder.parents[1])),
                attack=job.cell.attack,
                suite=job.suite,
                setting=" ".join(o for o in job.overrides if o not in common and not o.startswith(NAMED)),
            )
            for job in jobs
        ]
        return cls(command=shlex.join(["temper-train", *sys.argv[1:]]), cwd=str(Path.cwd()), runs=runs)

    def write(self, study: Path) -> None:
        """Beside the study's runs; the same command for the same runs replaces its file."""
        text = json.dumps(asdict(self), indent=1)
        path = study / PLANS / f"{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            part.write_text(text + "\n")

    @classmethod
    def all_of(cls, study: Path) -> list[Self]:
        """Every plan of a study that this code can read, the latest first."""
        paths = sorted((study / PLANS).glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        plans = []
        for path in paths:
            try:
                plan = json.loads(path.read_text())
                plans.append(cls(**plan | {"runs": [Planned(**run) for run in plan["runs"]]}))
            except (ValueError, TypeError, KeyError):
                say(f"warning: {path} is damaged or foreign, and left out; the command that made it writes it again")
        return plans
