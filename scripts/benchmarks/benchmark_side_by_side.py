"""Find the best number of small concurrent runs on one device.

    python scripts/benchmarks/benchmark_side_by_side.py [--device cuda] [--quick] [attack=trades model.width=32 …]

The script trains k = 1, 2, 4, … runs of one cell concurrently, each in its own process with one thread, as sweeps do. After a
warm-up, k processes start at the same time and train for a few epochs, with validation, without checkpoints and logs; this is
repeated for every k in random order. The script prints medians over rounds and the smallest k that reaches 95 % of the best
throughput. On one of several GPUs, the runs use that GPU's fraction of the CPU cores.
"""

import argparse
import multiprocessing as mp
import os
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from measuring import begin, composed, machine, now, trainer_of
from rich.table import Table

from temper.config.errors import explain
from temper.config.resolvers import cores
from temper.data.loading import build_data
from temper.runs.terminal import say
from temper.training.modules import build_module

ENOUGH = 0.95  # fraction of the best throughput
MOST = 16  # default maximal number of processes
CELL = ("attack=pgd", "trainer.max_epochs=1000000")
PATIENCE = 600  # seconds to wait for the start signal


class Window(NamedTuple):
    """Work of one process between two signals.

    Attributes:
        began: start, seconds of the machine's clock.
        ended: end, seconds of the machine's clock.
        steps: number of training steps.
        memory: memory in use on the whole GPU at the end, MiB; None on the CPU.
    """

    began: float
    ended: float
    steps: int
    memory: float | None


class Gate(pl.Callback):
    """Callback that sends every window of epochs to the parent and waits for all participants before the next one."""

    def __init__(self, parent: Connection, barriers: Mapping[int, Barrier], epochs: int) -> None:
        self.parent, self.barriers, self.epochs = parent, barriers, epochs
        self.began = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch % self.epochs:
            return
        if trainer.current_epoch:
            ended, steps = now(pl_module.device), self.epochs * int(trainer.num_training_batches)
            self.parent.send(Window(self.began, ended, steps, memory_in_use(pl_module.device)))
            self.barriers[self.parent.recv()].wait(PATIENCE)
        self.began = now(pl_module.device)


def memory_in_use(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) / 2**20


def train(parent: Connection, barriers: Mapping[int, Barrier], overrides: Sequence[str], epochs: int) -> None:
    """Train indefinitely in a worker process, controlled by a Gate."""
    begin()
    try:
        config = composed(*overrides)
        torch.set_num_threads(config.threads)
        module, data = build_module(config), build_data(config)
        parent.recv()  # the GPU is not used before this
        trainer_of(config, module, Gate(parent, barriers, epochs)).fit(module, data)
    except EOFError:
        return  # the parent has finished
    except Exception as error:  # any error of the cell, reported by the parent
        parent.send(explain(error).splitlines()[0])


class Crew:
    """Warmed-up worker processes, and the GPU memory that they use.

    Args:
        ladder: numbers of processes, ascending.
        overrides: overrides of the cell.
        epochs: epochs per window.

    Attributes:
        ladder: the numbers of processes that fit in memory.
        memory: memory in use by number of processes, MiB; None on the CPU.
    """

    def __init__(self, ladder: Sequence[int], overrides: Sequence[str], epochs: int) -> None:
        context = mp.get_context("spawn")  # CUDA does not support fork
        barriers = {k: context.Barrier(k) for k in ladder}
        self.connections: list[Connection] = []
        for _ in range(ladder[-1]):
            ours, theirs = context.Pipe()
            context.Process(target=train, args=(theirs, barriers, overrides, epochs), daemon=True).start()
            theirs.close()
            self.connections.append(ours)
        self.memory: dict[int, float | None] = {}
        self.ladder = list(ladder)
        for number, connection in enumerate(self.connections, start=1):
            connection.send("warm up")
            try:
                self.memory[number] = receive(connection).memory
            except ChildProcessError as error:
                self.ladder = [k for k in ladder if k < number]
                if not self.ladder:
                    raise
                say(f"{number} processes do not fit: {error}")
                break

    def measure(self, k: int) -> list[Window]:
        """Run one window with k concurrent processes."""
        for connection in self.connections[:k]:
            connection.send(k)
        return [receive(connection) for connection in self.connections[:k]]


