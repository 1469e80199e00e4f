"""Measure the overhead of a sweep of 10,000 runs: composing, validating, skipping, status and report.

    python scripts/benchmarks/benchmark_sweep.py --runs 10000

One trivial run is trained; the records of all other runs are copies of its record, in the folders that the sweep planned. The
script prints the seconds of each step; the goal is one minute per step. Cells that differ in more than their seed cost most,
since each one is built and validated; they are measured separately.
"""

import argparse
import dataclasses
import os
import platform
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from temper.cli.run import run
from temper.cli.status import describe
from temper.config import run_config
from temper.config.composed import CONF
from temper.config.resolvers import register_resolvers
from temper.report import make_report
from temper.runs.identity import RunIdentity
from temper.runs.jobs import Job, State
from temper.runs.plans import Plan
from temper.runs.record import RunRecord, collect
from temper.runs.terminal import say
from temper.sweeps.sweep import combinations, plan

T = TypeVar("T")
TRIVIAL = [
    "study=scale",
    "evaluation=quick",
    "trainer.max_epochs=1",
    "data.train_size=100",
    "data.test_size=60",
    "model.width=2",
    "model.hidden=4",
]
ATTACKS, PENALTIES = "attack=none,fgsm,pgd,trades", "penalty=none,l1,l2,dropout,label_smoothing"


class Scale:
    """Sweep configuration in the working directory, and the time of each step."""

    def __init__(self) -> None:
        register_resolvers()
        initialize_config_dir(CONF, version_base="1.3")
        self.loader = GlobalHydra.instance().config_loader()
        self.config = self.loader.load_configuration("train", [], RunMode.MULTIRUN)
        self.steps: list[dict[str, Any]] = []

    def timed(self, step: str, count: int, function: Callable[[], T]) -> T:
        """Call a function, record its time under `step`, and return its value."""
        since = time.perf_counter()
        value = function()
        seconds = time.perf_counter() - since
        self.steps.append({"step": step, "count": count, "seconds": seconds, "ms each": 1000 * seconds / count})
        return value

    def plan(self, *axes: str) -> list[Job]:
        return plan(self.config, self.loader, combinations(self.loader, [*TRIVIAL, *axes]))[0]


def train_one(scale: Scale) -> RunRecord:
    job = scale.plan("seed=0")[0]
    composed = scale.loader.load_sweep_config(scale.config, job.overrides)
    composed._set_flag(["struct", "readonly"], [False, False])
    composed.pop("hydra")
    config = run_config.parse(composed)
    record = run(config, RunIdentity.of(config, Path("outputs/one/cell/seed-0")), alone=False)
    assert record is not None
    return record


def fill(jobs: list[Job], template: RunRecord) -> None:
    """Write a finished record for every run, with slightly changed accuracies."""
    draw = random.Random(0)
    for job in jobs:
        record = dataclasses.replace(
            template, study="scale", attack=job.cell.attack, penalty=job.cell.penalty, kind=str(job.cell.kind)
        )
        record.digest, record.seed, record.config = job.cell.digest, job.seed, template.config | {"seed": job.seed}
        (evaluation,) = template.evaluations.values()
        checkpoints = {
            name: {**values, "metrics": {metric: value * draw.uniform(0.9, 1) for metric, value in values["metrics"].items()}}
            for name, values in evaluation["checkpoints"].items()
        }
        record.evaluations = {job.suite: evaluation | {"checkpoints": checkpoints}}
        job.folder.mkdir(parents=True)
        record.write(job.folder)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="number of runs (default: 10000)")
    parser.add_argument("--cells", type=int, default=200, help="number of cells that differ in more than their seed")
    return parser.parse_args()


def main() -> None:
    options = parse()
    folder = Path(tempfile.mkdtemp(prefix="temper-scale-"))
    os.chdir(folder)
    try:
        scale = Scale()
        template = train_one(scale)
        weights = ",".join(f"{i / 1e5:g}" for i in range(1, options.cells + 1))
        scale.timed(
            "plan cells of different weights", options.cells, lambda: scale.plan("penalty=l2", f"penalty.l2.weight={weights}")
        )
        seeds = "seed=" + ",".join(map(str, range(options.runs // 20)))
        jobs = scale.timed(
            "plan: compose and validate, nothing finished", options.runs, lambda: scale.plan(ATTACKS, PENALTIES, seeds)
        )
        scale.timed("write the plan", len(jobs), lambda: Plan.of(jobs).write(Path("outputs/scale")))
        scale.timed("write records", len(jobs), lambda: fill(jobs, template))
        again = scale.timed("plan again: all finished and skipped", len(jobs), lambda: scale.plan(ATTACKS, PENALTIES, seeds))
        assert {job.state for job in again} == {State.FINISHED}, "every run should be finished"
        scale.timed("temper-status", len(jobs), lambda: describe(Path("outputs/scale"), 40))
        records, problems = scale.timed("collect", len(jobs), lambda: collect(Path("outputs/scale")))
        assert len(records) == len(jobs) and not problems, f"{len(records)} of {len(jobs)} records; {problems[:1]}"
        scale.timed("report, including collect", len(jobs), lambda: make_report(Path("outputs/scale"), Path("results/scale")))
        table = pd.DataFrame(scale.steps).to_markdown(index=False, floatfmt=("", "d", ".1f", ".2f"))
        say(f"{len(jobs)} runs of 20 cells; {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        say(f"\n{table}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
