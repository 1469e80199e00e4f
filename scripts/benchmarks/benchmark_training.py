"""Measure the throughput of PGD-10 training (PreActResNet-18, CIFAR-10) per optimization, compared with a plain fp32 loop.

    python scripts/benchmarks/benchmark_training.py [--batch-size 512] [paths.data=FOLDER model.width=96 …]
    python scripts/benchmarks/benchmark_training.py --device cpu    # the same code on a narrow network, in two minutes

Temper trains through Hydra and Lightning as `temper-train` does; `plain_loop.py` is the loop of the papers' public code. All
variants train the same network on the same images in one process. Rounds rotate the order of the variants, and each begins with
a warm-up that is reported separately. The first warm-up includes the compilation; its kernels are cached on disk for later
rounds and calls. The script prints medians over rounds of the throughput and of the ratio.

There is no validation and no smaller last batch, so that kernels are compiled once.

If CIFAR-10 is missing, random images of its shape replace it, since the speed does not depend on the pixels.
"""

import argparse
import gc
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytorch_lightning as pl
import torch
from measuring import begin, composed, machine, now, outcome, trainer_of
from plain_loop import STEPS, Pictures, train
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from temper.config.errors import explain
from temper.config.run_config import RunConfig
from temper.data import Arrays, DataError, TorchVision
from temper.data.loading import build_data
from temper.models import PreActResNet18
from temper.runs.provenance import provenance
from temper.runs.terminal import say
from temper.training.callbacks import PeakMemory
from temper.training.modules import build_module

# Each variant adds its overrides to those of the variants above.
RUNGS = {
    "fp32, eager": ["trainer.precision=32-true", "model.compile=false", "model.channels_last=false"],
    "+ channels_last": ["model.channels_last=true"],
    "+ bf16-mixed": ["trainer.precision=bf16-mixed"],
    "+ compile": ["model.compile=true"],
    "+ CUDA graphs": ["model.compile=cuda_graphs"],
    "+ any kernel": ["trainer.deterministic=false", "+trainer.benchmark=true"],
}
ON_A_GPU = ("+ CUDA graphs", "+ any kernel")
PLAIN = "plain loop"
WARM_UP = 5
GOAL_DEVICE, GOAL_RATE, GOAL_RATIO = "H200", 12_000, 4


class InMemory:
    """Source of arrays in memory, shared by all variants and rounds."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def load(self) -> Arrays:
        return self.arrays


@dataclass
class Bench:
    """Settings shared by all variants.

    Attributes:
        device: where to train.
        batch_size: examples per step.
        steps: timed steps per round.
        workers: worker processes of the plain loop.
        arrays: the data set.
        config: the config that gives shape, normalization and width of the network.
    """

    device: torch.device
    batch_size: int
    steps: int
    workers: int
    arrays: Arrays
    config: RunConfig

    def now(self) -> float:
        """Return the time in seconds after the device has finished its work."""
        return now(self.device)


@dataclass
class Side:
    """One variant of the training loop, and its measurements in each round.

    Attributes:
        steps: function that trains from scratch and yields the time after the warm-up and at the end.
        rates: images per second.
        warm_ups: seconds of the warm-up.
        memory: peak memory, MiB.
    """

    steps: Callable[[], Iterator[float]]
    rates: list[float] = field(default_factory=list)
    warm_ups: list[float] = field(default_factory=list)
    memory: float = 0.0

    def run(self, bench: Bench) -> None:
        """Measure one round."""
        torch.compiler.reset()  # drop the compiled code of other variants
        gc.collect()
        memory, began = PeakMemory(bench.device), bench.now()
        since, until = self.steps()
        self.warm_ups.append(since - began)
        self.rates.append(bench.batch_size * bench.steps / (until - since))
        self.memory = max(self.memory, memory.mebibytes() or math.nan)


class Clock(pl.Callback):
    """Callback that records the time after the warm-up and at the end."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.times = bench, list[float]()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        if trainer.global_step in (WARM_UP, WARM_UP + self.bench.steps):
            self.times.append(self.bench.now())


