"""One owner for each run: on this machine by its process, on others by its heartbeat."""

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
from temper.runs.lock import CLAIM, LockHeld, LockLost, lock_owner, run_lock, was_interrupted

HOLD = """
import sys, time
from pathlib import Path
from temper.runs.lock import sole_owner

with sole_owner(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def _hold(folder: Path, log: Path, together: Barrier) -> None:
    together.wait()
    with run_lock(folder):
        with log.open("a") as file:
            file.write("in ")
        time.sleep(0.3)
        with log.open("a") as file:
            file.write("out ")


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # threads of other tests do not survive a fork, what they have locked does
    arguments = (tmp_path / "run", tmp_path / "log", context.Barrier(3, timeout=120))
    workers = [context.Process(target=_hold, args=arguments, daemon=True) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert (tmp_path / "log").read_text() == "in out " * 3
    assert not (tmp_path / "run" / CLAIM).exists()


def test_a_claim_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=-1)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    assert lock_owner(tmp_path) == f"process {process.pid} on {socket.gethostname()}"
    with pytest.raises(LockHeld, match=f"process {process.pid}"), run_lock(tmp_path, wait=False):
        pass
    assert not was_interrupted(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / CLAIM).exists() and lock_owner(tmp_path) is None
    since = time.monotonic()
    assert was_interrupted(tmp_path) and time.monotonic() - since < lock.LEASE / 4
    with run_lock(tmp_path):
        pass
    assert not (tmp_path / CLAIM).exists() and not was_interrupted(tmp_path), "ended well by its next owner"


def test_work_that_was_broken_off_is_known_from_work_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ValueError), run_lock(tmp_path / "failed"):
        raise ValueError
    with pytest.raises(KeyboardInterrupt), run_lock(tmp_path / "interrupted"):
        raise KeyboardInterrupt
    assert not was_interrupted(tmp_path / "failed") and was_interrupted(tmp_path / "interrupted")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a process on another machine has claimed, with a lease of three seconds."""
    monkeypatch.setattr(lock, "LEASE", 3.0)
    monkeypatch.setattr(lock, "HEARTBEAT", 0.2)
    with run_lock(tmp_path):
        mark = (tmp_path / CLAIM).read_text()
    here = next(line for line in mark.splitlines() if socket.gethostname() in line)  # in whatever namespace of processes
    (tmp_path / CLAIM).write_text(mark.replace(here, here.replace(socket.gethostname(), "node7")))
    return tmp_path


def test_on_another_machine_a_heartbeat_is_a_sign_of_life(elsewhere: Path) -> None:
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.2):
            os.utime(elsewhere / CLAIM)

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        assert lock_owner(elsewhere) is not None and "node7" in str(lock_owner(elsewhere))
        with pytest.raises(LockHeld, match="node7"), run_lock(elsewhere, wait=False):
            pass
        assert (elsewhere / CLAIM).exists()
    finally:
        stop.set()
        heart.join()


def test_on_another_machine_a_claim_without_heartbeat_lapses(elsewhere: Path) -> None:
    since = time.monotonic()
    with run_lock(elsewhere, wait=False):
        assert 0.9 * lock.LEASE < time.monotonic() - since < 20 * lock.LEASE
        assert str(os.getpid()) in (elsewhere / CLAIM).read_text()


def test_an_owner_that_was_taken_over_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a long stop of the process: another holds the claim now, and its work must not be written over."""
    monkeypatch.setattr(lock, "HEARTBEAT", 0.1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(LockLost, match="taken over"), run_lock(tmp_path):
        (tmp_path / CLAIM).unlink()
        (tmp_path / CLAIM).write_text(json.dumps("somebody else's"))
        for _ in range(200):  # what interrupts a thread does not wake it
            time.sleep(0.1)
    assert (tmp_path / CLAIM).exists(), "the claim of another is left alone"
