"""The runs of a grid, and how far each of them is."""

import os
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from temper.config.cell import Cell
from temper.runs.lock import lock_owner
from temper.runs.record import RECORD, RunRecord


class State(StrEnum):
    """How far a run is."""

    FINISHED = "finished"
    STALE = "stale"
    FAILED = "failed"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    UNEVALUATED = "unevaluated"
    MISSING = "missing"


class Job(NamedTuple):
    """One run of the grid: how it is composed, what its data set is called, where it lies, how far it is, whether its suite is
    done, and whether the root key `strength` scales any of its penalties."""

    overrides: list[str]
    cell: Cell
    data: str
    seed: int
    folder: Path
    suite: str
    state: State
    evaluated: bool
    scaled: bool
    stamp: int | None = None


def stamp(folder: Path) -> int | None:
    """When a run's record was written, in nanoseconds; None: there is none."""
    try:
        return os.stat(folder / RECORD).st_mtime_ns
    except OSError:
        return None


def state_of(folder: Path, suite: str, code: str | None = None) -> tuple[State, bool]:
    """How far a run is, judged by what lies in its folder, and whether its suite is done.

    Args:
        code: digest of the code that would run now; None: whichever code made a run, it is not called stale.
    """
    try:
        record = RunRecord.read(folder)
    except FileNotFoundError:
        record = None
    except ValueError:
        return State.INTERRUPTED, False  # the run itself sets the damaged record aside
    done = record is not None and record.has(suite)
    if not done and lock_owner(folder):
        return State.RUNNING, False
    if record is None:
        return (State.INTERRUPTED if (folder / "checkpoints" / "last.ckpt").exists() else State.MISSING), False
    if not record.finished or (record.error and not done):
        return State.FAILED, False
    if code is not None and record.code != code:
        return State.STALE, done
    return (State.FINISHED if done else State.UNEVALUATED), done
