"""Representative runs: one of each kind, for figures that show single networks."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from temper.config.cell import Kind
from temper.report.records.load import find_run_folder
from temper.runs.record import RunRecord


class RepresentativeRun(NamedTuple):
    """A run and its folder."""

    record: RunRecord
    folder: Path

    @property
    def title(self) -> str:
        """Kind, cell and seed, wrapped for a narrow panel."""
        cell = f"{self.record.attack} x {self.record.penalty}, seed {self.record.seed}"
        return "\n".join([self.record.kind, *textwrap.wrap(cell, 26)])

    def checkpoint(self, name: str) -> Path:
        """Return the path of a checkpoint: "last" or "best"."""
        return self.folder / "checkpoints" / f"{name}.ckpt"


def representative_runs(records: Iterable[RunRecord], studies: Sequence[Path]) -> list[RepresentativeRun]:
    """Return the first run of each kind whose folder exists, in the order of `Kind`.

    Args:
        records: runs in the order of `temper.runs.record.collect`, by attack, penalty and seed.
        studies: folders of the studies that contain the runs.
    """
    by_kind: dict[str, RepresentativeRun] = {}
    for record in records:
        if record.kind not in by_kind and (folder := find_run_folder(record, studies)) is not None:
            by_kind[record.kind] = RepresentativeRun(record, folder)
    return [by_kind[kind] for kind in Kind if kind in by_kind]
