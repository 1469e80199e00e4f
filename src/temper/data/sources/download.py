"""Atomic downloads: a data set is fetched completely, by one process, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from temper.runs.lock import run_lock


@contextmanager
def atomic_download(root: Path, name: str) -> Iterator[Path]:
    """Yield a temporary folder whose files are moved to the same places below `root` when the block succeeds.

    If the block fails, the files are deleted. Symbolic links are not moved. Processes that fetch into the same root wait for
    one another, also across machines.

    Args:
        root: Data folder.
        name: Name of the data set, for the temporary folder.
    """
    part = root / f".{name}.part"
    with run_lock(root):
        shutil.rmtree(part, ignore_errors=True)  # a process that was killed may have left it
        part.mkdir()
        try:
            yield part
            for path in sorted(part.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    destination = root / path.relative_to(part)
                    destination.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(path, destination)
        finally:
            shutil.rmtree(part)
