"""Live progress of a sweep: a progress bar in a terminal, plain lines elsewhere."""

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
from temper.runs.jobs import Job, record_mtime
from temper.runs.record import RunRecord
from temper.runs.terminal import console, duration, say


class Progress:
    """Progress of a sweep, read from the records of its runs; it works with every launcher.

    As a context manager, it shows the progress from a thread.

    Args:
        config: of the sweep.
        jobs: all runs of the sweep.
        todo: the jobs that are not done yet.
    """

    def __init__(self, config: DictConfig, jobs: Sequence[Job], todo: Sequence[Job]) -> None:
        self.study = ", ".join(sorted({job.folder.parents[1].name for job in jobs}))
        self.workers = workers(config.trainer.accelerator, config.runs_per_gpu)
        self.jobs, self.todo = jobs, todo
        self.several_datasets = len({job.data for job in jobs}) > 1
        self.initial_mtimes = {job.folder: job.record_mtime for job in todo}
        self.ended: dict[tuple[Path, str], RunRecord] = {}
        self.shown: set[tuple[Path, str]] = set()
        self.stop = threading.Event()
        self.started = time.monotonic()

    def describe(self) -> None:
        """Print the cells, the states of their runs and an estimate of the remaining time, for `dry_run=true`."""
        cells: dict[str, list[Job]] = {}
        for job in self.jobs:
            cells.setdefault(job.cell.name, []).append(job)
        for cell, jobs in cells.items():
            counts = Counter(str(job.state) for job in jobs)
            strength = [
                override for override in jobs[0].overrides if override.startswith("strength=") and jobs[0].uses_strength
            ]
            name = " ".join([*self._data_label(jobs[0]), cell, *strength])
            states = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
            say(f"{name:44s} {jobs[0].cell.kind:12s} {states}")
        say(f"{len(cells)} cells, {self._counts()}")
        if estimate := self._estimate():
            say(f"about {duration(estimate)} left with {self.workers} concurrent runs, estimated from finished runs")
        elif self.todo:
            say("no time estimate: no run is finished yet")

    def announce(self) -> None:
        """Print the study and how many of its runs are done."""
        say(f"study {self.study}: {self._counts()}")

    def _counts(self) -> str:
        return f"{len(self.jobs)} runs, {len(self.jobs) - len(self.todo)} done, {len(self.todo)} to run"

    def _estimate(self) -> float | None:
        """Return the seconds that the remaining runs will take, from finished runs of the same attack, else of any attack."""
        seconds: dict[str, list[float]] = {}
        for job in self.jobs:
            try:
                record = RunRecord.read(job.folder)
            except (OSError, ValueError):
                continue
            if record.finished and record.cost.get("wall_seconds"):
                seconds.setdefault(record.attack, []).append(record.cost["wall_seconds"] or 0.0)
        if not seconds:
            return None
        overall = statistics.mean(value for values in seconds.values() for value in values)
        each = [statistics.mean(seconds.get(job.cell.attack, [overall])) for job in self.todo]
        return sum(each) / self.workers

    def __enter__(self) -> "Progress":
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop.set()
        self.thread.join()

    def _follow(self) -> None:
        """Show each run that ends, until `stop` is set."""
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
                last_look = self.stop.wait(0.5)
                new = self._newly_ended()
                for number, job in enumerate(new, start=len(self.shown) - len(new) + 1):
                    left = self._time_left(number)
                    line = " ".join([*self._data_label(job), _result(self.ended[job.folder, job.suite], job.suite)])
                    bar.update(task, completed=number, left=left, last=line)
                    if not live:
                        say(f"[{number}/{len(self.todo)}] {line}  ({left})")
                if last_look:
                    return

    def _data_label(self, job: Job) -> list[str]:
        """Return the name of a job's data set as a list, empty if the sweep has only one."""
        return [f"{job.data}:"] if self.several_datasets else []

    def has_ended(self, job: Job) -> bool:
        """Return True if a run has written its record since the sweep began, evaluated by its suite or failed."""
        if record_mtime(job.folder) in (None, self.initial_mtimes[job.folder]):
            return False
        try:
            record = RunRecord.read(job.folder)
        except (OSError, ValueError):
            return False
        if record.has(job.suite) or record.error:
            self.ended[job.folder, job.suite] = record
        return (job.folder, job.suite) in self.ended

    def _newly_ended(self) -> list[Job]:
        new = [job for job in self.todo if (job.folder, job.suite) not in self.shown and self.has_ended(job)]
        self.shown |= {(job.folder, job.suite) for job in new}
        return new

    def _time_left(self, done: int) -> str:
        elapsed = time.monotonic() - self.started
        return f"about {duration(elapsed / done * (len(self.todo) - done))} left"

    def failures(self) -> list[str]:
        """Return one line for each run that was to be done and has failed or has no record."""
        lines = []
        for job in self.todo:
            record = self.ended.get((job.folder, job.suite))
            if record is None or not record.has(job.suite) or record.error:
                reason = (
                    record.error.splitlines()[0]
                    if record and record.error
                    else f"its process died and left no record; see {_log_path(job)}"
                )
                lines.append(f"failed: {job.folder}: {reason}")
        return lines


def _log_path(job: Job) -> str:
    """Return the path of the log of a run without a record: its own, or those of the cluster's jobs."""
    log, cluster_logs = job.folder / "train.log", job.folder.parents[1] / ".submitit"
    return f"{cluster_logs}/*/*.err" if cluster_logs.is_dir() and not log.exists() else str(log)


def _result(record: RunRecord, suite: str) -> str:
    """Return a run's accuracies, or its error, in one line."""
    strength = record.config["strength"]
    strength_text = f"strength {strength:g}, " if record.penalty != "none" and strength != 1 else ""
    name = f"{record.attack} x {record.penalty}, {strength_text}seed {record.seed}"
    if not record.has(suite) or record.error:
        return f"{name}: failed: {(record.error or 'not evaluated').splitlines()[0]}"
    checkpoints: dict[str, Any] = record.evaluations[suite]["checkpoints"]
    if not checkpoints:
        return f"{name}: {record.monitor} {100 * record.curves[record.monitor][-1]:.1f} %"
    metrics = list(checkpoints.values())[-1]["metrics"]
    return f"{name}: clean {100 * metrics['test/clean']:.1f} %, worst case {100 * metrics['test/worst_case']:.1f} %"
