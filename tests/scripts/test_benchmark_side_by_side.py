"""Tests of scripts/benchmarks/benchmark_side_by_side.py."""

import re
import subprocess
import sys

import benchmark_side_by_side
import pytest
from benchmark_side_by_side import ENOUGH, Rung, Window, recommended

TINY = ("model.width=2", "model.hidden=4", "data.train_size=100", "attack.steps=1")


def test_recommended_number_of_runs() -> None:
    assert recommended({1: 10.0, 2: 19.0, 4: 20.0, 8: 18.0}) == 2
    assert recommended({1: 10.0, 2: 18.9, 4: 20.0, 8: 18.0}) == 4
    assert recommended({1: 10.0, 2: 9.0}) == 1


def test_throughput_from_the_first_start_to_the_last_end() -> None:
    rung = Rung()
    rung.add([Window(0.0, 2.0, 30, None), Window(1.0, 5.0, 30, None)])
    assert rung.rate == 60 / 5 and rung.imbalance == [2.0]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(benchmark_side_by_side.__file__)
    command = [sys.executable, script, "--device", "cpu", "--quick", *arguments, *TINY]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_concurrent_runs_on_the_cpu() -> None:
    done = run("--most", "2")
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    rows = re.findall(r"│ +(\d+) │ +([\d.]+) │ +([\d.]+) │ +([\d.]+) │ +– │", done.stdout)
    assert [row[0] for row in rows] == ["1", "2"], done.stdout
    rates = {int(k): float(rate) for k, rate, _, _ in rows}
    assert all(rates.values()) and rows[0][2:] == ("1.00", "1.00") and float(rows[1][3]) >= 1
    recommendation = re.search(r"hydra\.launcher\.n_jobs=(\d+): the fewest", done.stdout)
    assert recommendation is not None, done.stdout
    # The recommendation uses the exact rates, the table shows one decimal place.
    fewest, best, half = int(recommendation[1]), max(rates.values()), 0.05
    assert rates[fewest] + half >= ENOUGH * (best - half)
    assert all(rate - half < ENOUGH * (best + half) for k, rate in rates.items() if k < fewest)


@pytest.mark.slow
def test_invalid_cell_is_an_error() -> None:
    done = run("--most", "1", "attack.eps=8")
    assert done.returncode == 1 and "did you mean 8/255?" in done.stderr and "Traceback" not in done.stderr, done.stderr
