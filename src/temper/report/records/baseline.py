"""Baseline of a study: penalties that all cells share, such as an augmentation, and that are left out of their names."""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial

from temper.config.cell import Kind
from temper.report.records.cell_names import drop_penalties, penalty_names
from temper.runs.record import RunRecord, record_order


def apply_baseline(records: Sequence[RunRecord], wanted: Sequence[str] | str | None = None) -> list[RunRecord]:
    """Rename the runs of one data set relative to their baseline: `none`, and kind standard, is the baseline alone.

    Args:
        records: runs of one data set.
        wanted: penalties of the baseline; those that no cell has are ignored. None: the penalties that all finished cells have
            with the same settings and at one strength, provided that one cell has nothing else and another cell has more.

    Returns:
        The runs with the penalties of the baseline removed from their names, in the order of records.

    Raises:
        ValueError: a cell lacks a penalty of `wanted`, or has it with other settings.
    """
    cells = [record for record in records if record.finished and record.kind != Kind.EXTERNAL]
    baseline = _shared_penalties(cells) if wanted is None else _checked_penalties(parse_baseline(wanted), cells)
    return sorted(map(partial(_rename, baseline=baseline), records), key=record_order) if baseline else list(records)


def apply_baselines(datasets: Iterable[Sequence[RunRecord]], wanted: Sequence[str] | str | None = None) -> list[RunRecord]:
    """Apply `apply_baseline` to each of several data sets.

    Args:
        datasets: the runs of each data set.
        wanted: penalties of the baseline; None: those that all cells of a data set share.

    Raises:
        ValueError: as in `apply_baseline`, or no cell of any data set has a penalty of `wanted`.
    """
    datasets = list(datasets)
    present = sorted(set().union(*(penalty_names(record.penalty) for records in datasets for record in records)))
    if unknown := [name for name in parse_baseline(wanted or []) if name not in present]:
        raise ValueError(
            f"baseline={unknown[0]}: no cell has this penalty. Penalties of these studies: {', '.join(present) or 'none'}."
        )
    return [record for records in datasets for record in apply_baseline(records, wanted)]


def parse_baseline(wanted: Sequence[str] | str) -> list[str]:
    """Return the sorted penalties of a configured baseline, given as a list or as in cell names ("crop_flip + l2")."""
    return sorted(set().union(*map(penalty_names, [wanted] if isinstance(wanted, str) else map(str, wanted))))


def baseline_penalties(records: Iterable[RunRecord]) -> list[str]:
    """Return the penalties that runs have but that their names omit; external networks have none."""
    return sorted(
        set().union(*({str(name) for name in r.config.get("penalty") or ()} - penalty_names(r.penalty) for r in records))
    )


def full_penalty_name(record: RunRecord) -> str:
    """Return the name of all penalties of a run, baseline included, as in the name of its folder."""
    return " + ".join(sorted({*penalty_names(record.penalty), *baseline_penalties([record])})) or "none"


def describe_baseline(records: Iterable[RunRecord]) -> list[str]:
    """Return a sentence on the baseline of these runs; an empty list if there is no baseline."""
    baseline = " and ".join(baseline_penalties(records))
    return [f"Baseline of every cell: {baseline}. Names list additions only; none means {baseline} alone."] if baseline else []


def _shared_penalties(cells: Sequence[RunRecord]) -> tuple[str, ...]:
    penalties = [penalty_names(cell.penalty) for cell in cells]
    shared = {name for name in set.intersection(*penalties) if _same_settings(cells, name)} if cells else set()
    # With several strengths the baseline itself may be scaled differently in each cell.
    strengths = {float(cell.config.get("strength", 1.0)) for cell in cells}
    is_baseline = shared in penalties and any(names != shared for names in penalties) and len(strengths) == 1
    return tuple(sorted(shared)) if is_baseline else ()


def _checked_penalties(names: Sequence[str], cells: Sequence[RunRecord]) -> tuple[str, ...]:
    present = [name for name in names if any(name in penalty_names(cell.penalty) for cell in cells)]
    for name in present:
        for cell in cells:
            if name not in penalty_names(cell.penalty):
                raise ValueError(
                    f"baseline={name}: {cell.attack} x {cell.penalty} has no {name}. Name only penalties that every cell has."
                )
        if not _same_settings(cells, name):
            raise ValueError(
                f"baseline={name}: the settings of {name} differ between cells. Leave it out of the"
                " baseline: penalties with different settings are compared."
            )
    return tuple(present)


def _same_settings(cells: Sequence[RunRecord], name: str) -> bool:
    return len({repr(cell.config.get("penalty", {}).get(name)) for cell in cells}) == 1


def _rename(record: RunRecord, baseline: tuple[str, ...]) -> RunRecord:
    if record.kind == Kind.EXTERNAL:
        return record
    penalty = drop_penalties(record.penalty, baseline)
    attacked = record.kind in (Kind.ADVERSARIAL, Kind.COMBINED)
    return dataclasses.replace(record, penalty=penalty, kind=str(Kind.of(attacked=attacked, penalized=penalty != "none")))
