"""Where a long evaluation stands: what is finished is kept on disk, and a bar says how long the rest will take."""

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
WORTH_KEEPING = 1.0  # seconds: what takes less is quicker done again than read


class Ledger:
    """Pieces of an evaluation by name, each a few arrays.

    Everything that is drawn at random is keyed by the piece it is drawn for, so that an evaluation which goes on where it
    stopped ends in the same bytes as one that was never interrupted.

    Args:
        folder: where pieces are kept, until whoever owns it has the whole; None: nowhere.
        show: draw a bar, where there is a terminal.
    """

    def __init__(self, folder: Path | None = None, *, show: bool = False) -> None:
        self.folder = folder
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Progress(
            *columns,
            TimeElapsedColumn(),
            TextColumn("left"),
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

    def follow(self, items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
        """The items, one after another, on the bar."""
        task = self.bar.add_task(what, total=total)
        for item in items:
            yield item
            self.bar.advance(task)
        self.bar.update(task, visible=False)

    def piece(self, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What `compute` returns, on the CPU; read back where an earlier try has finished this piece."""
        path = None if self.folder is None else self.folder / f"{name.replace('/', '_')}.npz"
        if path is not None and path.exists():
            with np.load(path) as arrays:
                return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        since = time.perf_counter()
        values = {key: value.detach().cpu() for key, value in compute().items()}
        if path is not None and time.perf_counter() - since > WORTH_KEEPING:
            write_arrays(path, {key: value.numpy() for key, value in values.items()})
        return values


def fingerprint(net: nn.Module, *others: str) -> str:
    """Digest of a network's weights and of what else a piece depends on: pieces of other weights are never taken for these."""
    digest = hashlib.sha256("|".join(others).encode())
    for name, value in sorted(net.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(name.encode() + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
