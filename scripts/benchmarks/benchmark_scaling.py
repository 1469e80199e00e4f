"""How cost grows with what a user turns up: attack steps, batch size, width, runs of a sweep, devices of a run.

    python scripts/benchmarks/benchmark_scaling.py [--quick] [--device cuda] [--plot scaling.png] [model.hidden=200 …]

Each ladder is measured round after round, its rungs in an order drawn anew, and a line is laid through the medians. It should
fit in passes through the network (k attack steps are k + 1), in the batch, and in the runs of a sweep. In the width,
cost bends from what does not depend on it towards the quadratic of convolutions, and local exponents say where it is. A
training step is one of the whole of temper; without a GPU it is measured in CPU time, which other processes take no part of.
Images a second on several devices are those of trainer=ddp by the clock; on a CPU its processes need a core each.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hydra.core.global_hydra import GlobalHydra
from ladders import Ladder, Rung, draw
from measuring import begin, composed, machine, spent, trainer_of

from temper.cli.train import main as temper_train
from temper.config.resolvers import cores
from temper.data.loading import build_data
from temper.runs.record import RunRecord
from temper.runs.terminal import say
from temper.training.modules import build_module

EXAMPLES = 1024  # whole batches on every rung
DATA = (f"data.train_size={EXAMPLES}", "data.val_fraction=0.2")
STEP = (*DATA, "attack=pgd", "attack.steps=3", "data.batch_size=128", "trainer.max_epochs=-1")
RUN_OF_A_SWEEP = ("evaluation=quick", "data.train_size=200", "data.test_size=60", "trainer.max_epochs=8", "model.width=4")
RUN_ON_DEVICES = (*DATA, "attack=pgd", "attack.steps=3", "data.batch_size=256", "model.width=32", "evaluation.checkpoints=[]")
WARM_UP = 2  # steps

Measure = Callable[[], float]


class Clock(pl.Callback):
    """Seconds of all steps of one fit but the first few, which warm up."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        if trainer.global_step == WARM_UP:
            self.since = spent(pl_module.device)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds = spent(pl_module.device) - self.since


def training_step(steps: int, *overrides: str) -> Measure:
    """Milliseconds of one step of training; composing and building are not counted."""
    config = composed(*STEP, *overrides)

    def measure() -> float:
        module, clock = build_module(config), Clock()
        trainer = trainer_of(config, module, clock, max_steps=WARM_UP + steps, limit_val_batches=0)
        trainer.fit(module, build_data(config))
        return 1e3 * clock.seconds / steps

    return measure


def bare_pass(passes: int, device: torch.device, *overrides: str) -> Measure:
    """Milliseconds of one pass forward, and backward to the inputs, with nothing around it."""
    config = composed(*STEP, *overrides)
    net, data = build_module(config).net.to(device).eval(), build_data(config)
    batch = next(iter(data.loader("train", batch_size=config.data.batch_size, device=device)))

    def measure() -> float:
        since = 0.0
        for number in range(WARM_UP + passes):
            if number == WARM_UP:
                since = spent(device)
            z = batch.x.detach().requires_grad_(True)
            torch.autograd.grad(F.cross_entropy(net(z), batch.y, reduction="sum"), z)
        return 1e3 * (spent(device) - since) / passes

    return measure


def sweep(count: int, device: torch.device, *overrides: str) -> Measure:
    """Seconds of `temper-train -m` with so many runs, one after another in this process, the report included."""
    seeds = ",".join(map(str, range(count)))

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            places = (f"paths.outputs={folder}/outputs", f"paths.results={folder}/results")
            settings = ("hydra/launcher=basic", f"seed={seeds}", *places, *RUN_OF_A_SWEEP, *overrides)
            sys.argv = ["temper-train", "-m", *settings]
            since = spent(device)
            temper_train()
            GlobalHydra.instance().clear()
            return spent(device) - since

    return measure


def images_a_second(devices: int, epochs: int, accelerator: str) -> Measure:
    """That one run trains on, once its processes are started."""
    several = ("trainer=ddp", f"trainer.accelerator={accelerator}", f"trainer.devices={devices}")

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            trainer = several if devices > 1 else (f"trainer={accelerator}",)
            settings = (*trainer, f"trainer.max_epochs={epochs}", *RUN_ON_DEVICES, f"paths.outputs={folder}")
            subprocess.run([sys.executable, "-m", "temper.cli.train", *settings], check=True, capture_output=True)
            record = RunRecord.read(next(Path(folder).glob("*/*/seed-*")))
        seconds = record.cost["seconds"]
        assert seconds is not None
        return epochs * EXAMPLES / seconds

    return measure


def ladders(device: torch.device, overrides: Sequence[str], *, quick: bool) -> tuple[list[Ladder], Rung]:
    """All of them, that of attack steps first; and the bare pass that a step is compared with."""
    accelerator, available = ("gpu", torch.cuda.device_count()) if device.type == "cuda" else ("cpu", cores())
    steps, rounds, few = (10, 5, 2) if quick else (30, 15, 5)
    own = (f"trainer={accelerator}", *overrides)

    def stepping(name: str, axis: str, key: str, values: Sequence[int], *more: str, passes: int = 0) -> Ladder:
        rungs = [Rung(value + passes, training_step(steps, *own, *more, f"{key}={value}")) for value in values]
        return Ladder(name, axis, "ms a step", rounds, rungs)

    found = [
        stepping("Attack steps k, passes k + 1", "passes", "attack.steps", (1, 2, 5, 10, 20), passes=1),
        stepping("Batch size", "examples", "data.batch_size", (32, 64, 128, 256, 512)),
        stepping("Width of the CNN", "channels", "model.width", (8, 16, 32, 64), "data.batch_size=512"),
    ]
    found[-1].straight = False
    runs = [Rung(count, sweep(count, device, f"trainer={accelerator}")) for count in (1, 2, 4)]
    found.append(Ladder("Runs of a sweep", "runs", "seconds", few, runs))
    if available > 1:
        counts = [2**power for power in range(available.bit_length())]
        trained = [Rung(count, images_a_second(count, 20, accelerator)) for count in counts]
        found.append(Ladder("Devices of a run", "devices", "images a second", few, trained))
    return found, Rung(1, bare_pass(4 * steps, device, *own))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of fewer steps")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ladders, such as into scaling.png")
    parser.add_argument("overrides", nargs="*", help="of the training steps")
    options = parser.parse_args()
    begin()
    device = torch.device(options.device)
    caption = machine(device)
    say(caption)
    found, bare = ladders(device, options.overrides, quick=options.quick)
    sweep(2, device)()  # pays for what is loaded once
    for number in range(max(ladder.rounds for ladder in found)):
        for ladder in found:
            if number < ladder.rounds:
                ladder.climb(number)
        bare.found.append(bare.measure())
    for ladder in found:
        say(ladder.table())
        say(ladder.verdict())
    by_steps = found[0].line
    assert by_steps is not None
    each, price = by_steps.slope, by_steps.slope / bare.median
    say(f"an attack step takes {each:.3g} ms, {price:.2f} times a bare pass forward and backward ({bare.median:.3g} ms)")
    if options.plot:
        draw(found, options.plot, caption)


if __name__ == "__main__":
    main()
