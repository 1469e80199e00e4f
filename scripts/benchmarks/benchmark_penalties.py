"""What each penalty costs: a training step with it beside the same step without, under no attack and under PGD.

    python scripts/benchmarks/benchmark_penalties.py [--quick] [model.width=32 data.batch_size=64 …]

Every option of conf/penalty takes part in short whole trainings through Hydra, Lightning and all callbacks. Rounds run through
all of them in rotating order, and a training without penalty comes after every few, so that a busy machine slows all. Printed
is the median over rounds of the ratio to the trainings without just before and just after, with the quartiles; and how
often an example goes backward through the network in a step of the first epoch, with what is measured there once an epoch.
An option that cannot be composed or trained is named at the end, and the exit status is 1.
"""

import argparse
import logging
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from rich.table import Table

from temper.config.composed import CONF
from temper.config.errors import explain
from temper.config.instantiate import build
from temper.config.resolvers import register_resolvers
from temper.data.loading import build_data
from temper.runs.provenance import provenance
from temper.runs.terminal import say
from temper.training.callbacks import Cost, Curves
from temper.training.modules import build_module

# What an option needs beside itself: a model that has a place for it, or penalties that it steers.
RESNET = ("model=preact_resnet18", "model.width=4", "data.train_size=640")
MODELS: dict[str, tuple[str, ...]] = {"stochastic_depth": RESNET}
STEERED = {"controlled": "l2,controlled", "dynamic": "l2,dynamic", "meta": "l1,l2,meta"}
# Epochs of one training under each attack; the first of them warms up.
ATTACKS = {"none": 4, "pgd": 2}
# Rounds go on until so many seconds are spent.
BUDGET, QUICK_BUDGET, FEWEST_ROUNDS = 330, 100, 2
BLOCK = 3  # trainings between two without penalty


class Clock(pl.Callback):
    """CPU seconds of all epochs but the first, which warms up: what other processes take is nobody's cost.

    Attributes:
        seconds, steps: of training.
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
    """One cell, and what was measured of it.

    Attributes:
        overrides: that its config is composed from.
        seconds: CPU time of a step, in each round.
        ratios: to a step without penalty, in each round.
        passes: backward passes of the network a step for one example.
        error: why it cannot be measured.
    """

    overrides: tuple[str, ...]
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    passes: float = 0.0
    error: str | None = None

    @cached_property
    def config(self) -> DictConfig:
        with initialize_config_dir(CONF, version_base="1.3"):
            return compose("train", overrides=list(self.overrides))

    def run(self) -> float:
        """Train once from the start; CPU seconds a step."""
        module, data = build_module(self.config), build_data(self.config)
        clock, cost = Clock(), Cost()
        trainer: pl.Trainer = build(
            self.config,
            "trainer",
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
    """Trainings that differ in the penalty alone, and the one without."""

    baseline: Training
    members: dict[str, Training] = field(default_factory=dict)


def groups(penalties: Iterable[str], extra: Sequence[str]) -> list[Group]:
    found: dict[tuple[str, ...], Group] = {}
    for penalty, (attack, epochs) in product(penalties, ATTACKS.items()):
        model = MODELS.get(penalty, ())
        common = ("data.batch_size=128", f"attack={attack}", f"trainer.max_epochs={epochs}", *model, *extra)
        group = found.setdefault(common, Group(Training((*common, "penalty=[none]"))))
        group.members[f"{attack}: {penalty}"] = Training((*common, f"penalty=[{STEERED.get(penalty, penalty)}]"))
    return list(found.values())


def lap(baseline: Training, members: Sequence[Training]) -> None:
    """One round through a group."""
    before = baseline.run()
    for start in range(0, len(members), BLOCK):
        took: list[tuple[Training, float]] = []
        for one in members[start : start + BLOCK]:
            if one.error is None:
                try:
                    took.append((one, one.run()))
                except Exception as error:  # whatever an option raises: the others go on
                    one.error = explain(error).splitlines()[0]
        after = baseline.run()
        for one, seconds in took:
            one.seconds.append(seconds)
            one.ratios.append(2 * seconds / (before + after))
        before = after


def race(among: Sequence[Group], budget: float) -> int:
    """Round after round until the budget is spent; how many it were."""
    since, rounds = time.perf_counter(), 0
    orders = [list(group.members.values()) for group in among]
    among[0].baseline.run()  # pays for what is loaded and set up once
    while rounds < FEWEST_ROUNDS or (time.perf_counter() - since) * (rounds + 1) / rounds < budget:
        for group, order in zip(among, orders, strict=True):
            lap(group.baseline, order)
            order.append(order.pop(0))  # nobody always runs behind the same one
        rounds += 1
    return rounds


def cells(one: Training) -> list[str]:
    """The part of a table's row that belongs to one attack."""
    if one.error is not None:
        return ["–"] * 4
    low, ratio, high = statistics.quantiles(one.ratios, method="inclusive")
    return [f"{1e3 * statistics.median(one.seconds):.2f}", f"{ratio:.2f}", f"{low:.2f} – {high:.2f}", f"{one.passes:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("overrides", nargs="*", help="of every config")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "temper"):
        logging.getLogger(name).setLevel(logging.ERROR)
    register_resolvers()
    torch.set_num_threads(1)
    penalties = sorted(path.stem for path in Path(CONF, "penalty").glob("*.yaml") if path.stem != "none")
    among = groups(penalties, arguments.overrides)
    hardware = provenance()["hardware"]
    say(
        f"{hardware['cpu']}, {torch.get_num_threads()} thread(s), python {platform.python_version()}, torch {torch.__version__}"
    )
    rounds = race(among, QUICK_BUDGET if arguments.quick else BUDGET)
    table = Table(title=f"A training step with each penalty beside one without, {rounds} rounds")
    table.add_column("penalty")
    for attack in ATTACKS:
        for heading in (f"attack={attack}\nCPU ms", "\nratio", "half of the\nrounds", "backward\npasses"):
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
