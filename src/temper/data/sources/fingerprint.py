"""Digests of data files. They identify the data wherever the files are; other data gives another cell."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from temper.data.sources.interfaces import DataError

HEX_DIGITS = 16

log = logging.getLogger("temper")


def digest_contents(paths: Iterable[Path]) -> str:
    """Return a digest of all bytes of the files, in the given order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:HEX_DIGITS]


def digest_listing(paths: Iterable[Path], root: Path) -> str:
    """Return a digest of the names and sizes of files below `root`, where there are too many files to read them all."""
    lines = sorted(f"{path.relative_to(root)} {path.stat().st_size}" for path in paths)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:HEX_DIGITS]


def warn_if_incomplete(where: object, found: int, published: int) -> None:
    """Log a warning if a published data set lacks examples, as after an interrupted download or unpacking.

    Args:
        where: Place of the data, for the message.
        found: Number of examples.
        published: Number of examples of the complete data set.
    """
    if found < published:
        log.warning("data: %s has %d of %d examples; unpack the archive again to get all of them", where, found, published)


def check_unchanged(expected: str | None, found: str, where: object) -> None:
    """Check that the data is the same as when the run was configured.

    Args:
        expected: Digest at that time. None means no check.
        found: Digest of the current data.
        where: Place of the data, for the message.

    Raises:
        DataError: The digests differ.
    """
    if expected not in (None, found):
        raise DataError(f"{where}: the data has changed since this run was configured. Restore the original files.")
