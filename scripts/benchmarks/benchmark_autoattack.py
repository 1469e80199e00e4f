"""How long AutoAttack takes beside the reference implementation, and whether it comes to the same verdicts.

    python scripts/benchmarks/benchmark_autoattack.py [--quick]
    python scripts/benchmarks/benchmark_autoattack.py --device cuda --run outputs/STUDY/CELL/seed-0 --examples 10000

Ours runs as `evaluation=autoattack` does, the reference as its authors document it (`run_standard_evaluation` of pyautoattack),
on the same network, examples, eps and batch size, in float32. Without --run the networks are the CNN of the digits, trained
with and without PGD. Seconds are those of the one core on a CPU, of the clock on a GPU; rounds alternate between the two sides,
so that a busy machine slows both.
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
from measuring import begin, composed, machine, spent, trainer_of
from omegaconf import DictConfig, OmegaConf
from rich.table import Table
from torch import Tensor

from temper.attacks import PGD, AutoAttack, Threat
from temper.config.instantiate import build
from temper.data import Loader
from temper.data.loading import build_data
from temper.evaluation import attack_all
from temper.models import Network
from temper.runs.record import RunRecord
from temper.runs.terminal import say
from temper.training.modules import build_module, load

GOAL = 2.0  # times as fast as the reference
# Starts are random, and what lies on the boundary falls under one seed and stands under another; the table says how much of
# that there is. More may differ in both directions together than in sum.
DIFFER, APART = 0.02, 0.005  # shares of the examples, one example at least
STAGES = ("apgd_ce", "apgd_t", "fab_t", "square")
NORMS = {"linf": "Linf", "l2": "L2"}


@dataclass
class Side:
    """One implementation on one network and threat.

    Attributes:
        seconds: by stage, and "total", over all rounds.
        stands: whether each example withstood the attack, (N,) bool, in each round, which has a seed of its own.
    """

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    stands: list[Tensor] = field(default_factory=list)

    def watch(self, stage: str, attack: Any, device: torch.device) -> None:
        """Count what an attack's `perturb` takes as this stage's time."""
        attack.perturb = partial(self.timed, stage, attack.perturb, device)

    def timed(self, what: str, run: Callable[..., Tensor], device: torch.device, *arguments: Any, **named: Any) -> Tensor:
        """What `run` returns, once the device is done with it."""
        since = spent(device)
        result = run(*arguments, **named)
        self.seconds[what] += spent(device) - since
        return result


@dataclass
class Trial:
    """A network under a threat, and both sides on it."""

    name: str
    net: Network
    loader: Loader
    threat: Threat
    ours: Side = field(default_factory=Side)
    reference: Side = field(default_factory=Side)

    def round(self, number: int) -> None:
        """Both, each first in every other round."""
        for run in (self._ours, self._reference)[:: 1 if number % 2 == 0 else -1]:
            run(number)

    def warm_up(self) -> None:
        """What the device does once, for the first pass of all."""
        PGD(threat=self.threat, steps=2).perturb(self.net, next(iter(self.loader)))

    def _ours(self, seed: int) -> None:
        attack = AutoAttack(threat=self.threat)
        for stage in STAGES:
            self.ours.watch(stage, attack.attacks[stage], self.loader.x.device)

        def run() -> Tensor:
            return attack_all(self.net, {"autoattack": attack}, self.loader, seed=seed).robust["autoattack"]

        self.ours.stands.append(self.ours.timed("total", run, self.loader.x.device))

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

        self.reference.stands.append(self.reference.timed("total", run, device))

    @property
    def differ(self) -> int:
        """Verdicts that are not the same, in the round that has most."""
        return max(map(differing, self.ours.stands, self.reference.stands))

    @property
    def same(self) -> bool:
        """Whether the verdicts are the same but for the seed."""
        count = len(self.loader.y)
        pairs = zip(self.ours.stands, self.reference.stands, strict=True)
        apart = max(abs(int(ours.sum()) - int(reference.sum())) for ours, reference in pairs)
        return self.differ <= max(1, DIFFER * count) and apart <= max(1, APART * count)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Of the table."""
        title = f"{self.name}, {self.threat.norm} {self.threat.eps:g}"
        for stage in (*STAGES, "total"):
            ours, reference = (side.seconds[stage] for side in (self.ours, self.reference))
            ratio = f"{reference / ours:.2f}" if ours and reference else ""  # a stage is left out where nothing stands
            yield (title if stage == STAGES[0] else "", f"{stage}, s", f"{ours:.2f}", f"{reference:.2f}", ratio)
        sides = (self.ours, self.reference)
        robust = (f"{100 * torch.stack(side.stands).float().mean():.2f}" for side in sides)
        yield ("", "robust accuracy, %", *robust, "")
        itself = (str(max(map(differing, side.stands, side.stands[1:]), default="")) for side in sides)
        yield ("", "verdicts that another seed changes", *itself, "")
        yield ("", "verdicts that differ", "", str(self.differ), "")


