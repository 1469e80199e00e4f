"""Tests of temper-status during and after a sweep."""

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from temper.cli.status import runs_of
from temper.runs.jobs import State
from temper.runs.plans import Plan
from temper.runs.record import RECORD, RunRecord
from tests.conftest import QUICK

Temper = Callable[..., tuple[int, str]]


def test_finished_failed_and_missing_runs(temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ("study=grid", "optimizer.lr=0.1,1e30", "seed=0,1", "-m", *QUICK)
    assert temper("train", *grid)[0] == 1
    finished = [path.parent for path in Path("outputs/grid").glob(f"*/seed-*/{RECORD}") if RunRecord.read(path.parent).finished]
    (finished[0] / RECORD).unlink()
    for path in finished[0].glob("checkpoints/*"):
        path.unlink()
    status, output = temper("status", "study=grid")
    assert status == 0, output
    assert "optimizer.lr=0.1  " in output, "cells with the same name show their settings"
    assert "4 runs: 1 finished, 2 failed, 1 missing" in output
    assert output.count("failed: none+none-") == 2 and "diverged" in output
    assert "of compute time left" in output
    (command,) = [line.strip() for line in output.splitlines() if line.strip().startswith("temper-train")]
    assert shlex.split(command)[1:] == ["-m", "hydra/launcher=basic", *[a for a in grid if a != "-m"]]
    temper("train", *shlex.split(command)[1:])
    assert "4 runs: 2 finished, 2 failed" in temper("status", "study=grid")[1], "the command ran the missing run"


def test_unreadable_plan_is_reported_and_ignored(temper: Temper) -> None:
    temper("train", "study=grid", "-m", *QUICK)
    (plan,) = Path("outputs/grid/.sweeps").glob("*.json")
    plan.write_text(plan.read_text().replace('"suite"', '"unheard_of"'))
    status, output = temper("status", "study=grid")
    assert status == 0 and f"{plan} is damaged or in an unknown format" in output and "1 runs: 1 finished" in output, output


def test_single_runs_are_shown(temper: Temper) -> None:
    temper("train", *QUICK)
    status, output = temper("status")
    assert status == 0 and "1 runs: 1 finished" in output and "to complete the study" not in output, output


def test_unknown_study_is_an_error_with_the_known_ones(temper: Temper) -> None:
    temper("train", *QUICK)
    status, output = temper("status", "study=grid")
    assert status == 1 and "study=grid: folder outputs/grid does not exist" in output and "default" in output


def test_long_table_is_truncated(temper: Temper) -> None:
    temper("train", "study=grid", "optimizer.lr=0.1,0.2,0.3", "-m", *QUICK)
    output = temper("status", "study=grid", "lines=2")[1]
    assert "… and 1 more cells" in output and "3 runs: 3 finished" in output


@pytest.mark.slow
def test_running_run_shows_its_epoch_and_a_killed_one_is_interrupted(temper: Temper) -> None:
    command = [sys.executable, "-m", "temper.cli.train", *QUICK, "trainer.max_epochs=500"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not list(Path("outputs/default").glob("*/seed-0/checkpoints/last.ckpt")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        output = temper("status")[1]
        assert "1 runs: 1 running" in output and f"process {process.pid}" in output and "of 500" in output, output
    finally:
        process.kill()
        process.wait()
    assert [run.state for run in runs_of(Path("outputs/default"), Plan.read_all(Path("outputs/default")))] == [
        State.INTERRUPTED
    ]
    assert "1 runs: 1 interrupted" in temper("status")[1]