def receive(connection: Connection) -> Window:
    """Receive the window of a worker process.

    Raises:
        ChildProcessError: the process failed.
    """
    try:
        message: Window | str = connection.recv()
    except EOFError:
        raise ChildProcessError("the worker process died") from None
    if isinstance(message, str):
        raise ChildProcessError(message)
    return message


@dataclass
class Rung:
    """Throughput of k processes in each round.

    Attributes:
        rates: total steps per second, from the first start to the last end.
        imbalance: time of the slowest process divided by that of the fastest.
    """

    rates: list[float] = field(default_factory=list)
    imbalance: list[float] = field(default_factory=list)

    def add(self, windows: Sequence[Window]) -> None:
        """Add the windows of one round."""
        took = [window.ended - window.began for window in windows]
        whole = max(window.ended for window in windows) - min(window.began for window in windows)
        self.rates.append(sum(window.steps for window in windows) / whole)
        self.imbalance.append(max(took) / min(took))

    @property
    def rate(self) -> float:
        """Median steps per second."""
        return statistics.median(self.rates)


def race(crew: Crew, rounds: int) -> dict[int, Rung]:
    """Measure every number of processes in each round."""
    rungs = {k: Rung() for k in crew.ladder}
    for number in range(rounds):
        for k in random.Random(number).sample(crew.ladder, len(crew.ladder)):  # no k always follows the same one
            rungs[k].add(crew.measure(k))
    return rungs


def recommended(rates: Mapping[int, float]) -> int:
    """Return the smallest number of processes that reaches 95 % of the best throughput."""
    return min(k for k, rate in rates.items() if rate >= ENOUGH * max(rates.values()))


def limit_cores(device: torch.device) -> int:
    """Restrict this process and its children to the cores per GPU of a sweep on all GPUs, and return their number."""
    if device.type == "cuda" and hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: max(1, len(allowed) // torch.cuda.device_count())])
    return cores()


def build_table(rungs: Mapping[int, Rung], memory: Mapping[int, float | None], title: str) -> Table:
    """Return a table with a row for each number of processes."""
    table = Table(title=title)
    for heading in ("k", "steps/s", "relative to k = 1", "slowest / fastest", "GPU memory, MiB"):
        table.add_column(heading, justify="right")
    for k, rung in rungs.items():
        ratio = statistics.median(ours / alone for ours, alone in zip(rung.rates, rungs[1].rates, strict=True))
        used = memory[k]
        table.add_row(
            str(k),
            f"{rung.rate:.1f}",
            f"{ratio:.2f}",
            f"{statistics.median(rung.imbalance):.2f}",
            "–" if used is None else f"{used:.0f}",
        )
    return table


def main() -> None:
    """Measure all numbers of processes and print a recommendation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--most", type=int, help=f"maximal number of processes (default: twice the cores, at most {MOST})")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of fewer epochs")
    parser.add_argument("overrides", nargs="*", help="overrides of the cell (default: the CNN on digits, attack=pgd)")
    options = parser.parse_args()
    begin()
    device = torch.device(options.device)
    available = limit_cores(device)
    most = options.most or min(MOST, 2 * available)
    ladder = [2**power for power in range(most.bit_length())]
    rounds, epochs = (3, 2) if options.quick else (9, 5)
    say(machine(device))
    overrides = ["trainer=gpu" if device.type == "cuda" else "trainer=cpu", *CELL, *options.overrides]
    try:
        crew = Crew(ladder, overrides, epochs)
        rungs = race(crew, rounds)
    except ChildProcessError as error:
        sys.exit(f"error: {error}")
    say(build_table(rungs, crew.memory, f"k concurrent runs, {rounds} rounds of {epochs} epochs"))
    best = recommended({k: rung.rate for k, rung in rungs.items()})
    how = f"trainer=gpu runs_per_gpu={best}" if device.type == "cuda" else f"hydra.launcher.n_jobs={best}"
    say(f"{how}: the fewest concurrent runs that reach {100 * ENOUGH:.0f} % of the best throughput")


if __name__ == "__main__":
    main()