def differing(one: Tensor, other: Tensor) -> int:
    """Verdicts that are not the same."""
    return int((one != other).sum())


def digits() -> Iterator[tuple[str, Network, DictConfig]]:
    """The digits' CNN, trained without an attack and against PGD."""
    for attack in ("none", "pgd"):
        config = composed(f"attack={attack}")
        module = build_module(config)
        trainer_of(config, module).fit(module, build_data(config))
        yield f"digits, attack={attack}", module.net.eval(), config


def finished(run: Path) -> Iterator[tuple[str, Network, DictConfig]]:
    """The last checkpoint of a run."""
    yield run.parent.name, load(run / "checkpoints" / "last.ckpt")[0].net, OmegaConf.create(RunRecord.read(run).config)


def judge(title: str, trials: Sequence[Trial]) -> str:
    """What became of the goal."""
    ratio = sum(trial.reference.seconds["total"] for trial in trials) / sum(trial.ours.seconds["total"] for trial in trials)
    met = ratio >= GOAL and all(trial.same for trial in trials)
    return (
        f"{title}: {ratio:.2f} times as fast as the reference, {sum(trial.differ for trial in trials)} of "
        f"{sum(len(trial.loader.y) for trial in trials)} verdicts differ; goal {GOAL:g} times at the same verdicts: "
        f"{'MET' if met else 'MISSED'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of a finished run, with result.json and checkpoints/last.ckpt")
    parser.add_argument("--device", default="cpu", help="where to run: cpu or cuda")
    parser.add_argument("--examples", type=int, help="the first of the test set (default: all; --quick: 200)")
    parser.add_argument("--norm", choices=NORMS, action="append", help="of the data's threats (default: both; --run: linf)")
    parser.add_argument("--batch-size", type=int, default=500, help="of both sides (default: 500)")
    parser.add_argument("--quick", action="store_true", help="about a minute on the digits")
    arguments = parser.parse_args()
    begin()
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    device = torch.device(arguments.device)
    say(f"{machine(device)}, pyautoattack {version('pyautoattack')}")
    table = Table(title=f"AutoAttack standard, batches of {arguments.batch_size}")
    for heading in ("network, threat", "", "ours", "reference", "reference / ours"):
        table.add_column(heading, justify="left" if heading in ("network, threat", "") else "right")
    trials = []
    for name, net, config in finished(arguments.run) if arguments.run else digits():
        size = arguments.examples or (200 if arguments.quick else None)
        loader = build_data(config).loader("test", batch_size=arguments.batch_size, device=device, size=size)
        for norm in arguments.norm or (["linf"] if arguments.run else NORMS):
            trial = Trial(name, net.to(device), loader, build(config, f"data.threats.{norm}"))
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
        say(judge("over all", trials))


if __name__ == "__main__":
    main()
