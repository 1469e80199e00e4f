"""One run of each kind: what figures show of single networks."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from temper.config.cell import Kind
from temper.report.records.load import folder_of
from temper.runs.record import RunRecord


class Pick(NamedTuple):
    """A run and its folder."""

    record: RunRecord
    folder: Path

    @property
    def title(self) -> str:
        """Kind, cell and seed, in narrow lines."""
        cell = f"{self.record.attack} x {self.record.penalty}, seed {self.record.seed}"
        return "\n".join([self.record.kind, *textwrap.wrap(cell, 26)])

    def checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / f"{name}.ckpt"


def one_of_each_kind(records: Iterable[RunRecord], studies: Sequence[Path]) -> list[Pick]:
    """The first run of each kind whose folder is there: of the first attack, the first penalty and the lowest seed, as
    `temper.runs.record.collect` orders them.

    Args:
        studies: the folders that the records lie in.
    """
    picked: dict[str, Pick] = {}
    for record in records:
        if record.kind not in picked and (folder := folder_of(record, studies)) is not None:
            picked[record.kind] = Pick(record, folder)
    return [picked[kind] for kind in Kind if kind in picked]
