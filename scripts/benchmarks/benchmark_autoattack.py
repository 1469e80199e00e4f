"""Compare AutoAttack with the reference implementation: time, and the robustness of each example.

    python scripts/benchmarks/benchmark_autoattack.py [--quick]
    python scripts/benchmarks/benchmark_autoattack.py --device cuda --run outputs/STUDY/CELL/seed-0 --examples 10000

Temper runs as in `evaluation=autoattack`, the reference as its authors document it (`run_standard_evaluation` of
pyautoattack), on the same network, examples, eps and batch size, in float32. Without --run the networks are the CNN on digits,
trained with and without PGD. Times are CPU seconds on a CPU and wall-clock seconds on a GPU. Rounds alternate between the two
implementations, so that other load slows both.
"""

import argparse
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyautoattack
import torch
from measuring import begin, composed, machine, outcome, spent, trainer_of
from rich.table import Table
from torch import Tensor

from temper.attacks import PGD, AutoAttack, Threat
from temper.config.run_config import RunConfig, parse
from temper.data import Loader
from temper.data.loading import build_data
from temper.evaluation import attack_all
from temper.models import Network
from temper.runs.record import RunRecord
from temper.runs.terminal import say
from temper.training.modules import build_module, load

GOAL = 2.0  # times as fast as the reference
# Starts are random, so that examples near the decision boundary depend on the seed; the table shows how many. The tolerance for
# differences in either direction is larger than that for the difference of the totals.
DIFFER, APART = 0.02, 0.005  # fractions of the examples, at least one example
STAGES = ("apgd_ce", "apgd_t", "fab_t", "square")
NORMS = {"linf": "Linf", "l2": "L2"}


@dataclass
class Side:
    """Measurements of one implementation on one network and threat.

    Attributes:
        seconds: time by stage, and "total", over all rounds.
        robust: whether each example withstood the attack, (N,) bool, for each round, which has its own seed.
    """

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    robust: list[Tensor] = field(default_factory=list)

    def watch(self, stage: str, attack: Any, device: torch.device) -> None:
        """Add the time of an attack's `perturb` to a stage."""
        attack.perturb = partial(self.timed, stage, attack.perturb, device)

    def timed(self, stage: str, run: Callable[..., Tensor], device: torch.device, *arguments: Any, **named: Any) -> Tensor:
        """Add the time of `run` to a stage and return its value."""
        since = spent(device)
        result = run(*arguments, **named)
        self.seconds[stage] += spent(device) - since
        return result