def ours(bench: Bench, config: RunConfig) -> Iterator[float]:
    """Train with temper: callbacks, penalties, keyed randomness, epoch logging."""
    module, data, clock = build_module(config), build_data(config), Clock(bench)
    data.source = InMemory(bench.arrays)
    trainer_of(config, module, clock, max_steps=WARM_UP + bench.steps, limit_val_batches=0).fit(module, data)
    return iter(clock.times)


def plain(bench: Bench) -> Iterator[float]:
    """Train the same number of steps with the plain loop."""
    net = network(bench.config).to(bench.device)
    data = Pictures(bench.arrays.x_train, bench.arrays.y_train)
    loop = train(net, data, bench.device, batch_size=bench.batch_size, workers=bench.workers)
    for steps in (WARM_UP, bench.steps):
        for _ in range(steps):
            next(loop)
        yield bench.now()


def network(config: RunConfig) -> PreActResNet18:
    """Return the network of the plain loop."""
    shape, mean, std = (list(config.data.get(key)) for key in ("shape", "mean", "std"))
    return PreActResNet18(shape=shape, classes=config.data.classes, mean=mean, std=std, width=config.model.width)


def flop_per_image(config: RunConfig) -> float:
    """Return the FLOP of a training step per image: the passes of the attack to the input, then one pass to the weights."""
    net, x = network(config), torch.rand(2, *config.data.shape)
    z = x.clone().requires_grad_(True).clone()  # the counter misses gradients with respect to a leaf
    with FlopCounterMode(display=False) as attack:
        torch.autograd.grad(net(z).sum(), z)
    with FlopCounterMode(display=False) as update:
        net(x).sum().backward()
    return (STEPS * attack.get_total_flops() + update.get_total_flops()) / len(x)


def flop_per_second(bench: Bench) -> float:
    """Return the FLOP/s of a product of two large bf16 matrices, an upper limit for this device."""
    size = 8192 if bench.device.type == "cuda" else 1024
    matrix = torch.randn(size, size, device=bench.device, dtype=torch.bfloat16)
    times = []
    for _ in range(20):
        since = bench.now()
        torch.mm(matrix, matrix)
        times.append(bench.now() - since)
    return float(2 * size**3 / min(times))


def sides(bench: Bench, common: Sequence[str]) -> dict[str, Side]:
    """Return the plain loop and all variants for this device."""
    variants, overrides = {PLAIN: Side(partial(plain, bench))}, list(common)
    for name, more in RUNGS.items():
        if name not in ON_A_GPU or bench.device.type == "cuda":
            overrides += more
            variants[name] = Side(partial(ours, bench, composed(*overrides)))
    return variants


def race(bench: Bench, variants: dict[str, Side], rounds: int) -> dict[str, str]:
    """Measure all variants in each round; skip a variant that fails, and return the failed ones with their errors."""
    order, failed = list(variants), dict[str, str]()
    for _ in range(rounds):
        for name in order:
            if name not in failed:
                try:
                    variants[name].run(bench)
                except Exception as error:  # any error of the compiler or device; the others still run
                    failed[name] = explain(error).splitlines()[0]
        order = order[1:] + order[:1]  # no variant always follows the same one
    return failed


def times(side: Side, other: Side) -> float:
    """Return the median ratio of the throughputs of two variants."""
    return statistics.median(a / b for a, b in zip(side.rates, other.rates, strict=True))


def build_table(variants: dict[str, Side], title: str, *, flop: float, limit: float) -> Table:
    """Return a table with a row for each variant."""
    table = Table(title=title)
    table.add_column("")
    headings = ("images/s", "interquartile range", "x plain", "TFLOP/s", "of the limit", "peak MiB", "first warm-up s", "later")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, side in variants.items():
        low, rate, high = statistics.quantiles(side.rates, method="inclusive")
        table.add_row(
            name,
            f"{rate:,.0f}",
            f"{low:,.0f} – {high:,.0f}",
            f"{times(side, variants[PLAIN]):.2f}",
            f"{rate * flop / 1e12:.3g}",
            f"{100 * rate * flop / limit:.1f} %",
            f"{side.memory:,.0f}",
            f"{side.warm_ups[0]:.1f}",
            f"{statistics.median(side.warm_ups[1:]):.1f}",
        )
    return table


