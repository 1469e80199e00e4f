"""Tests of atomic downloads by several processes."""

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

from temper.data.sources.download import atomic_download

TURNS = 30


def count(root: Path, barrier: Barrier) -> None:
    """Increase a counter in a file, as often as `TURNS`."""
    barrier.wait()
    for _ in range(TURNS):
        with atomic_download(root, "numbers") as files:
            before = (root / "count").read_text() if (root / "count").exists() else "0"
            (files / "count").write_text(str(int(before) + 1))


def test_concurrent_downloads_do_not_lose_updates(tmp_path: Path) -> None:
    # The temporary folder of one process is deleted while the next one begins.
    context = multiprocessing.get_context("spawn")  # a fork keeps the locks of other tests' threads, but not the threads
    arguments = (tmp_path, context.Barrier(4, timeout=120))
    processes = [context.Process(target=count, args=arguments, daemon=True) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == str(4 * TURNS)
    assert [path.name for path in tmp_path.iterdir()] == ["count"]