@dataclass
class Trial:
    """Both implementations on one network under one threat."""

    name: str
    net: Network
    loader: Loader
    threat: Threat
    ours: Side = field(default_factory=Side)
    reference: Side = field(default_factory=Side)

    def round(self, number: int) -> None:
        """Run both implementations; the order alternates between rounds."""
        for run in (self._ours, self._reference)[:: 1 if number % 2 == 0 else -1]:
            run(number)

    def warm_up(self) -> None:
        """Run a short attack, so that one-time costs of the device are not measured."""
        PGD(threat=self.threat, steps=2).perturb(self.net, next(iter(self.loader)))

    def _ours(self, seed: int) -> None:
        attack = AutoAttack(threat=self.threat)
        for stage in STAGES:
            self.ours.watch(stage, attack.attacks[stage], self.loader.x.device)

        def run() -> Tensor:
            return attack_all(self.net, {"autoattack": attack}, self.loader, seed=seed).robust["autoattack"]

        self.ours.robust.append(self.ours.timed("total", run, self.loader.x.device))

    def _reference(self, seed: int) -> None:
        device = self.loader.x.device
        x, y = (torch.cat(parts) for parts in zip(*((batch.x, batch.y) for batch in self.loader), strict=True))
        attack = pyautoattack.AutoAttack(
            self.net, norm=NORMS[self.threat.norm], eps=self.threat.eps, seed=seed, version="standard", device=device
        )
        for stage, part in zip(STAGES, (attack.apgd, attack.apgd_targeted, attack.fab, attack.square), strict=True):
            self.reference.watch(stage, part, device)

        def run() -> Tensor:
            _, predicted = attack.run_standard_evaluation(x, y, batch_size=self.loader.batch_size)
            return (predicted == y).cpu()

        self.reference.robust.append(self.reference.timed("total", run, device))

    @property
    def differ(self) -> int:
        """Largest number of examples over rounds on which the implementations disagree."""
        return max(map(differing, self.ours.robust, self.reference.robust))

    @property
    def same(self) -> bool:
        """True if the implementations agree up to the effect of the seed."""
        count = len(self.loader.y)
        pairs = zip(self.ours.robust, self.reference.robust, strict=True)
        apart = max(abs(int(ours.sum()) - int(reference.sum())) for ours, reference in pairs)
        return self.differ <= max(1, DIFFER * count) and apart <= max(1, APART * count)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the rows of the table."""
        title = f"{self.name}, {self.threat.norm} {self.threat.eps:g}"
        for stage in (*STAGES, "total"):
            ours, reference = (side.seconds[stage] for side in (self.ours, self.reference))
            ratio = f"{reference / ours:.2f}" if ours and reference else ""  # a stage is skipped if no example is left
            yield (title if stage == STAGES[0] else "", f"{stage}, s", f"{ours:.2f}", f"{reference:.2f}", ratio)
        sides = (self.ours, self.reference)
        robust = (f"{100 * torch.stack(side.robust).float().mean():.2f}" for side in sides)
        yield ("", "robust accuracy, %", *robust, "")
        itself = (str(max(map(differing, side.robust, side.robust[1:]), default="")) for side in sides)
        yield ("", "examples that another seed changes", *itself, "")
        yield ("", "examples that differ", "", str(self.differ), "")


def differing(one: Tensor, other: Tensor) -> int:
    """Return the number of examples on which two results disagree."""
    return int((one != other).sum())


def digits() -> Iterator[tuple[str, Network, RunConfig]]:
    """Yield the CNN on digits, trained without an attack and with PGD."""
    for attack in ("none", "pgd"):
        config = composed(f"attack={attack}")
        module = build_module(config)
        trainer_of(config, module).fit(module, build_data(config))
        yield f"digits, attack={attack}", module.net.eval(), config


def finished(run: Path) -> Iterator[tuple[str, Network, RunConfig]]:
    """Yield the last checkpoint of a run."""
    yield run.parent.name, load(run / "checkpoints" / "last.ckpt")[0].net, parse(RunRecord.read(run).config)


def judge(title: str, trials: Sequence[Trial]) -> str:
    """Return a line that says whether the goal is met."""
    ratio = sum(trial.reference.seconds["total"] for trial in trials) / sum(trial.ours.seconds["total"] for trial in trials)
    met = ratio >= GOAL and all(trial.same for trial in trials)
    return (
        f"{title}: {ratio:.2f} times as fast as the reference, {sum(trial.differ for trial in trials)} of "
        f"{sum(len(trial.loader.y) for trial in trials)} examples differ; goal {GOAL:g} times with the same result: "
        f"{outcome(met)}"
    )


def main() -> None:
    """Compare both implementations and print a table and the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of a finished run, with result.json and checkpoints/last.ckpt")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--examples", type=int, help="number of test examples (default: all; --quick: 200)")
    parser.add_argument(
        "--norm", choices=NORMS, action="append", help="norm of the threat; repeatable (default: both; --run: linf)"
    )
    parser.add_argument("--batch-size", type=int, default=500, help="of both implementations (default: 500)")
    parser.add_argument("--quick", action="store_true", help="about a minute on the digits")
    arguments = parser.parse_args()
    begin()
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    device = torch.device(arguments.device)
    say(f"{machine(device)}, pyautoattack {version('pyautoattack')}")
    table = Table(title=f"AutoAttack standard, batches of {arguments.batch_size}")
    for heading in ("network, threat", "", "temper", "reference", "reference / temper"):
        table.add_column(heading, justify="left" if heading in ("network, threat", "") else "right")
    trials = []
    for name, net, config in finished(arguments.run) if arguments.run else digits():
        size = arguments.examples or (200 if arguments.quick else None)
        loader = build_data(config).loader("test", batch_size=arguments.batch_size, device=device, size=size)
        for norm in arguments.norm or (["linf"] if arguments.run else NORMS):
            trial = Trial(name, net.to(device), loader, config.data.threats[norm].build())
            trial.warm_up()
            for number in range(1 if arguments.quick or arguments.run else 2):
                trial.round(number)
            trials.append(trial)
            for row in trial.rows():
                table.add_row(*row)
            table.add_section()
    say(table)
    for trial in trials:
        say(judge(f"{trial.name}, {trial.threat.norm}", [trial]))
    if len(trials) > 1:
        say(judge("overall", trials))


if __name__ == "__main__":
    main()