def judge(variants: dict[str, Side], device: str) -> Iterator[str]:
    """Yield lines that say whether the fastest variant meets the goals."""
    fastest = max((name for name in variants if name != PLAIN), key=lambda name: statistics.median(variants[name].rates))
    rate, ratio = statistics.median(variants[fastest].rates), times(variants[fastest], variants[PLAIN])
    yield f"fastest: {fastest}"
    reached = outcome(rate >= GOAL_RATE) if GOAL_DEVICE in device else f"not applicable to {device}"
    yield f"{GOAL_RATE:,} images/s on an {GOAL_DEVICE}: {rate:,.0f}: {reached}"
    yield f"{GOAL_RATIO} times the plain loop: {ratio:.2f}: {outcome(ratio >= GOAL_RATIO)}"


def images(config: RunConfig, *, synthetic: bool) -> Arrays:
    """Return CIFAR-10, or random images of its shape if it is missing."""
    if not synthetic:
        try:
            return TorchVision(name="CIFAR10", root=config.paths.data, download=False).load()
        except DataError:
            say(f"paths.data={config.paths.data}: CIFAR-10 not found, using random images. Set paths.data=FOLDER.")
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (60_000, *config.data.shape), dtype=torch.uint8, generator=generator)
    y = torch.arange(60_000) % config.data.classes
    return Arrays(x[:50_000], y[:50_000], x[50_000:], y[50_000:])


def main() -> None:
    """Measure all variants and print a table and the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, help="examples per step (default: 512; on a CPU 16)")
    parser.add_argument("--steps", type=int, help="timed steps per round (default: 50; on a CPU 4)")
    parser.add_argument("--rounds", type=int, help="number of rounds, at least 2 (default: 5; on a CPU 3)")
    parser.add_argument("--workers", type=int, default=4, help="worker processes of the plain loop's DataLoader (default: 4)")
    parser.add_argument("--synthetic", action="store_true", help="random images instead of CIFAR-10")
    parser.add_argument("overrides", nargs="*", help="overrides of temper's configs")
    arguments = parser.parse_args()
    begin()
    on_gpu = arguments.device == "cuda"
    batch_size, steps, rounds = (
        given or (usual if on_gpu else small)
        for given, usual, small in (
            (arguments.batch_size, 512, 16),
            (arguments.steps, 50, 4),
            (arguments.rounds, 5, 3),
        )
    )
    size = 44_000 // batch_size * batch_size
    common = [
        f"trainer={'gpu' if on_gpu else 'cpu'}",
        "data=cifar10",
        "model=preact_resnet18",
        f"model.width={64 if on_gpu else 8}",
        "attack=pgd",
        f"attack.steps={STEPS}",
        "attack.step_size=2/255",
        "penalty=[crop_flip,weight_decay]",
        f"data.batch_size={batch_size}",
        f"data.train_size={size}",
        f"trainer.max_epochs={math.ceil((WARM_UP + steps) * batch_size / size)}",
        *arguments.overrides,
    ]
    config = composed(*common)
    bench = Bench(
        device=torch.device(arguments.device),
        batch_size=batch_size,
        steps=steps,
        workers=arguments.workers,
        arrays=images(config, synthetic=arguments.synthetic),
        config=config,
    )
    hardware = provenance()["hardware"]
    device = hardware["gpu"] if on_gpu else hardware["cpu"]
    flop, limit = flop_per_image(config), flop_per_second(bench)
    say(
        f"{machine(bench.device)}; {rounds} rounds of {steps} steps of {batch_size}\n"
        f"{flop / 1e9:.3g} GFLOP per image; a product of large bf16 matrices reaches {limit / 1e12:.3g} TFLOP/s: "
        f"the limit is {limit / flop:,.0f} images/s"
    )
    variants = sides(bench, common)
    failed = race(bench, variants, rounds)
    measured = {name: side for name, side in variants.items() if name not in failed}
    say(build_table(measured, f"PGD-{STEPS} training of a PreActResNet-18", flop=flop, limit=limit))
    for name, error in failed.items():
        say(f"not measured: {name}: {error}")
    for line in judge(measured, device):
        say(line)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
