"""Files that are whole or not there."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place, synced, once the block has ended well; else nothing changes."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # as `unfinished` looks for
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        # A failed write knows its reason and not its file.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def unfinished(path: Path) -> list[Path]:
    """What processes that were killed while they wrote `path` left beside it."""
    return sorted(path.parent.glob(f".{path.name}.*.part"))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A compressed .npz, whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def set_aside(path: Path, why: str) -> Path:
    """Rename a file or folder out of the way, never over another; nothing is deleted."""
    number = 0
    while (aside := path.with_name(f"{path.name}.{why}{number or ''}")).exists():
        number += 1
    return path.rename(aside)
