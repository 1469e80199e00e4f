"""Several processes train one run, a device each: which of them this one is, and what the first decides for all.

The first (rank 0) owns the run's folder: it alone decides whether to train and from which checkpoint, keeps the record, and
evaluates. The others take part in training. They are started by Lightning, as copies of the command, or by SLURM, all at once.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.plugins.environments import SLURMEnvironment

from temper.runs.atomic_files import atomic_write
from temper.runs.parent_watch import exit_with_parent

FIRST = "TEMPER_FIRST_RANK"  # its process, in the environment of those that it starts
PATIENCE = 600.0  # seconds until a rank no longer believes that the first one lives


class LaunchDecision(NamedTuple):
    """What the first rank decided: whether to train, and from which checkpoint."""

    train: bool
    checkpoint: str | None = None


def rank() -> int:
    """Of this process among those that train a run together, as Lightning or SLURM numbered them."""
    under_slurm = os.environ.get("SLURM_PROCID", "0") if SLURMEnvironment.detect() else "0"
    return int(os.environ.get("LOCAL_RANK", under_slurm))


def device_count(devices: Any) -> int:
    """How many devices `trainer.devices` asks for: 2, "2", [0, 3]; any number that is not said is several.

    Raises:
        ValueError: it is nothing of the kind.
    """
    if isinstance(devices, int) or (isinstance(devices, str) and devices.lstrip("-").isdecimal()):
        number = int(devices)
        return number if number > 0 else max(2, torch.cuda.device_count())
    if devices == "auto":
        return max(2, torch.cuda.device_count())
    return len(devices)


@contextmanager
def broadcast_decision(folder: Path, *, several: bool) -> Iterator[Callable[[LaunchDecision], None]]:
    """For the first rank: tell the others what is decided; at the end, that nothing is to be done, if nothing was decided."""
    told = False

    def tell(decision: LaunchDecision) -> None:
        nonlocal told
        told = True
        if several:
            os.environ[FIRST] = str(os.getpid())  # for those that Lightning starts
            with atomic_write(_file(folder)) as part:
                part.write_text(json.dumps(decision._asdict()))

    try:
        yield tell
    finally:
        if not told:
            tell(LaunchDecision(train=False))


def receive_decision(folder: Path) -> LaunchDecision:
    """For the other ranks: what the first decided, once it has.

    Raises:
        TimeoutError: it decided nothing.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            return LaunchDecision(**json.loads(_file(folder).read_text()))
        except FileNotFoundError:
            time.sleep(0.2)
    raise TimeoutError(f"{folder}: rank {rank()} waited {PATIENCE:g} s for the first, which decided nothing; did it die?")


def _file(folder: Path) -> Path:
    """Of its own for each launch: by the job and its restarts under SLURM, else by the first one's process."""
    if SLURMEnvironment.detect():
        launch = f"job-{os.environ['SLURM_JOB_ID']}-{os.environ.get('SLURM_RESTART_COUNT', 0)}"
    else:
        launch = f"process-{os.environ[FIRST]}"
    return folder / f".decision-{launch}.json"


def exit_with_leader() -> None:
    """A rank would wait for the first one for ever. SLURM ends its tasks itself."""
    if not SLURMEnvironment.detect():
        exit_with_parent(int(os.environ[FIRST]))


def destroy_process_group() -> None:
    """After training: what the first rank does now, it does alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
