"""Launching: runs whose process died, and runs that another sweep is running."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hydra.plugins.launcher import Launcher

from temper.config.cell import Cell, Kind
from temper.config.errors import ConfigError
from temper.runs.jobs import Job, State, record_mtime
from temper.runs.record import RunRecord
from temper.sweeps.launch import launch
from temper.sweeps.progress import Progress
from tests.conftest import raw_config

DIE = """
import os, sys
from pathlib import Path
from temper.runs.lock import run_lock
with run_lock(Path(sys.argv[1])):
    os.kill(os.getpid(), 9)
"""


def jobs_in(folder: Path, *names: str) -> list[Job]:
    cell = Cell("none", "none", Kind.STANDARD, "0")
    return [Job([name], cell, "Digits", 0, folder / name / "seed-0", "quick-0", State.MISSING, False, False) for name in names]


def leave_record(folder: Path) -> None:
    """Write the record of a failed run, which has ended like a finished one."""
    record = RunRecord(
        status="failed",
        study="s",
        attack="none",
        penalty="none",
        kind="standard",
        digest="0",
        seed=0,
        config={"strength": 1.0},
        code="0",
        error="no reason",
    )
    folder.mkdir(parents=True, exist_ok=True)
    record.write(folder)


class Scripted:
    """Launcher that records its batches and calls a function for each run."""

    def __init__(self, act: Callable[[str, int], None], isolates: bool) -> None:
        self.act, self.isolates = act, isolates
        self.batches: list[list[str]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        self.batches.append([names[0] for names in job_overrides])
        for names in job_overrides:
            self.act(names[0], len(self.batches))
        return []


def run_all(
    folder: Path, act: Callable[[str, int], None], *names: str, isolates: bool = False
) -> tuple[list[list[str]], Progress]:
    jobs = jobs_in(folder, *names)
    launcher, progress = Scripted(act, isolates), Progress(raw_config(), jobs, jobs)
    launch(cast(Launcher, launcher), jobs, progress)
    return launcher.batches, progress


def die(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", DIE, folder], check=False)


def test_a_run_whose_process_died_is_retried_alone_if_it_stopped_the_launcher(tmp_path: Path) -> None:
    def act(name: str, launch: int) -> None:
        folder = tmp_path / name / "seed-0"
        if name == "b":
            die(folder)
            raise RuntimeError("a worker was killed")
        leave_record(folder)

    batches, progress = run_all(tmp_path, act, "a", "b", "c", "d")
    assert batches == [["a", "b", "c", "d"], ["b"], ["c", "d"]]
    (failure,) = [line for line in progress.failures() if "its process died and left no record" in line]
    assert "/b/seed-0" in failure


def test_runs_of_an_isolating_launcher_are_retried_together(tmp_path: Path) -> None:
    def act(name: str, launch: int) -> None:
        folder = tmp_path / name / "seed-0"
        die(folder) if launch == 1 and name in "bc" else leave_record(folder)
        if launch == 1 and name == "c":
            raise RuntimeError("the cluster takes no more jobs")

    batches, progress = run_all(tmp_path, act, "a", "b", "c", isolates=True)
    assert batches == [["a", "b", "c"], ["b", "c"]]
    assert not [line for line in progress.failures() if "left no record" in line]


def test_a_launcher_that_starts_no_run_gives_one_error(tmp_path: Path) -> None:
    def act(name: str, launch: int) -> None:
        raise RuntimeError("no workers here")

    with pytest.raises(ConfigError, match="hydra/launcher: no run could be started: no workers here"):
        run_all(tmp_path, act, "a", "b")


def test_a_run_that_another_sweep_finished_after_planning_has_ended(tmp_path: Path) -> None:
    """Minutes may pass between planning and the start of a run."""
    (job,) = jobs_in(tmp_path, "a")
    leave_record(job.folder)
    assert Progress(raw_config(), [job], [job]).has_ended(job)
    later = job._replace(record_mtime=record_mtime(job.folder))
    assert not Progress(raw_config(), [later], [later]).has_ended(later), "the record is older than the sweep"


def test_a_sweep_waits_for_runs_of_another_sweep(tmp_path: Path) -> None:
    folder, started = tmp_path / "a" / "seed-0", threading.Event()
    code = """
import sys, time
from pathlib import Path
from temper.runs.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
    other = subprocess.Popen([sys.executable, "-c", code, folder], stdin=-1, stdout=-1, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"

    def finish() -> None:
        started.wait()
        time.sleep(2)
        leave_record(folder)
        other.communicate("go\n")

    thread = threading.Thread(target=finish)
    thread.start()
    batches, progress = run_all(tmp_path, lambda name, launch: started.set(), "a")
    thread.join()
    assert batches == [["a"]] and "no reason" in progress.failures()[0]
