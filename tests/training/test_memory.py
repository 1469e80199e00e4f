"""Tests of memory: training leaks nothing from step 10 to step 1000, and the data are in memory once.

Each measurement runs in a new process, since memory of other tests may be freed at any time.
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

# Ten steps per epoch: buffers of an epoch are freed at its end, so memory is compared there.
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
NOISE = 2.0  # MiB by which a process without leaks grows
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is read from /proc")


class MemoryUse(NamedTuple):
    """Memory in use: number of live tensors in Python, and MiB of the process or of the GPU that it trains on."""

    tensors: int
    memory: float


class MemoryRecorder(pl.Callback):
    """Record memory use after few and after many steps."""

    def __init__(self) -> None:
        self.usage: dict[int, MemoryUse] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step in (FEW, MANY):
            gc.collect()
            tensors = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
            memory = torch.cuda.memory_allocated() / 2**20 if pl_module.device.type == "cuda" else resident()
            self.usage[trainer.global_step] = MemoryUse(tensors, memory)


def resident() -> float:
    """Return the anonymous resident memory of this process in MiB, after freed memory is returned to the system."""
    ctypes.CDLL(None).malloc_trim(0)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) / 2**10


def in_new_process(measure: Callable[..., Measured], *args: Any, **kwargs: Any) -> Measured:
    """Return a function's result from a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *args, **kwargs).result()


def growth(*overrides: str, prepare: Callable[[nn.Module], object] = nn.Module.train) -> MemoryUse:
    """Return the growth of memory use from few to many training steps.

    Args:
        overrides: overrides of the config.
        prepare: called with the network before training.
    """
    config = composed(f"trainer.max_epochs={MANY // 10 + 1}", *SMALL, *overrides)
    module, recorder = build_module(config), MemoryRecorder()
    prepare(module.net)
    trainer_of(config, module, recorder).fit(module, build_data(config))
    before, after = recorder.usage[FEW], recorder.usage[MANY]
    return MemoryUse(after.tensors - before.tensors, after.memory - before.memory)


@LINUX
@pytest.mark.parametrize("cell", CELLS)
def test_memory_is_constant_over_1000_steps(cell: str) -> None:
    difference = in_new_process(growth, *CELLS[cell])
    assert difference.tensors == 0 and difference.memory < NOISE


@CUDA
@pytest.mark.gpu
@pytest.mark.parametrize("cell", CELLS)
def test_memory_is_constant_over_1000_steps_on_a_gpu(cell: str) -> None:
    assert in_new_process(growth, "trainer=gpu", *CELLS[cell]) == (0, 0)


def leak_every_graph(net: nn.Module) -> None:
    kept: list[Tensor] = []
    net.register_forward_hook(lambda module, inputs, logits: kept.append(logits) if logits.grad_fn else None)


def leak_a_chain_of_graphs(net: nn.Module) -> None:
    total: list[Any] = [0.0]

    def add(module: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> None:
        if logits.grad_fn:
            total[0] = total[0] + logits.mean()

    net.register_forward_hook(add)


@LINUX
def test_leaked_graphs_are_detected() -> None:
    assert in_new_process(growth, *CELLS["pgd"], prepare=leak_every_graph).tensors > MANY / 2
    assert in_new_process(growth, *CELLS["pgd"], prepare=leak_a_chain_of_graphs).memory > 2 * NOISE


class Images:
    """Source of random images, 64 MiB of training data."""

    def load(self) -> Arrays:
        x, y = (torch.randint(256, (2**14, 1, 64, 64), dtype=torch.uint8), torch.arange(2**14) % 10)
        return Arrays(x, y, x[:100].clone(), y[:100])


def growth_by_data() -> float:
    """Return the memory in MiB of a data module whose loaders were iterated twice."""
    gc.collect()
    before = resident()
    data = DataModule(source=Images(), shape=(1, 64, 64), classes=10, batch_size=64)
    data.setup()
    for seed in (0, 1):
        for name in ("train", "val"):
            for batch in data.for_run(seed=seed, repeats=1).loader(name, batch_size=64, seed=seed):
                assert batch.x.dtype == torch.float32
    gc.collect()
    return resident() - before


@LINUX
def test_data_are_in_memory_once() -> None:
    """Allow no second copy for reading, loaders, epochs or runs."""
    assert in_new_process(growth_by_data) < 1.25 * 64
