"""Assignment of GPUs to runs that share a machine."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import torch
from filelock import FileLock, Timeout


@contextmanager
def exclusive_device(accelerator: str) -> Iterator[str]:
    """Yield the device for a run: "cpu" or "cuda:<index>".

    Concurrent runs are spread evenly: each GPU gets a first run before any GPU gets a second one.

    Args:
        accelerator: `trainer.accelerator` of the config.
    """
    if accelerator not in ("gpu", "cuda") and not (accelerator == "auto" and torch.cuda.is_available()):
        yield "cpu"
        return
    # The settings of Lightning's trainer: an evaluation outside of it then gives the same bytes where the GPU allows it.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    # Jobs on one node may see different GPUs, so each set of visible GPUs has its own slots.
    visible = re.sub(r"[^\w-]+", "_", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    with free_slot(Path(tempfile.gettempdir()), f"temper-gpu-{os.getuid()}-{visible}") as slot:
        try:
            yield f"cuda:{slot % max(1, torch.cuda.device_count())}"
        finally:
            torch.cuda.empty_cache()  # the next run of this process may use another GPU


@contextmanager
def free_slot(folder: Path, name: str) -> Iterator[int]:
    """Hold the lowest free slot and yield its number, from 0.

    The kernel releases the lock when its process ends, also when it is killed.

    Args:
        folder: folder of the lock files.
        name: prefix of the lock files; slots of different names are independent.
    """
    for slot in count():
        try:
            lock = FileLock(folder / f"{name}-{slot}.lock").acquire(blocking=False)
        except Timeout:
            continue
        with lock:
            yield slot
        return
