"""Run locks: one owner for each run's folder, on any number of machines that share a file system.

A lock is a file with a heartbeat: its owner touches it every `HEARTBEAT` seconds. Another process takes it over once the owner
is known to be dead (same machine) or its heartbeat has stopped for `LEASE` seconds (other machines), measured by the waiting
process's clock. Kernel locks would need no heartbeat, but many cluster file systems do not share them between machines.
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

LOCK_FILE = ".claim"
STARTED_FILE = ".begun"  # created when work on a run starts; an interrupted run leaves it
HEARTBEAT = 10.0  # seconds
LEASE = 120.0  # seconds; network file systems may show the state of a minute ago

log = logging.getLogger("temper")


class LockHeld(Exception):
    """Raised when another process holds the lock of a run."""


class LockLost(Exception):
    """Raised when another process took over the lock, because this one was stopped or cut off from the file system."""


@contextmanager
def run_lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a run's folder.

    Args:
        folder: the run's folder; created if it does not exist.
        wait: if True, wait until the present owner is done or dead; if False, only until its heartbeat shows it alive.

    Raises:
        LockHeld: another process holds the lock, and `wait` is False.
        LockLost: another process took over the lock. The block is interrupted, as by Ctrl-C, before it overwrites the new
            owner's files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lease = _lease(folder, interrupt_if_lost=True)
    _acquire(lease, folder, wait=wait)
    started = folder / STARTED_FILE
    try:
        started.touch()
        yield
        started.unlink(missing_ok=True)
    except Exception:
        started.unlink(missing_ok=True)
        raise
    except KeyboardInterrupt:
        if lease.compromise is not None:
            raise LockLost(f"{folder} was taken over by another process; this one stopped") from None
        raise
    finally:
        lease.release()


def was_interrupted(folder: Path) -> bool:
    """Return True if work on a run was interrupted, by a signal or the end of its process, and no process works on it."""
    if not (folder / STARTED_FILE).exists():
        return False
    lease = _lease(folder)
    try:
        _acquire(lease, folder, wait=False)
    except LockHeld:
        return False
    lease.release()
    return True


def lock_owner(folder: Path) -> str | None:
    """Return the owner of a run's lock, e.g. "process 4711 on node7", without waiting.

    Returns:
        None if the run has no lock, its owner is dead, or the last heartbeat is older than `LEASE`.
    """
    owner = _lease(folder).owner
    if owner is None:
        return None
    alive = time.time() - _last_heartbeat(folder) < LEASE and (owner.hostname != _this_host() or _is_running(owner.pid))
    return f"process {owner.pid} on {_host_name(owner.hostname)}" if alive else None


def _lease(folder: Path, *, interrupt_if_lost: bool = False) -> SoftFileLease:
    def interrupt(loss: LeaseCompromise) -> None:
        _thread.interrupt_main()

    return SoftFileLease(
        folder / LOCK_FILE,
        lease_duration=LEASE,
        heartbeat_interval=HEARTBEAT,
        on_compromise=interrupt if interrupt_if_lost else None,
        thread_local=False,
    )


def _acquire(lease: SoftFileLease, folder: Path, *, wait: bool) -> None:
    first_heartbeat: float | None = None
    while not _try_acquire(lease):
        owner, heartbeat = lease.owner, _last_heartbeat(folder)
        if owner is None:
            continue  # just released
        if first_heartbeat is None:
            first_heartbeat = heartbeat
            if wait:
                log.info("%s is locked by process %d on %s; waiting", folder, owner.pid, _host_name(owner.hostname))
        # A dead owner on this machine would have lost the lock already.
        if not wait and (owner.hostname == _this_host() or heartbeat != first_heartbeat):
            raise LockHeld(f"{folder} is locked by process {owner.pid} on {_host_name(owner.hostname)}")
        time.sleep(0.5)


def _try_acquire(lease: SoftFileLease) -> bool:
    try:
        lease.acquire(timeout=0.1, poll_interval=0.02)
    except Timeout:
        return False
    return True


def _last_heartbeat(folder: Path) -> float:
    try:
        return (folder / LOCK_FILE).stat().st_mtime
    except OSError:
        return 0.0


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        pass
    return True


@cache
def _this_host() -> str:
    """Return this machine's identity as lock files name it; containers that share a host name are distinguished."""
    with tempfile.TemporaryDirectory() as folder, SoftFileLease(Path(folder) / LOCK_FILE) as lease:
        assert isinstance(lease, SoftFileLease) and lease.owner is not None
        return lease.owner.hostname


def _host_name(identity: str) -> str:
    return identity.partition("?")[0]
