"""Measure how cost scales with attack steps, batch size, width, runs of a sweep and devices of a run.

    python scripts/benchmarks/benchmark_scaling.py [--quick] [--device cuda] [--plot scaling.png] [model.hidden=200 …]

Each series is measured over several rounds, its values in random order, and a line is fitted to the medians. Cost should be
linear in the passes through the network (k + 1 for k attack steps), the batch size and the runs of a sweep. In the width, cost
changes from constant to quadratic, as convolutions do; local exponents show the regime. A training step is that of the whole of
temper, in CPU time without a GPU, so that other processes do not count. Images per second on several devices are wall-clock
throughput of trainer=ddp; on a CPU each of its processes needs a core.
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

EXAMPLES = 1024  # divisible by every batch size
DATA = (f"data.train_size={EXAMPLES}", "data.val_fraction=0.2")
STEP = (*DATA, "attack=pgd", "attack.steps=3", "data.batch_size=128", "trainer.max_epochs=1000000")
RUN_OF_A_SWEEP = ("evaluation=quick", "data.train_size=200", "data.test_size=60", "trainer.max_epochs=8", "model.width=4")
RUN_ON_DEVICES = (*DATA, "attack=pgd", "attack.steps=3", "data.batch_size=256", "model.width=32", "evaluation.checkpoints=[]")
WARM_UP = 2  # steps

Measure = Callable[[], float]


class Clock(pl.Callback):
    """Callback that measures the time of all steps of a fit except the warm-up."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        if trainer.global_step == WARM_UP:
            self.since = spent(pl_module.device)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds = spent(pl_module.device) - self.since


def training_step(steps: int, *overrides: str) -> Measure:
    """Return a function that measures milliseconds per training step, without composing and building."""
    config = composed(*STEP, *overrides)

    def measure() -> float:
        module, clock = build_module(config), Clock()
        trainer = trainer_of(config, module, clock, max_steps=WARM_UP + steps, limit_val_batches=0)
        trainer.fit(module, build_data(config))
        return 1e3 * clock.seconds / steps

    return measure


def bare_pass(passes: int, device: torch.device, *overrides: str) -> Measure:
    """Return a function that measures milliseconds of one forward pass and backward pass to the inputs."""
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
    """Return a function that measures seconds of `temper-train -m` with `count` serial runs and the report."""
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


def images_per_second(devices: int, epochs: int, accelerator: str) -> Measure:
    """Return a function that measures the training throughput of one run, without the start of its processes."""
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
    """Return all series, that of attack steps first, and the bare pass that an attack step is compared with."""
    accelerator, available = ("gpu", torch.cuda.device_count()) if device.type == "cuda" else ("cpu", cores())
    steps, rounds, few = (10, 5, 2) if quick else (30, 15, 5)
    own = (f"trainer={accelerator}", *overrides)

    def stepping(name: str, axis: str, key: str, values: Sequence[int], *more: str, passes: int = 0) -> Ladder:
        rungs = [Rung(value + passes, training_step(steps, *own, *more, f"{key}={value}")) for value in values]
        return Ladder(name, axis, "ms per step", rounds, rungs)

    series = [
        stepping("Attack steps k, passes k + 1", "passes", "attack.steps", (1, 2, 5, 10, 20), passes=1),
        stepping("Batch size", "examples", "data.batch_size", (32, 64, 128, 256, 512)),
        stepping("Width of the CNN", "channels", "model.width", (8, 16, 32, 64), "data.batch_size=512"),
    ]
    series[-1].straight = False
    runs = [Rung(count, sweep(count, device, f"trainer={accelerator}")) for count in (1, 2, 4)]
    series.append(Ladder("Runs of a sweep", "runs", "seconds", few, runs))
    if available > 1:
        counts = [2**power for power in range(available.bit_length())]
        trained = [Rung(count, images_per_second(count, 20, accelerator)) for count in counts]
        series.append(Ladder("Devices of a run", "devices", "images/s", few, trained))
    return series, Rung(1, bare_pass(4 * steps, device, *own))


def main() -> None:
    """Measure all series and print their tables and fits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of fewer steps")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="save a figure, such as scaling.png")
    parser.add_argument("overrides", nargs="*", help="overrides of the training steps")
    options = parser.parse_args()
    begin()
    device = torch.device(options.device)
    caption = machine(device)
    say(caption)
    series, bare = ladders(device, options.overrides, quick=options.quick)
    sweep(2, device)()  # warm-up: imports and caches
    for number in range(max(ladder.rounds for ladder in series)):
        for ladder in series:
            if number < ladder.rounds:
                ladder.climb(number)
        bare.found.append(bare.measure())
    for ladder in series:
        say(ladder.table())
        say(ladder.verdict())
    by_steps = series[0].line
    assert by_steps is not None
    step, ratio = by_steps.slope, by_steps.slope / bare.median
    say(f"an attack step takes {step:.3g} ms, {ratio:.2f} times a bare pass forward and backward ({bare.median:.3g} ms)")
    if options.plot:
        draw(series, options.plot, caption)


if __name__ == "__main__":
    main()
