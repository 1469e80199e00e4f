"""Tests of run locks: owners on this machine are known by their process, owners on others by their heartbeat."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from temper.runs import lock
from temper.runs.lock import LOCK_FILE, LockHeld, LockLost, lock_owner, run_lock, was_interrupted

HOLD = """
import sys, time
from pathlib import Path
from temper.runs.lock import run_lock

with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def _hold(folder: Path, log: Path, barrier: Barrier) -> None:
    barrier.wait()
    with run_lock(folder):
        with log.open("a") as file:
            file.write("in ")
        time.sleep(0.3)
        with log.open("a") as file:
            file.write("out ")


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context(
        "spawn"
    )  # a fork would keep locks that threads of other tests hold, but not the threads
    arguments = (tmp_path / "run", tmp_path / "log", context.Barrier(3, timeout=120))
    workers = [context.Process(target=_hold, args=arguments, daemon=True) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert (tmp_path / "log").read_text() == "in out " * 3
    assert not (tmp_path / "run" / LOCK_FILE).exists()


def test_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=-1)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    assert lock_owner(tmp_path) == f"process {process.pid} on {socket.gethostname()}"
    with pytest.raises(LockHeld, match=f"process {process.pid}"), run_lock(tmp_path, wait=False):
        pass
    assert not was_interrupted(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / LOCK_FILE).exists() and lock_owner(tmp_path) is None
    start = time.monotonic()
    assert was_interrupted(tmp_path) and time.monotonic() - start < lock.LEASE / 4
    with run_lock(tmp_path):
        pass
    assert not (tmp_path / LOCK_FILE).exists() and not was_interrupted(tmp_path), "its next owner finished"


def test_interrupted_run_is_distinguished_from_a_failed_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError), run_lock(tmp_path / "failed"):
        raise ValueError
    with pytest.raises(KeyboardInterrupt), run_lock(tmp_path / "interrupted"):
        raise KeyboardInterrupt
    assert not was_interrupted(tmp_path / "failed") and was_interrupted(tmp_path / "interrupted")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a folder that a process on another machine has locked, with a lease of three seconds."""
    monkeypatch.setattr(lock, "LEASE", 3.0)
    monkeypatch.setattr(lock, "HEARTBEAT", 0.2)
    with run_lock(tmp_path):
        content = (tmp_path / LOCK_FILE).read_text()
    here = next(
        line for line in content.splitlines() if socket.gethostname() in line
    )  # with this container's process namespace
    (tmp_path / LOCK_FILE).write_text(content.replace(here, here.replace(socket.gethostname(), "node7")))
    return tmp_path


def test_heartbeat_on_another_machine_keeps_the_lock(elsewhere: Path) -> None:
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.2):
            os.utime(elsewhere / LOCK_FILE)

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        assert lock_owner(elsewhere) is not None and "node7" in str(lock_owner(elsewhere))
        with pytest.raises(LockHeld, match="node7"), run_lock(elsewhere, wait=False):
            pass
        assert (elsewhere / LOCK_FILE).exists()
    finally:
        stop.set()
        heart.join()


def test_lock_on_another_machine_expires_without_heartbeat(elsewhere: Path) -> None:
    start = time.monotonic()
    with run_lock(elsewhere, wait=False):
        assert 0.9 * lock.LEASE < time.monotonic() - start < 20 * lock.LEASE
        assert str(os.getpid()) in (elsewhere / LOCK_FILE).read_text()


def test_owner_stops_when_its_lock_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a long pause of the owner: another process holds the lock now, whose work must not be overwritten."""
    monkeypatch.setattr(lock, "HEARTBEAT", 0.1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(LockLost, match="taken over"), run_lock(tmp_path):
        (tmp_path / LOCK_FILE).unlink()
        (tmp_path / LOCK_FILE).write_text(json.dumps("somebody else's"))
        for _ in range(200):  # interrupt_main does not wake a sleeping thread
            time.sleep(0.1)
    assert (tmp_path / LOCK_FILE).exists(), "the lock of the other process stays"
