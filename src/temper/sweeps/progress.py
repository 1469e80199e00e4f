"""Live progress of a sweep: one line in a terminal, plain lines elsewhere."""

import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Column

from temper.config.resolvers import workers
from temper.runs.jobs import Job, stamp
from temper.runs.record import RunRecord
from temper.runs.terminal import console, duration, say


class Progress:
    """Follows runs by the records that they leave, whichever launcher runs them."""

    def __init__(self, config: DictConfig, jobs: Sequence[Job], todo: Sequence[Job]) -> None:
        self.study = ", ".join(sorted({job.folder.parents[1].name for job in jobs}))
        self.workers = workers(config.trainer.accelerator, config.runs_per_gpu)
        self.jobs, self.todo = jobs, todo
        self.several = len({job.data for job in jobs}) > 1
        self.before = {job.folder: job.stamp for job in todo}
        self.done: dict[tuple[Path, str], RunRecord] = {}
        self.shown: set[tuple[Path, str]] = set()
        self.stop = threading.Event()
        self.started = time.monotonic()

    def describe(self) -> None:
        """List the cells, what is done, and an estimate of the rest: what `dry_run=true` shows."""
        seeds: dict[str, list[Job]] = {}
        for job in self.jobs:
            seeds.setdefault(job.cell.name, []).append(job)
        for cell, jobs in seeds.items():
            states = Counter(str(job.state) for job in jobs)
            strength = [override for override in jobs[0].overrides if override.startswith("strength=") and jobs[0].scaled]
            name = " ".join([*self._data(jobs[0]), cell, *strength])
            how_far = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
            say(f"{name:44s} {jobs[0].cell.kind:12s} {how_far}")
        say(f"{len(seeds)} cells, {len(self.jobs)} runs, {len(self.jobs) - len(self.todo)} done, {len(self.todo)} to run")
        if estimate := self._estimate():
            say(f"about {duration(estimate)} left, {self.workers} side by side, judging by the runs that are done")
        elif self.todo:
            say("no run is done yet from which to estimate the time")

    def _estimate(self) -> float | None:
        """Seconds that the runs to do will take, by finished runs of the same attack, else of any."""
        finished: dict[str, list[float]] = {}
        for job in self.jobs:
            try:
                record = RunRecord.read(job.folder)
            except (OSError, ValueError):
                continue
            if record.finished and record.cost.get("wall_seconds"):
                finished.setdefault(record.attack, []).append(record.cost["wall_seconds"] or 0.0)
        if not finished:
            return None
        anything = statistics.mean(seconds for values in finished.values() for seconds in values)
        each = [statistics.mean(finished.get(job.cell.attack, [anything])) for job in self.todo]
        return sum(each) / self.workers

    def announce(self) -> None:
        say(f"study {self.study}: {len(self.jobs)} runs, {len(self.jobs) - len(self.todo)} done, {len(self.todo)} to run")

    def __enter__(self) -> "Progress":
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop.set()
        self.thread.join()

    def _follow(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
            TextColumn("[dim]{task.fields[last]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        )
        live = console.is_terminal
        with Bar(*columns, console=console, disable=not live) as bar:
            task = bar.add_task(self.study, total=len(self.todo), left="", last="")
            while True:
                finishing = self.stop.wait(0.5)
                new = self._newly_done()
                for number, job in enumerate(new, start=len(self.shown) - len(new) + 1):
                    left = self._left(number)
                    line = " ".join([*self._data(job), _result(self.done[job.folder, job.suite], job.suite)])
                    bar.update(task, completed=number, left=left, last=line)
                    if not live:
                        say(f"[{number}/{len(self.todo)}] {line}  ({left})")
                if finishing:
                    return

    def _data(self, job: Job) -> list[str]:
        """The name of its data set, where the sweep has several."""
        return [f"{job.data}:"] if self.several else []

    def has_ended(self, job: Job) -> bool:
        """Whether a run has left its record since the sweep began: finished with its suite, or failed."""
        if stamp(job.folder) in (None, self.before[job.folder]):
            return False
        try:
            record = RunRecord.read(job.folder)
        except (OSError, ValueError):
            return False
        if record.has(job.suite) or record.error:
            self.done[job.folder, job.suite] = record
        return (job.folder, job.suite) in self.done

    def _newly_done(self) -> list[Job]:
        new = [job for job in self.todo if (job.folder, job.suite) not in self.shown and self.has_ended(job)]
        self.shown |= {(job.folder, job.suite) for job in new}
        return new

    def _left(self, done: int) -> str:
        elapsed = time.monotonic() - self.started
        return f"about {duration(elapsed / done * (len(self.todo) - done))} left"

    def failures(self) -> list[str]:
        """A line for each run that was to be done and is not."""
        lines = []
        for job in self.todo:
            record = self.done.get((job.folder, job.suite))
            if record is None or not record.has(job.suite) or record.error:
                reason = (
                    record.error.splitlines()[0]
                    if record and record.error
                    else f"left no record; its process died, see {_log(job)}"
                )
                lines.append(f"failed: {job.folder}: {reason}")
        return lines


def _log(job: Job) -> str:
    """Where there is something to read of a run that left no record: its own log, or those of the cluster's jobs."""
    own, jobs = job.folder / "train.log", job.folder.parents[1] / ".submitit"
    return f"{jobs}/*/*.err" if jobs.is_dir() and not own.exists() else str(own)


def _result(record: RunRecord, suite: str) -> str:
    strength = record.config["strength"]
    told = f"strength {strength:g}, " if record.penalty != "none" and strength != 1 else ""
    name = f"{record.attack} x {record.penalty}, {told}seed {record.seed}"
    if not record.has(suite) or record.error:
        return f"{name}: failed: {(record.error or 'no evaluation').splitlines()[0]}"
    checkpoints: dict[str, Any] = record.evaluations[suite]["checkpoints"]
    if not checkpoints:
        return f"{name}: {record.monitor} {100 * record.curves[record.monitor][-1]:.1f} %"
    metrics = list(checkpoints.values())[-1]["metrics"]
    return f"{name}: clean {100 * metrics['test/clean']:.1f} %, worst case {100 * metrics['test/worst_case']:.1f} %"
