"""Distributed training of one run: ranks, and the launch decision that rank 0 makes for all.

Rank 0 (the leader) holds the lock of the run's folder: it alone decides whether to train and from which checkpoint, writes the
record, and evaluates. The other ranks only train. They are started by Lightning, as copies of the command, or all by SLURM.
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

LEADER_PID = "TEMPER_FIRST_RANK"  # environment variable: process id of rank 0, for the ranks it starts
LAUNCH_TIMEOUT = 600.0  # seconds that a rank waits for the decision of rank 0


class LaunchDecision(NamedTuple):
    """Decision of rank 0 for all ranks.

    Attributes:
        train: True if there is anything to train.
        checkpoint: checkpoint from which training starts, None for none.
    """

    train: bool
    checkpoint: str | None = None


def rank() -> int:
    """Return the rank of this process, as assigned by Lightning or SLURM."""
    under_slurm = os.environ.get("SLURM_PROCID", "0") if SLURMEnvironment.detect() else "0"
    return int(os.environ.get("LOCAL_RANK", under_slurm))


def device_count(devices: Any) -> int:
    """Return the number of devices that `trainer.devices` requests; an open number ("auto", -1) counts as at least 2.

    Args:
        devices: a number (2 or "2"), device indices ([0, 3]), -1 or "auto".
    """
    if isinstance(devices, int) or (isinstance(devices, str) and devices.lstrip("-").isdecimal()):
        number = int(devices)
        return number if number > 0 else max(2, torch.cuda.device_count())
    if devices == "auto":
        return max(2, torch.cuda.device_count())
    return len(devices)


@contextmanager
def broadcast_decision(folder: Path, *, several: bool) -> Iterator[Callable[[LaunchDecision], None]]:
    """Yield the function by which rank 0 announces its decision to the other ranks.

    If the block ends without a decision, rank 0 announces that there is nothing to train.

    Args:
        folder: the run's folder.
        several: True if there are other ranks.
    """
    announced = False

    def announce(decision: LaunchDecision) -> None:
        nonlocal announced
        announced = True
        if several:
            os.environ[LEADER_PID] = str(os.getpid())  # for the ranks that Lightning starts
            with atomic_write(_decision_file(folder)) as part:
                part.write_text(json.dumps(decision._asdict()))

    try:
        yield announce
    finally:
        if not announced:
            announce(LaunchDecision(train=False))


def receive_decision(folder: Path) -> LaunchDecision:
    """Wait for the decision of rank 0 and return it; for all other ranks.

    Args:
        folder: the run's folder.

    Raises:
        TimeoutError: rank 0 announced no decision within `LAUNCH_TIMEOUT`.
    """
    deadline = time.monotonic() + LAUNCH_TIMEOUT
    while time.monotonic() < deadline:
        try:
            return LaunchDecision(**json.loads(_decision_file(folder).read_text()))
        except FileNotFoundError:
            time.sleep(0.2)
    raise TimeoutError(f"{folder}: rank {rank()} received no decision from rank 0 within {LAUNCH_TIMEOUT:g} s. Did rank 0 die?")


def _decision_file(folder: Path) -> Path:
    """Return the decision's path, unique per launch: by job and restart under SLURM, else by the process of rank 0."""
    if SLURMEnvironment.detect():
        launch = f"job-{os.environ['SLURM_JOB_ID']}-{os.environ.get('SLURM_RESTART_COUNT', 0)}"
    else:
        launch = f"process-{os.environ[LEADER_PID]}"
    return folder / f".decision-{launch}.json"


def exit_with_leader() -> None:
    """End this process when rank 0 dies, for which it would wait forever; SLURM ends its tasks itself."""
    if not SLURMEnvironment.detect():
        exit_with_parent(int(os.environ[LEADER_PID]))


def destroy_process_group() -> None:
    """Leave the process group after training, since rank 0 alone continues."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
