"""Launch the runs of a sweep by Hydra's launcher until each has ended or cannot be run.

With any launcher, a run has ended when its record says so. A run without a record was lost with its process (killed for its
memory, by its cluster or by hand), or another sweep is running it.
"""

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra.plugins.launcher import Launcher

from temper.config.errors import ConfigError, first_line
from temper.runs.jobs import Job
from temper.runs.lock import STARTED_FILE, was_interrupted
from temper.runs.parent_watch import SWEEP_PID
from temper.runs.terminal import say
from temper.sweeps.progress import Progress

RETRIES = 1  # of a run whose process died
POLL = 1.0  # seconds


def launch(launcher: Launcher, todo: Sequence[Job], progress: Progress) -> None:
    """Run the jobs, and wait for those that another sweep is running.

    A run whose process died is retried once. If it also ended the launcher (joblib ends all workers together with one), it is
    retried separately, because it could end other runs again.

    Args:
        launcher: Hydra's.
        todo: jobs to run.
        progress: of the sweep; knows which jobs have ended.

    Raises:
        ConfigError: the launcher could start no run.
    """
    os.environ[SWEEP_PID] = str(os.getpid())
    deaths: Counter[Path] = Counter()
    if _isolates_runs(launcher):
        jobs = {tuple(job.overrides): job for job in todo}
        cast(Any, launcher).ended = lambda overrides: progress.has_ended(jobs[tuple(overrides)])
    batches = [list(todo)]
    while batches:
        batch = [job for job in batches.pop(0) if not progress.has_ended(job)]
        if not batch:
            continue
        problem = _launch_once(launcher, batch)
        interrupted = _wait_for_others(batch, progress)
        unfinished = [job for job in batch if not progress.has_ended(job)]
        deaths.update(job.folder for job in unfinished if job.folder in interrupted)
        again = [job for job in unfinished if job.folder in interrupted and deaths[job.folder] <= RETRIES]
        batches += [[job] for job in again] if problem and not _isolates_runs(launcher) else [again]
        others = [job for job in unfinished if job.folder not in interrupted]
        if again:
            say(f"the process died in {len(again)} of {len(batch)} runs, e.g. {again[0].folder}: each is retried once")
        if len(others) < len(batch):  # otherwise the launcher starts nothing
            batches.append(others)
        elif problem:
            raise ConfigError(f"hydra/launcher: no run could be started: {problem}")


def _isolates_runs(launcher: Launcher) -> bool:
    """Return True if no run depends on the process of another one, as in jobs of a cluster."""
    return bool(getattr(launcher, "isolates", False))


def _launch_once(launcher: Launcher, batch: Sequence[Job]) -> str:
    """Launch a batch and return the launcher's error, or an empty text."""
    try:
        launcher.launch([list(job.overrides) for job in batch], initial_job_idx=0)
    except Exception as error:
        say(f"the launcher stopped with an error: {first_line(error)}")
        return first_line(error)
    return ""


def _wait_for_others(batch: Sequence[Job], progress: Progress) -> set[Path]:
    """Wait for runs that other processes are running, and return the folders of those that were interrupted."""
    interrupted: set[Path] = set()
    waiting = [job for job in batch if not progress.has_ended(job)]
    announced = False
    while waiting:
        locked = []
        for job in waiting:
            if was_interrupted(job.folder):
                interrupted.add(job.folder)
            elif (job.folder / STARTED_FILE).exists():  # and its lock owner is alive
                locked.append(job)
        waiting = [job for job in locked if not progress.has_ended(job)]
        if waiting and not announced:
            announced = True
            say(f"waiting for other processes to finish {len(waiting)} of these runs, e.g. {waiting[0].folder}")
        if waiting:
            time.sleep(POLL)
    return interrupted
