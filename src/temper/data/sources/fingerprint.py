"""What files hold, as a digest that stands for them wherever they lie: with other data it is another run."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from temper.data.sources.interfaces import DataError

DIGITS = 16

log = logging.getLogger("temper")


def bytes_of(paths: Iterable[Path]) -> str:
    """A digest of all bytes of these files, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:DIGITS]


def listing_of(paths: Iterable[Path], root: Path) -> str:
    """A digest of the names and sizes of files below a folder, which are too many to be read for it."""
    lines = sorted(f"{path.relative_to(root)} {path.stat().st_size}" for path in paths)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGITS]


def log_missing(where: object, found: int, published: int) -> None:
    """Warn of a published set that is not whole, as when its archive was cut short or its unpacking interrupted."""
    if found < published:
        log.warning("data: %s holds %d examples of %d: unpack the archive again to have them all", where, found, published)


def unchanged(expected: str | None, found: str, where: object) -> None:
    """Hold the data to what they were when the run was set up; None: they may be any.

    Raises:
        DataError: they are others.
    """
    if expected not in (None, found):
        raise DataError(f"{where} holds other data by now than when this run was set up; bring those back")
