"""Handing the runs of a sweep to Hydra's launcher, until each has ended or cannot be run.

Whichever launcher it is, a run has ended when its record says so. What has left none was lost with its process (killed for its
memory, by its cluster, by hand), or another sweep works on it.
"""

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra.plugins.launcher import Launcher

from temper.config.errors import ConfigError
from temper.runs.jobs import Job
from temper.runs.lock import BEGUN, was_interrupted
from temper.runs.parent_watch import SWEEP
from temper.runs.terminal import say
from temper.sweeps.progress import Progress

RETRIES = 1  # of a run whose process died
POLL = 1.0  # seconds


def launch(launcher: Launcher, todo: Sequence[Job], progress: Progress) -> None:
    """Run the jobs; what another sweep works on is waited for.

    A run whose process died is tried once more. Where it took the launcher down with it (joblib ends all its workers with one),
    it is tried alone, so that no other run is lost with it again.
    """
    os.environ[SWEEP] = str(os.getpid())
    died: Counter[Path] = Counter()
    if launcher_isolates(launcher):
        jobs = {tuple(job.overrides): job for job in todo}
        cast(Any, launcher).ended = lambda overrides: progress.has_ended(jobs[tuple(overrides)])
    batches = [list(todo)]
    while batches:
        batch = [job for job in batches.pop(0) if not progress.has_ended(job)]
        if not batch:
            continue
        broken = _launch_once(launcher, batch)
        begun = _wait_for_others(batch, progress)
        undone = [job for job in batch if not progress.has_ended(job)]
        died.update(job.folder for job in undone if job.folder in begun)
        again = [job for job in undone if job.folder in begun and died[job.folder] <= RETRIES]
        batches += [[job] for job in again] if broken and not launcher_isolates(launcher) else [again]
        others = [job for job in undone if job.folder not in begun]
        if again:
            say(f"{len(again)} runs were lost with their processes, {again[0].folder} among them: tried once more")
        if len(others) < len(batch):  # else the launcher starts nothing
            batches.append(others)
        elif broken:
            raise ConfigError(f"no run could be started: {broken}")


def launcher_isolates(launcher: Launcher) -> bool:
    """Whether each run has a process that no other depends on: jobs of a cluster."""
    return bool(getattr(launcher, "isolates", False))


def _launch_once(launcher: Launcher, batch: Sequence[Job]) -> str:
    """What kept the launcher from coming to its end, or nothing."""
    try:
        launcher.launch([list(job.overrides) for job in batch], initial_job_idx=0)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        say(f"the launcher stopped: {reason}")
        return reason
    return ""


def _wait_for_others(batch: Sequence[Job], progress: Progress) -> set[Path]:
    """Wait for runs that somebody works on still; those whose process died in the middle."""
    begun: set[Path] = set()
    waiting = [job for job in batch if not progress.has_ended(job)]
    told = False
    while waiting:
        held = []
        for job in waiting:
            if was_interrupted(job.folder):
                begun.add(job.folder)
            elif (job.folder / BEGUN).exists():  # and its owner has just shown a sign of life
                held.append(job)
        waiting = [job for job in held if not progress.has_ended(job)]
        if waiting and not told:
            told = True
            say(f"waiting for {len(waiting)} runs that other processes work on, {waiting[0].folder} among them")
        if waiting:
            time.sleep(POLL)
    return begun
