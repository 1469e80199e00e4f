"""The baseline on which cells are compared: penalties that all of them have, such as an augmentation, and are not named by."""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial

from temper.config.cell import Kind
from temper.report.records.cell_names import parts_of, without
from temper.runs.record import RunRecord, in_order


def on_baseline(records: Sequence[RunRecord], wanted: Sequence[str] | str | None = None) -> list[RunRecord]:
    """The runs of one data set, each named by what it has beside the baseline: `none`, and standard, is the baseline alone.

    Args:
        wanted: the baseline, as far as some cell has it; None: what all finished cells have in the same settings and at one
            strength, if one of them has nothing else and another has.

    Raises:
        ValueError: a cell lacks a penalty that is wanted, or has it otherwise than others.
    """
    cells = [record for record in records if record.finished and record.kind != Kind.EXTERNAL]
    baseline = _shared(cells) if wanted is None else _checked(names_of(wanted), cells)
    return sorted(map(partial(_named, baseline=baseline), records), key=in_order) if baseline else list(records)


def on_baselines(sets: Iterable[Sequence[RunRecord]], wanted: Sequence[str] | str | None = None) -> list[RunRecord]:
    """The runs of several data sets, those of each on its own baseline.

    Raises:
        ValueError: as above, or no cell of any has a penalty that is wanted.
    """
    sets = list(sets)
    there = sorted(set().union(*(parts_of(record.penalty) for records in sets for record in records)))
    if unknown := [name for name in names_of(wanted or []) if name not in there]:
        raise ValueError(f"baseline: no cell has {unknown[0]}; there are {', '.join(there) or 'no penalties'}")
    return [record for records in sets for record in on_baseline(records, wanted)]


def names_of(wanted: Sequence[str] | str) -> list[str]:
    """The penalties of a baseline that was typed: a list, or as the names of cells."""
    return sorted(set().union(*map(parts_of, [wanted] if isinstance(wanted, str) else map(str, wanted))))


def baseline_of(records: Iterable[RunRecord]) -> list[str]:
    """The penalties that runs have and are not named by; networks that were trained elsewhere have none."""
    return sorted(set().union(*({str(name) for name in r.config.get("penalty") or ()} - parts_of(r.penalty) for r in records)))


def whole_name(record: RunRecord) -> str:
    """Of all penalties of a run, as its folder has it."""
    return " + ".join(sorted({*parts_of(record.penalty), *baseline_of([record])})) or "none"


def described(records: Iterable[RunRecord]) -> list[str]:
    """For a reader, what the baseline of these runs is; nothing where there is none."""
    baseline = " and ".join(baseline_of(records))
    return (
        [f"Every cell has {baseline}, and is named by what it has beside that: none is {baseline} alone."] if baseline else []
    )


def _shared(cells: Sequence[RunRecord]) -> tuple[str, ...]:
    penalties = [parts_of(cell.penalty) for cell in cells]
    shared = {name for name in set.intersection(*penalties) if _alike(cells, name)} if cells else set()
    # A strength may scale the baseline itself.
    strengths = {float(cell.config.get("strength", 1.0)) for cell in cells}
    compared = shared in penalties and any(own != shared for own in penalties) and len(strengths) == 1
    return tuple(sorted(shared)) if compared else ()


def _checked(names: Sequence[str], cells: Sequence[RunRecord]) -> tuple[str, ...]:
    known = [name for name in names if any(name in parts_of(cell.penalty) for cell in cells)]
    for name in known:
        for cell in cells:
            if name not in parts_of(cell.penalty):
                raise ValueError(f"baseline: {cell.attack} x {cell.penalty} has no {name}; name what every cell has")
        if not _alike(cells, name):
            raise ValueError(f"baseline: {name} has not the same settings in every cell, and is something that they differ in")
    return tuple(known)


def _alike(cells: Sequence[RunRecord], name: str) -> bool:
    return len({repr(cell.config.get("penalty", {}).get(name)) for cell in cells}) == 1


def _named(record: RunRecord, baseline: tuple[str, ...]) -> RunRecord:
    if record.kind == Kind.EXTERNAL:
        return record
    penalty = without(record.penalty, baseline)
    attacked = record.kind in (Kind.ADVERSARIAL, Kind.COMBINED)
    return dataclasses.replace(record, penalty=penalty, kind=str(Kind.of(attacked=attacked, penalized=penalty != "none")))
