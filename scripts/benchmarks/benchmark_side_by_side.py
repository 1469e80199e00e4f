"""How many small runs to put side by side on one device.

    python scripts/benchmarks/benchmark_side_by_side.py [--device cuda] [--quick] [attack=trades model.width=32 …]

Trains k = 1, 2, 4, … runs of one cell at once, each in a process of its own with one thread, as sweeps do. All are warmed up
first; then, round after round and in an order drawn anew, k of them start at one signal and train for a few epochs, validation
included, checkpoints and logs left out. Printed are medians over rounds, and the smallest k that reaches 95 % of the best
throughput. On one GPU of several the runs have that GPU's share of the cores; without a GPU they have the cores alone.
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

ENOUGH = 0.95  # of the most that any k gets done
MOST = 16  # processes, unless asked for
CELL = ("attack=pgd", "trainer.max_epochs=-1")
PATIENCE = 600  # seconds; a start signal that never comes is an error


class Window(NamedTuple):
    """What one process did between two signals: when, in seconds of the machine's clock, and how many steps.

    Attributes:
        memory: in use on the whole GPU when it was done, MiB; None on the CPU.
    """

    began: float
    ended: float
    steps: int
    memory: float | None


class Gate(pl.Callback):
    """Tells the parent of every window of epochs, and waits before the next for all who take part in it."""

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
    """One process: a run that never ends, held at its gate."""
    begin()
    try:
        config = composed(*overrides)
        torch.set_num_threads(config.threads)
        module, data = build_module(config), build_data(config)
        parent.recv()  # nothing is on the GPU before
        trainer_of(config, module, Gate(parent, barriers, epochs)).fit(module, data)
    except EOFError:
        return  # the parent has all that it wants
    except Exception as error:  # whatever a cell raises: it is told by the parent
        parent.send(explain(error).splitlines()[0])


class Crew:
    """Processes that train one cell each, warmed up, and how much memory is in use when so many of them are.

    Args:
        ladder: numbers of processes, ascending.
        overrides: of the cell.
        epochs: of one window.

    Attributes:
        ladder: those for which there is memory.
        memory: MiB by number of processes; None on the CPU.
    """

    def __init__(self, ladder: Sequence[int], overrides: Sequence[str], epochs: int) -> None:
        context = mp.get_context("spawn")  # CUDA does not survive a fork
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
                self.memory[number] = received(connection).memory
            except ChildProcessError as error:
                self.ladder = [k for k in ladder if k < number]
                if not self.ladder:
                    raise
                say(f"{number} processes are too many: {error}")
                break

    def together(self, k: int) -> list[Window]:
        """One window of k processes at once."""
        for connection in self.connections[:k]:
            connection.send(k)
        return [received(connection) for connection in self.connections[:k]]


def received(connection: Connection) -> Window:
    """What a process has to tell of its window.

    Raises:
        ChildProcessError: it failed.
    """
    try:
        told: Window | str = connection.recv()
    except EOFError:
        raise ChildProcessError("its process died") from None
    if isinstance(told, str):
        raise ChildProcessError(told)
    return told


@dataclass
class Rung:
    """What k processes got done, in each round.

    Attributes:
        rates: steps a second of all together, from the first start to the last end.
        unevenness: seconds of the slowest over those of the fastest.
    """

    rates: list[float] = field(default_factory=list)
    unevenness: list[float] = field(default_factory=list)

    def note(self, windows: Sequence[Window]) -> None:
        took = [window.ended - window.began for window in windows]
        whole = max(window.ended for window in windows) - min(window.began for window in windows)
        self.rates.append(sum(window.steps for window in windows) / whole)
        self.unevenness.append(max(took) / min(took))

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def race(crew: Crew, rounds: int) -> dict[int, Rung]:
    rungs = {k: Rung() for k in crew.ladder}
    for number in range(rounds):
        for k in random.Random(number).sample(crew.ladder, len(crew.ladder)):  # nobody always runs behind the same one
            rungs[k].note(crew.together(k))
    return rungs


def recommended(rates: Mapping[int, float]) -> int:
    """The smallest number of processes that gets nearly as much done as any other does."""
    return min(k for k, rate in rates.items() if rate >= ENOUGH * max(rates.values()))


def share_of_cores(device: torch.device) -> int:
    """Keep this process, and those that it starts, to the cores that a sweep on all GPUs would leave to the runs on one."""
    if device.type == "cuda" and hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: max(1, len(allowed) // torch.cuda.device_count())])
    return cores()


def table_of(rungs: Mapping[int, Rung], memory: Mapping[int, float | None], title: str) -> Table:
    table = Table(title=title)
    for heading in ("k", "steps a second", "times k = 1", "slowest / fastest", "GPU memory, MiB"):
        table.add_column(heading, justify="right")
    for k, rung in rungs.items():
        ratio = statistics.median(ours / alone for ours, alone in zip(rung.rates, rungs[1].rates, strict=True))
        used = memory[k]
        table.add_row(
            str(k),
            f"{rung.rate:.1f}",
            f"{ratio:.2f}",
            f"{statistics.median(rung.unevenness):.2f}",
            "–" if used is None else f"{used:.0f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--most", type=int, help=f"processes at once (default: twice the cores, at most {MOST})")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of fewer epochs")
    parser.add_argument("overrides", nargs="*", help="of the cell (default: the CNN on digits, attack=pgd)")
    options = parser.parse_args()
    begin()
    device = torch.device(options.device)
    share = share_of_cores(device)
    most = options.most or min(MOST, 2 * share)
    ladder = [2**power for power in range(most.bit_length())]
    rounds, epochs = (3, 2) if options.quick else (9, 5)
    say(machine(device))
    overrides = ["trainer=gpu" if device.type == "cuda" else "trainer=cpu", *CELL, *options.overrides]
    try:
        crew = Crew(ladder, overrides, epochs)
        rungs = race(crew, rounds)
    except ChildProcessError as error:
        sys.exit(f"error: {error}")
    say(table_of(rungs, crew.memory, f"k runs side by side, {rounds} rounds of {epochs} epochs"))
    best = recommended({k: rung.rate for k, rung in rungs.items()})
    how = f"trainer=gpu runs_per_gpu={best}" if device.type == "cuda" else f"hydra.launcher.n_jobs={best}"
    say(f"{how}: the fewest that reach {100 * ENOUGH:.0f} % of the best throughput")


if __name__ == "__main__":
    main()
