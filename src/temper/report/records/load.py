"""The records of one study or of several together, and which of their cells are reported."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from temper.config.cell import data_name
from temper.report.records.baseline import whole_name
from temper.runs.record import RunRecord, collect, in_order
from temper.runs.record_schema import Described, check


def gather(
    studies: Sequence[Path], wanted: Mapping[str, str | Sequence[str] | None] | None = None
) -> tuple[list[RunRecord], list[str]]:
    """The records of all studies in one order, each run once, and a line for each that is left out though none asked for it.

    Args:
        wanted: by axis (attack, penalty), the names of the cells that are reported; None: all.

    Raises:
        ValueError: no cell has a name that is wanted.
    """
    found, problems = [], []
    for study in studies:
        records, unreadable = collect(study)
        problems += unreadable
        for record in records:
            try:
                check(vars(record), Described)
            except ValueError as error:
                name = f"{record.attack} x {record.penalty} ({record.digest}), seed {record.seed}"
                problems.append(f"{name} is damaged or foreign ({error})")
            else:
                found.append((study.name, record))
    records, duplicates = merged(found)
    return selected(records, wanted or {}), problems + duplicates


def merged(found: Iterable[tuple[str, RunRecord]]) -> tuple[list[RunRecord], list[str]]:
    """Each run (a cell's digest and a seed) once, and a line for each that lies in several places.

    The first that is finished is counted; where none is, the first.

    Args:
        found: every record with the name of the study's folder in which it lies.
    """
    runs: dict[tuple[str, int], list[tuple[str, RunRecord]]] = {}
    for study, record in found:
        runs.setdefault((record.digest, record.seed), []).append((study, record))
    counted, duplicates = [], []
    for same in runs.values():
        where, record = next((each for each in same if each[1].finished), same[0])
        counted.append(record)
        if others := [study for study, other in same if other is not record]:
            name = f"{record.attack} x {record.penalty} ({record.digest}), seed {record.seed}"
            elsewhere = ", ".join(dict.fromkeys(other for other in others if other != where))
            again = [f"and not in {elsewhere}"] if elsewhere else []
            again += [f"where it lies {1 + others.count(where)} times"] if where in others else []
            duplicates.append(f"{name} is a duplicate: counted once, as it is in {where}, {', '.join(again)}")
    return sorted(counted, key=in_order), duplicates


def folder_of(record: RunRecord, studies: Sequence[Path]) -> Path | None:
    """Where a run lies, in the first of the studies that has it. Cells are told apart by their digest, whatever stands before
    it in the name of their folder."""
    found = (folder for study in studies for folder in sorted(study.glob(f"*-{record.digest}/seed-{record.seed}")))
    return next(found, None)


def selected(records: Sequence[RunRecord], wanted: Mapping[str, str | Sequence[str] | None]) -> list[RunRecord]:
    """Those whose attack and penalty are wanted; of cells on a ground, by the names that tables show or that folders have."""
    kept = list(records)
    for axis, names in wanted.items():
        if names is None:
            continue
        names = [names] if isinstance(names, str) else [str(name) for name in names]
        there = list(dict.fromkeys(getattr(record, axis) for record in records))
        whole = {whole_name(record): record.penalty for record in records} if axis == "penalty" else {}
        names = [whole.get(name, name) for name in names]
        if unknown := [name for name in names if name not in there]:
            raise ValueError(f"filter.{axis}: no run has {', '.join(unknown)}; there are {', '.join(there) or 'none'}")
        kept = [record for record in kept if getattr(record, axis) in names]
    return kept


def data_of(record: RunRecord) -> str:
    """The name of the data set that a run learned from."""
    return data_name(record.config["data"]["source"])


def by_data(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """The runs of each data set. Sets of one name are told apart by what they hold, and named with its beginning."""
    found: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        content = str(record.config["data"]["source"].get("content") or "")
        found.setdefault((data_of(record), content), []).append(record)
    names = [name for name, _ in found]
    return {
        f"{name} ({content[:6] or 'unknown'})" if names.count(name) > 1 else name: own for (name, content), own in found.items()
    }
