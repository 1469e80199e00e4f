"""Which device a run has to itself, where several runs go side by side on one machine."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def device_of_its_own(accelerator: str) -> Iterator[str]:
    """`cpu`, or a GPU that no other run on this machine holds; the first one where all are held."""
    if accelerator not in ("gpu", "cuda"):
        yield "cpu"
        return
    # As Lightning's trainer is told to: the same evaluation, by whichever command, gives the same bytes where the GPU can.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    with free_slot(Path(tempfile.gettempdir()), f"temper-gpu-{os.getuid()}", max(1, torch.cuda.device_count())) as index:
        yield f"cuda:{index}"


@contextmanager
def free_slot(folder: Path, name: str, count: int) -> Iterator[int]:
    """Hold the first of `count` slots that nobody holds; a slot is given back when its holder ends, however it does."""
    for index in range(count):
        with (folder / f"{name}-{index}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield index
            return
    yield 0
