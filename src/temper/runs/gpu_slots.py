"""Which device a run is given, where several runs go side by side on one machine."""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import torch


@contextmanager
def exclusive_device(accelerator: str) -> Iterator[str]:
    """`cpu`, or a GPU: runs on this machine get one each, then a second one on each, and so on."""
    if accelerator not in ("gpu", "cuda") and not (accelerator == "auto" and torch.cuda.is_available()):
        yield "cpu"
        return
    # As Lightning's trainer is told to: the same evaluation, by whichever command, gives the same bytes where the GPU can.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    # Jobs of one node may each see GPUs of their own.
    seen = re.sub(r"[^\w-]+", "_", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    with free_slot(Path(tempfile.gettempdir()), f"temper-gpu-{os.getuid()}-{seen}") as slot:
        try:
            yield f"cuda:{slot % max(1, torch.cuda.device_count())}"
        finally:
            torch.cuda.empty_cache()  # the next run of this process may be given another GPU, and this one to others


@contextmanager
def free_slot(folder: Path, name: str) -> Iterator[int]:
    """Hold the first slot, counted from 0, that nobody holds; it is given back when its holder ends, however it does."""
    for slot in count():
        with (folder / f"{name}-{slot}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield slot
            return
