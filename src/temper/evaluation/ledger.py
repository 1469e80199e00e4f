"""Partial results and progress bar of a long evaluation; an interrupted one is resumed."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from temper.runs.atomic_files import write_arrays
from temper.runs.terminal import console

Item = TypeVar("Item")
MIN_SECONDS_TO_STORE = 1.0  # what takes less is faster to recompute than to read


class Ledger:
    """Partial results of an evaluation, one file of arrays per batch and attack.

    All randomness is keyed by the partial result that it belongs to, so an evaluation that is resumed gives the same bytes as
    one that was never interrupted.

    Args:
        folder: where partial results are stored until the evaluation is complete; None stores nothing.
        show: draw a progress bar if standard output is a terminal.
    """

    def __init__(self, folder: Path | None = None, *, show: bool = False) -> None:
        self.folder = folder
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Progress(
            *columns,
            TimeElapsedColumn(),
            TextColumn("remaining"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (show and console.is_terminal),
        )

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.bar.stop()

    def track(self, items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
        """Yield the items and advance a task on the progress bar.

        Args:
            items: to iterate over.
            total: number of items.
            description: label of the task.
        """
        task = self.bar.add_task(description, total=total)
        for item in items:
            yield item
            self.bar.advance(task)
        self.bar.update(task, visible=False)

    def load_or_compute(self, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return a partial result on the CPU, read from disk if an earlier attempt stored it.

        Args:
            name: of the partial result, unique within the evaluation.
            compute: called if nothing is stored under this name.
        """
        path = None if self.folder is None else self.folder / f"{name.replace('/', '_')}.npz"
        if path is not None and path.exists():
            with np.load(path) as arrays:
                return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        start = time.perf_counter()
        values = {key: value.detach().cpu() for key, value in compute().items()}
        if path is not None and time.perf_counter() - start > MIN_SECONDS_TO_STORE:
            write_arrays(path, {key: value.numpy() for key, value in values.items()})
        return values


def fingerprint(net: nn.Module, *others: str) -> str:
    """Return a digest of a network's weights, which identifies its partial results.

    Args:
        net: the network.
        *others: anything else that the results depend on.
    """
    digest = hashlib.sha256("|".join(others).encode())
    for name, value in sorted(net.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(name.encode() + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
