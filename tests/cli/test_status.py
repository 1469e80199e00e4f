"""What temper-status says of a study, while its sweep runs and after it."""

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


def test_done_failed_and_missing_runs_are_told_apart(temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ("study=grid", "optimizer.lr=0.1,1e30", "seed=0,1", "-m", *QUICK)
    assert temper("train", *grid)[0] == 1
    finished = [path.parent for path in Path("outputs/grid").glob(f"*/seed-*/{RECORD}") if RunRecord.read(path.parent).finished]
    (finished[0] / RECORD).unlink()
    for path in finished[0].glob("checkpoints/*"):
        path.unlink()
    status, output = temper("status", "study=grid")
    assert status == 0, output
    assert "optimizer.lr=0.1  " in output, "cells of one name are told apart"
    assert "4 runs: 1 finished, 2 failed, 1 missing" in output
    assert output.count("failed: none+none-") == 2 and "diverged" in output
    assert "of work are left" in output
    (typed,) = [line.strip() for line in output.splitlines() if line.strip().startswith("temper-train")]
    assert shlex.split(typed)[1:] == ["-m", "hydra/launcher=basic", *[a for a in grid if a != "-m"]]
    temper("train", *shlex.split(typed)[1:])
    assert "4 runs: 2 finished, 2 failed" in temper("status", "study=grid")[1], "the command filled the hole"


def test_a_plan_of_other_code_is_left_out_and_named(temper: Temper) -> None:
    temper("train", "study=grid", "-m", *QUICK)
    (plan,) = Path("outputs/grid/.sweeps").glob("*.json")
    plan.write_text(plan.read_text().replace('"suite"', '"unheard_of"'))
    status, output = temper("status", "study=grid")
    assert status == 0 and f"{plan} is damaged or foreign" in output and "1 runs: 1 finished" in output, output


def test_runs_without_a_sweep_are_shown_as_well(temper: Temper) -> None:
    temper("train", *QUICK)
    status, output = temper("status")
    assert status == 0 and "1 runs: 1 finished" in output and "fill the holes" not in output, output


def test_an_unknown_study_is_an_error_that_names_the_others(temper: Temper) -> None:
    temper("train", *QUICK)
    status, output = temper("status", "study=grid")
    assert status == 1 and "there is no outputs/grid" in output and "default" in output


def test_a_long_study_is_cut_and_says_so(temper: Temper) -> None:
    temper("train", "study=grid", "optimizer.lr=0.1,0.2,0.3", "-m", *QUICK)
    output = temper("status", "study=grid", "lines=2")[1]
    assert "… and 1 more cells" in output and "3 runs: 3 finished" in output


@pytest.mark.slow
def test_a_running_run_is_told_with_its_epoch_and_one_that_was_killed_is_not(temper: Temper) -> None:
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
    assert [run.state for run in runs_of(Path("outputs/default"), Plan.all_of(Path("outputs/default")))] == [State.INTERRUPTED]
    assert "1 runs: 1 interrupted" in temper("status")[1]
