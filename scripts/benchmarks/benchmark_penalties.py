"""Measure the cost of each penalty: a training step with it compared with one without it, for standard and PGD training.

    python scripts/benchmarks/benchmark_penalties.py [--quick] [model.width=32 data.batch_size=64 …]

Every option of conf/penalty is trained for a few epochs through Hydra, Lightning and all callbacks. Each round includes all
options in rotating order, with a baseline without penalty after every few of them, so that other load slows all. The script
prints the median over rounds of the ratio to the baselines just before and just after, with the quartiles, and the number of
backward passes per example and step in the first epoch, including measurements made once per epoch. Options that cannot be
composed or trained are listed at the end, and the exit status is 1.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

import pytorch_lightning as pl
import torch
from measuring import begin, composed, machine
from rich.table import Table

from temper.config.composed import CONF
from temper.config.errors import explain
from temper.config.run_config import RunConfig
from temper.data.loading import build_data
from temper.runs.terminal import say
from temper.training.callbacks import Cost, Curves
from temper.training.modules import build_module

# Requirements of an option: a model that has a place for it, or penalties that it steers.
RESNET = ("model=preact_resnet18", "model.width=4", "data.train_size=640")
MODELS: dict[str, tuple[str, ...]] = {"stochastic_depth": RESNET}
STEERED = {"controlled": "l2,controlled", "dynamic": "l2,dynamic", "meta": "l1,l2,meta"}
# Epochs of one training by attack; the first one is the warm-up.
ATTACKS = {"none": 4, "pgd": 2}
# Time limit of all rounds, seconds.
BUDGET, QUICK_BUDGET, FEWEST_ROUNDS = 330, 100, 2
BLOCK = 3  # trainings between two baselines


class Clock(pl.Callback):
    """Callback that measures all epochs except the first, in CPU time, so that other processes do not count.

    Attributes:
        seconds: CPU time of training.
        steps: number of training steps.
    """

    def __init__(self) -> None:
        self.seconds, self.steps = 0.0, 0
        self._since: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch > 0:
            self._since, self._from = time.process_time(), trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._since is not None:
            self.seconds += time.process_time() - self._since
            self.steps += trainer.global_step - self._from


@dataclass
class Training:
    """One cell and its measurements.

    Attributes:
        overrides: overrides of its config.
        seconds: CPU time per step, in each round.
        ratios: ratio to a step of the baseline, in each round.
        passes: backward passes of the network per example and step.
        error: error message; None: the cell can be measured.
    """

    overrides: tuple[str, ...]
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    passes: float = 0.0
    error: str | None = None

    @cached_property
    def config(self) -> RunConfig:
        """The composed config."""
        return composed(*self.overrides)

    def run(self) -> float:
        """Train once from scratch and return the CPU seconds per step."""
        module, data = build_module(self.config), build_data(self.config)
        clock, cost = Clock(), Cost()
        trainer: pl.Trainer = self.config.trainer.build(
            callbacks=[clock, Curves(), cost, *module.penalties.callbacks()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(module, data)
        self.passes = cost.gradient_evaluations
        return clock.seconds / clock.steps


@dataclass
class Group:
    """Trainings that differ only in the penalty, and their baseline without a penalty."""

    baseline: Training
    members: dict[str, Training] = field(default_factory=dict)


def groups(penalties: Iterable[str], extra: Sequence[str]) -> list[Group]:
    """Return the trainings of all penalties under all attacks, grouped by baseline."""
    by_settings: dict[tuple[str, ...], Group] = {}
    for penalty, (attack, epochs) in product(penalties, ATTACKS.items()):
        model = MODELS.get(penalty, ())
        common = ("data.batch_size=128", f"attack={attack}", f"trainer.max_epochs={epochs}", *model, *extra)
        group = by_settings.setdefault(common, Group(Training((*common, "penalty=[none]"))))
        group.members[f"{attack}: {penalty}"] = Training((*common, f"penalty=[{STEERED.get(penalty, penalty)}]"))
    return list(by_settings.values())


def lap(baseline: Training, members: Sequence[Training]) -> None:
    """Measure one round of a group."""
    before = baseline.run()
    for start in range(0, len(members), BLOCK):
        took: list[tuple[Training, float]] = []
        for one in members[start : start + BLOCK]:
            if one.error is None:
                try:
                    took.append((one, one.run()))
                except Exception as error:  # any error of an option; the others still run
                    one.error = explain(error).splitlines()[0]
        after = baseline.run()
        for one, seconds in took:
            one.seconds.append(seconds)
            one.ratios.append(2 * seconds / (before + after))
        before = after


def race(among: Sequence[Group], budget: float) -> int:
    """Measure rounds until the time limit, and return their number."""
    since, rounds = time.perf_counter(), 0
    orders = [list(group.members.values()) for group in among]
    among[0].baseline.run()  # warm-up: imports and caches
    while rounds < FEWEST_ROUNDS or (time.perf_counter() - since) * (rounds + 1) / rounds < budget:
        for group, order in zip(among, orders, strict=True):
            lap(group.baseline, order)
            order.append(order.pop(0))  # no option always follows the same one
        rounds += 1
    return rounds


def cells(one: Training) -> list[str]:
    """Return the cells of one attack in a row of the table."""
    if one.error is not None:
        return ["–"] * 4
    low, ratio, high = statistics.quantiles(one.ratios, method="inclusive")
    return [f"{1e3 * statistics.median(one.seconds):.2f}", f"{ratio:.2f}", f"{low:.2f} – {high:.2f}", f"{one.passes:.1f}"]


def main() -> None:
    """Measure all penalties and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("overrides", nargs="*", help="overrides of every config")
    arguments = parser.parse_args()
    begin()
    penalties = sorted(path.stem for path in Path(CONF, "penalty").glob("*.yaml") if path.stem != "none")
    among = groups(penalties, arguments.overrides)
    say(machine(torch.device("cpu")))
    rounds = race(among, QUICK_BUDGET if arguments.quick else BUDGET)
    table = Table(title=f"Cost of a training step with each penalty, {rounds} rounds")
    table.add_column("penalty")
    for attack in ATTACKS:
        for heading in (f"attack={attack}\nCPU ms", "\nratio", "interquartile\nrange", "backward\npasses"):
            table.add_column(heading, justify="right")
    trainings = {name: one for group in among for name, one in group.members.items()}
    for penalty in penalties:
        table.add_row(penalty, *(cell for attack in ATTACKS for cell in cells(trainings[f"{attack}: {penalty}"])))
    say(table)
    failed = {name: one.error for name, one in trainings.items() if one.error is not None}
    for name, error in failed.items():
        say(f"not measured under attack={name}: {error}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
