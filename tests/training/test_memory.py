"""Training holds on to nothing: after a thousand steps it takes the memory that it took after ten. The data lie in it once.

Each is measured in a process of its own: what other tests left behind is given back whenever it pleases.
"""

import ctypes
import gc
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
import pytorch_lightning as pl
import torch
from measuring import trainer_of
from torch import Tensor, nn

from temper.data import Arrays, DataModule
from temper.data.loading import build_data
from temper.training.modules import build_module
from tests.conftest import composed

pytestmark = pytest.mark.slow

# Ten steps an epoch: what is kept of them is given back at its end, so that is where memory is compared.
FEW, MANY = 10, 1000
SMALL = ("data.train_size=200", "data.batch_size=20", "model.width=4", "model.hidden=16", "validation.steps=1")
CELLS = {
    "pgd": ("attack=pgd", "attack.steps=2"),
    "pgd with l2 and dropout": ("attack=pgd", "attack.steps=2", "penalty=[l2,dropout]"),
    "free": ("attack=free", "attack.replays=2", "data.batch_size=40"),
    "evolving": ("attack=evolving", "attack.attacks.pgd.steps=2", "attack.attacks.margin.steps=2"),
    "averaged weights": ("penalty=ema",),
}
Measured = TypeVar("Measured")
NOISE = 2.0  # MiB by which a process grows that holds on to nothing
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is read from /proc")


class Held(NamedTuple):
    """What is held at one moment: tensors that Python knows, and MiB of the process or, where it trains on one, the GPU."""

    tensors: int
    memory: float


class Watch(pl.Callback):
    """Notes what is held after few steps and after many."""

    def __init__(self) -> None:
        self.held: dict[int, Held] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step in (FEW, MANY):
            gc.collect()
            tensors = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
            memory = torch.cuda.memory_allocated() / 2**20 if pl_module.device.type == "cuda" else resident()
            self.held[trainer.global_step] = Held(tensors, memory)


def resident() -> float:
    """MiB of this process's own in memory, once what was freed is given back to the system: pages of files come and go."""
    ctypes.CDLL(None).malloc_trim(0)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) / 2**10


def alone(measure: Callable[..., Measured], *args: Any, **kwargs: Any) -> Measured:
    """What a function measures in a process that has done nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *args, **kwargs).result()


def growth(*overrides: str, prepare: Callable[[nn.Module], object] = nn.Module.train) -> Held:
    """What training holds after many steps beyond what it holds after few.

    Args:
        prepare: is given the network before.
    """
    config = composed(f"trainer.max_epochs={MANY // 10 + 1}", *SMALL, *overrides)
    module, watch = build_module(config), Watch()
    prepare(module.net)
    trainer_of(config, module, watch).fit(module, build_data(config))
    before, after = watch.held[FEW], watch.held[MANY]
    return Held(after.tensors - before.tensors, after.memory - before.memory)


@LINUX
@pytest.mark.parametrize("cell", CELLS)
def test_a_thousand_steps_take_the_memory_of_ten(cell: str) -> None:
    grown = alone(growth, *CELLS[cell])
    assert grown.tensors == 0 and grown.memory < NOISE


@CUDA
@pytest.mark.gpu
@pytest.mark.parametrize("cell", CELLS)
def test_a_thousand_steps_take_the_memory_of_ten_on_a_gpu(cell: str) -> None:
    assert alone(growth, "trainer=gpu", *CELLS[cell]) == (0, 0)


def hold_every_graph(net: nn.Module) -> None:
    kept: list[Tensor] = []
    net.register_forward_hook(lambda module, inputs, logits: kept.append(logits) if logits.grad_fn else None)


def hold_a_chain_of_graphs(net: nn.Module) -> None:
    total: list[Any] = [0.0]

    def add(module: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> None:
        if logits.grad_fn:
            total[0] = total[0] + logits.mean()

    net.register_forward_hook(add)


@LINUX
def test_graphs_that_are_held_show() -> None:
    assert alone(growth, *CELLS["pgd"], prepare=hold_every_graph).tensors > MANY / 2
    assert alone(growth, *CELLS["pgd"], prepare=hold_a_chain_of_graphs).memory > 2 * NOISE


class Images:
    """A source of random images, 64 MiB of them to train on."""

    def load(self) -> Arrays:
        x, y = (torch.randint(256, (2**14, 1, 64, 64), dtype=torch.uint8), torch.arange(2**14) % 10)
        return Arrays(x, y, x[:100].clone(), y[:100])


def growth_by_data() -> float:
    """MiB that a data module takes whose loaders were run through, twice."""
    gc.collect()
    before = resident()
    data = DataModule(source=Images(), shape=(1, 64, 64), classes=10, batch_size=64)
    data.setup()
    for seed in (0, 1):
        for name in ("train", "val"):
            for batch in data.ordered(seed=seed, repeats=1).loader(name, batch_size=64, seed=seed):
                assert batch.x.dtype == torch.float32
    gc.collect()
    return resident() - before


@LINUX
def test_the_data_lie_in_memory_once() -> None:
    """Not beside what was read, nor again for each loader, epoch or run."""
    assert alone(growth_by_data) < 1.25 * 64
