"""Atomic file writes."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success, sync the file written there and move it to `path`.

    If the block raises, `path` is unchanged and the temporary file is deleted.

    Args:
        path: the file to create or replace.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # the pattern that `partial_writes` globs for
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        # A failed write (as opposed to a failed open) does not name its file.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def partial_writes(path: Path) -> list[Path]:
    """Return the temporary files of writes to `path` that are in progress or were killed."""
    return sorted(path.parent.glob(f".{path.name}.*.part"))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays atomically as a compressed .npz file; the same arrays give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def set_aside(path: Path, reason: str) -> Path:
    """Rename a file or folder to `<name>.<reason>`, numbered if that name is taken, and return the new path.

    Nothing is overwritten or deleted.

    Args:
        path: the file or folder to rename.
        reason: the suffix, e.g. "damaged".
    """
    number = 0
    while (renamed := path.with_name(f"{path.name}.{reason}{number or ''}")).exists():
        number += 1
    return path.rename(renamed)
