"""One owner for each run's folder, on any number of machines that share a file system.

A claim is a file with a heartbeat: its owner touches it every few seconds. Another process takes it over once the owner is
known to be dead (on its own machine) or has shown no sign of life for `LEASE` seconds (on others), by the clock of who waits.
Locks of the kernel would need no heartbeat, and cluster file systems often do not share them between machines.
"""

import _thread
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

CLAIM = ".claim"
BEGUN = ".begun"  # when work on a run began; it stays where the work was broken off
HEARTBEAT = 10.0  # seconds
LEASE = 120.0  # seconds; network file systems may show a file as it was a minute ago

log = logging.getLogger("temper")


class LockHeld(Exception):
    """Another process works on this run."""


class LockLost(Exception):
    """Another process took this run over, since we showed no sign of life: stopped, or cut off from the file system."""


@contextmanager
def run_lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a run's folder.

    Args:
        wait: until whoever holds it is done or dead, to find its work then; else only as long as it shows no sign of life.

    Raises:
        HeldElsewhere: somebody else works on it, and we are not to wait.
        ClaimLost: it was taken over meanwhile. The block is interrupted, as by Ctrl-C, before it writes over another's work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lease = _lease(folder, lost=True)
    _acquire(lease, folder, wait=wait)
    begun = folder / BEGUN
    try:
        begun.touch()
        yield
        begun.unlink(missing_ok=True)
    except Exception:
        begun.unlink(missing_ok=True)
        raise
    except KeyboardInterrupt:
        if lease.compromise is not None:
            raise LockLost(f"{folder} was taken over by another process; this one stopped") from None
        raise
    finally:
        lease.release()


def was_interrupted(folder: Path) -> bool:
    """Whether work on a run was broken off, by a signal or with its process, and nobody works on it now."""
    if not (folder / BEGUN).exists():
        return False
    lease = _lease(folder)
    try:
        _acquire(lease, folder, wait=False)
    except LockHeld:
        return False
    lease.release()
    return True


def lock_owner(folder: Path) -> str | None:
    """Who works on a run, as "process 4711 on node7", at a glance: None where nobody does, or the last sign of life is old."""
    owner = _lease(folder).owner
    if owner is None:
        return None
    alive = time.time() - _heard(folder) < LEASE and (owner.hostname != _here() or _runs(owner.pid))
    return f"process {owner.pid} on {_host(owner.hostname)}" if alive else None


def _lease(folder: Path, *, lost: bool = False) -> SoftFileLease:
    def interrupt(loss: LeaseCompromise) -> None:
        _thread.interrupt_main()

    return SoftFileLease(
        folder / CLAIM,
        lease_duration=LEASE,
        heartbeat_interval=HEARTBEAT,
        on_compromise=interrupt if lost else None,
        thread_local=False,
    )


def _acquire(lease: SoftFileLease, folder: Path, *, wait: bool) -> None:
    first: float | None = None
    while not _try(lease):
        owner, heard = lease.owner, _heard(folder)
        if owner is None:
            continue  # given back just now
        if first is None:
            first = heard
            if wait:
                log.info("%s is held by process %d on %s; waiting", folder, owner.pid, _host(owner.hostname))
        # On this machine a dead owner would have lost its claim already.
        if not wait and (owner.hostname == _here() or heard != first):
            raise LockHeld(f"{folder} is held by process {owner.pid} on {_host(owner.hostname)}")
        time.sleep(0.5)


def _try(lease: SoftFileLease) -> bool:
    try:
        lease.acquire(timeout=0.1, poll_interval=0.02)
    except Timeout:
        return False
    return True


def _heard(folder: Path) -> float:
    try:
        return (folder / CLAIM).stat().st_mtime
    except OSError:
        return 0.0


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


@cache
def _here() -> str:
    """This machine, as claims name it: of a container that shares its name with others, also which one it is."""
    with tempfile.TemporaryDirectory() as folder, SoftFileLease(Path(folder) / CLAIM) as lease:
        assert isinstance(lease, SoftFileLease) and lease.owner is not None
        return lease.owner.hostname


def _host(name: str) -> str:
    return name.partition("?")[0]
