"""Planned runs of a grid and their state on disk."""

import os
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from temper.config.cell import Cell
from temper.runs.lock import lock_owner
from temper.runs.record import RECORD, RunRecord


class State(StrEnum):
    """State of a run on disk."""

    FINISHED = "finished"
    STALE = "stale"
    FAILED = "failed"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    UNEVALUATED = "unevaluated"
    MISSING = "missing"


class Job(NamedTuple):
    """One run of a grid.

    Attributes:
        overrides: Hydra overrides from which the run is composed.
        cell: its cell.
        data: name of its data set.
        seed: its seed.
        folder: its folder.
        suite: key of the evaluation suite, see `temper.runs.identity.suite_key`.
        state: its state on disk.
        evaluated: True if the suite has evaluated it.
        uses_strength: True if the root key `strength` scales one of its penalties.
        record_mtime: modification time of its record in nanoseconds, None without a record.
    """

    overrides: list[str]
    cell: Cell
    data: str
    seed: int
    folder: Path
    suite: str
    state: State
    evaluated: bool
    uses_strength: bool
    record_mtime: int | None = None


def record_mtime(folder: Path) -> int | None:
    """Return the modification time of a run's record in nanoseconds, or None if there is no record."""
    try:
        return os.stat(folder / RECORD).st_mtime_ns
    except OSError:
        return None


def run_state(folder: Path, suite: str, code: str | None = None) -> tuple[State, bool]:
    """Return the state of a run, judged by the files in its folder, and True if the suite has evaluated it.

    Args:
        folder: the run's folder.
        suite: key of the evaluation suite.
        code: digest of the present code; a finished run of other code is stale. None: no run is stale.
    """
    try:
        record = RunRecord.read(folder)
    except FileNotFoundError:
        record = None
    except ValueError:
        return State.INTERRUPTED, False  # the run sets its damaged record aside when it starts
    evaluated = record is not None and record.has(suite)
    if not evaluated and lock_owner(folder):
        return State.RUNNING, False
    if record is None:
        return (State.INTERRUPTED if (folder / "checkpoints" / "last.ckpt").exists() else State.MISSING), False
    if not record.finished or (record.error and not evaluated):
        return State.FAILED, False
    if code is not None and record.code != code:
        return State.STALE, evaluated
    return (State.FINISHED if evaluated else State.UNEVALUATED), evaluated
