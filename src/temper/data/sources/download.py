"""Data sets that are fetched whole, by one process, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from temper.runs.lock import run_lock


@contextmanager
def atomic_download(root: Path, name: str) -> Iterator[Path]:
    """A folder whose files move to the same places below `root` once the block has ended well; if not, they are deleted.

    Processes that fetch into the same root wait for one another, on other machines too. Links are left out.
    """
    part = root / f".{name}.part"
    with run_lock(root):
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir()
        try:
            yield part
            for path in sorted(part.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    place = root / path.relative_to(part)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(path, place)
        finally:
            shutil.rmtree(part)
