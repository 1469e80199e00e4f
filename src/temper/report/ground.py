"""The ground on which cells are compared: penalties that all of them have, such as an augmentation, and are not named by."""

import dataclasses
from collections.abc import Sequence

from temper.cell import Kind
from temper.records import RunRecord, in_order
from temper.report.sides import without


def on_ground(records: Sequence[RunRecord], wanted: Sequence[str] | str | None = None) -> list[RunRecord]:
    """The runs of one study, each named by what it has beside the ground: `none`, and standard, is the ground alone.

    Args:
        wanted: the ground; None: what all cells share, if one of them has nothing else and another has.

    Raises:
        ValueError: a cell lacks a penalty that is wanted.
    """
    cells = {(record.attack, record.penalty) for record in records if record.kind != Kind.EXTERNAL}
    if wanted is None:
        ground = _shared([_parts(penalty) for _, penalty in cells])
    else:
        ground = {wanted} if isinstance(wanted, str) else set(map(str, wanted))
        for attack, penalty in sorted(cells):
            if lacking := sorted(ground - _parts(penalty)):
                raise ValueError(f"ground: {attack} x {penalty} has no {lacking[0]}; name what every cell has, or filter cells")
    return sorted((_named(record, tuple(ground)) for record in records), key=in_order) if ground else list(records)


def ground_of(record: RunRecord) -> list[str]:
    """The penalties of a run that it is not named by."""
    return sorted({str(name) for name in record.config.get("penalty") or ()} - _parts(record.penalty))


def described(records: Sequence[RunRecord]) -> list[str]:
    """For a reader, what the ground of these runs is; nothing where there is none."""
    ground = " and ".join(dict.fromkeys(name for record in records for name in ground_of(record)))
    return [f"Every cell has {ground}, and is named by what it has beside that: none is {ground} alone."] if ground else []


def _shared(cells: Sequence[set[str]]) -> set[str]:
    shared = set.intersection(*cells) if cells else set()
    return shared if shared in cells and any(cell != shared for cell in cells) else set()


def _parts(penalty: str) -> set[str]:
    return set(penalty.split(" + ")) - {"none"}


def _named(record: RunRecord, ground: tuple[str, ...]) -> RunRecord:
    if record.kind == Kind.EXTERNAL:
        return record
    penalty = without(record.penalty, ground)
    attacked = record.kind in (Kind.ADVERSARIAL, Kind.COMBINED)
    return dataclasses.replace(record, penalty=penalty, kind=str(Kind.of(attacked=attacked, penalized=penalty != "none")))
