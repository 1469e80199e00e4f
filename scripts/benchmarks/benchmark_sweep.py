"""What a sweep of ten thousand runs costs apart from training: composing, validating, skipping, status, report.

    python scripts/benchmarks/benchmark_sweep.py --runs 10000

One trivial run is trained; the records of all others are made from its own, in folders of the cells that the sweep planned.
Prints the seconds of each step; the goal is a minute for each. Cells that differ in more than their seed cost most, since
each is built and validated: their price is measured apart.
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
from temper.config.composed import CONF
from temper.config.resolvers import register_resolvers
from temper.report import make_report
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
    """A study of so many runs in the working folder; `timed` notes what each step took."""

    def __init__(self) -> None:
        register_resolvers()
        initialize_config_dir(CONF, version_base="1.3")
        self.loader = GlobalHydra.instance().config_loader()
        self.config = self.loader.load_configuration("train", [], RunMode.MULTIRUN)
        self.steps: list[dict[str, Any]] = []

    def timed(self, what: str, count: int, act: Callable[[], T]) -> T:
        since = time.perf_counter()
        value = act()
        seconds = time.perf_counter() - since
        self.steps.append({"step": what, "count": count, "seconds": seconds, "ms each": 1000 * seconds / count})
        return value

    def plan(self, *axes: str) -> list[Job]:
        return plan(self.config, self.loader, combinations(self.loader, [*TRIVIAL, *axes]))[0]


def train_one(scale: Scale) -> RunRecord:
    job = scale.plan("seed=0")[0]
    composed = scale.loader.load_sweep_config(scale.config, job.overrides)
    composed._set_flag(["struct", "readonly"], [False, False])
    composed.pop("hydra")
    record = run(composed, Path("outputs/one/cell/seed-0"), alone=False)
    assert record is not None
    return record


def fill(jobs: list[Job], template: RunRecord) -> None:
    """A finished record for every run, its accuracies moved a little."""
    draw = random.Random(0)
    for job in jobs:
        record = dataclasses.replace(
            template, study="scale", attack=job.cell.attack, penalty=job.cell.penalty, kind=str(job.cell.kind)
        )
        record.digest, record.seed, record.config = job.cell.digest, job.seed, template.config | {"seed": job.seed}
        (evaluation,) = template.evaluations.values()
        checkpoints = {
            name: {**found, "metrics": {metric: value * draw.uniform(0.9, 1) for metric, value in found["metrics"].items()}}
            for name, found in evaluation["checkpoints"].items()
        }
        record.evaluations = {job.suite: evaluation | {"checkpoints": checkpoints}}
        job.folder.mkdir(parents=True)
        record.write(job.folder)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--cells", type=int, default=200, help="that differ in more than their seed, for their price")
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
            "plan: compose, validate, nothing is done", options.runs, lambda: scale.plan(ATTACKS, PENALTIES, seeds)
        )
        scale.timed("keep the plan", len(jobs), lambda: Plan.of(jobs).write(Path("outputs/scale")))
        scale.timed("write records", len(jobs), lambda: fill(jobs, template))
        again = scale.timed("plan again: skip all", len(jobs), lambda: scale.plan(ATTACKS, PENALTIES, seeds))
        assert {job.state for job in again} == {State.FINISHED}, "every record should have been found"
        scale.timed("temper-status", len(jobs), lambda: describe(Path("outputs/scale"), 40))
        records, problems = scale.timed("collect", len(jobs), lambda: collect(Path("outputs/scale")))
        assert len(records) == len(jobs) and not problems, f"{len(records)} of {len(jobs)} records; {problems[:1]}"
        scale.timed("report, collecting included", len(jobs), lambda: make_report(Path("outputs/scale"), Path("results/scale")))
        table = pd.DataFrame(scale.steps).to_markdown(index=False, floatfmt=("", "d", ".1f", ".2f"))
        say(f"{len(jobs)} runs of 20 cells; {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        say(f"\n{table}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
