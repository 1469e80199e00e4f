"""Load the records of one or several studies, without duplicates, filtered by cell and grouped by data set."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from temper.config.cell import data_name
from temper.report.records.baseline import full_penalty_name
from temper.runs.record import RunRecord, collect, record_order
from temper.runs.record_schema import ReportedFields, validate_schema


def load_records(
    studies: Sequence[Path], wanted: Mapping[str, str | Sequence[str] | None] | None = None
) -> tuple[list[RunRecord], list[str]]:
    """Load the records of all studies.

    Args:
        studies: folders of the studies.
        wanted: by axis (attack, penalty), the names of the cells to keep; None keeps all.

    Returns:
        The records, each run once, in a fixed order; and a line for each record that is unreadable or a duplicate.

    Raises:
        ValueError: no cell has a name in `wanted`.
    """
    found, problems = [], []
    for study in studies:
        records, unreadable = collect(study)
        problems += unreadable
        for record in records:
            try:
                validate_schema(vars(record), ReportedFields)
            except ValueError as error:
                problems.append(f"{_run_name(record)} is damaged or in an unknown format ({error})")
            else:
                found.append((study.name, record))
    records, duplicates = merge_duplicates(found)
    return select_cells(records, wanted or {}), problems + duplicates


def merge_duplicates(found: Iterable[tuple[str, RunRecord]]) -> tuple[list[RunRecord], list[str]]:
    """Keep one record per run (digest of the cell and seed): the first finished one, or else the first.

    Args:
        found: records, each with the name of its study.

    Returns:
        The kept records in order, and a line for each run with several records.
    """
    runs: dict[tuple[str, int], list[tuple[str, RunRecord]]] = {}
    for study, record in found:
        runs.setdefault((record.digest, record.seed), []).append((study, record))
    kept, duplicates = [], []
    for copies in runs.values():
        used, record = next((each for each in copies if each[1].finished), copies[0])
        kept.append(record)
        if ignored := Counter(study for study, other in copies if other is not record):
            counts = ", ".join(f"{count} in {study}" for study, count in ignored.items())
            duplicates.append(f"{_run_name(record)} is a duplicate: the run in {used} is used; ignored: {counts}")
    return sorted(kept, key=record_order), duplicates


def find_run_folder(record: RunRecord, studies: Sequence[Path]) -> Path | None:
    """Return the folder of a run in the first study that has it, or None.

    Folders are matched by digest and seed, because a baseline changes the name of a cell but not that of its folder.
    """
    folders = (folder for study in studies for folder in sorted(study.glob(f"*-{record.digest}/seed-{record.seed}")))
    return next(folders, None)


def select_cells(records: Sequence[RunRecord], wanted: Mapping[str, str | Sequence[str] | None]) -> list[RunRecord]:
    """Return the records whose attack and penalty are wanted.

    Args:
        records: runs, already named relative to their baseline.
        wanted: by axis (attack, penalty), one or several names; None keeps all. A penalty may be named with or without the
            baseline.

    Raises:
        ValueError: no run has a name in `wanted`.
    """
    kept = list(records)
    for axis, names in wanted.items():
        if names is None:
            continue
        names = [names] if isinstance(names, str) else [str(name) for name in names]
        present = list(dict.fromkeys(getattr(record, axis) for record in records))
        full_names = {full_penalty_name(record): record.penalty for record in records} if axis == "penalty" else {}
        names = [full_names.get(name, name) for name in names]
        if unknown := [name for name in names if name not in present]:
            raise ValueError(
                f"filter.{axis}={', '.join(unknown)}: no run has this {axis}. Available: {', '.join(present) or 'none'}."
            )
        kept = [record for record in kept if getattr(record, axis) in names]
    return kept


def dataset_name(record: RunRecord) -> str:
    """Return the name of the data set that a run was trained on."""
    return data_name(record.config["data"]["source"])


def group_by_dataset(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Group runs by data set. Data sets of one name are distinguished by the start of their content digest."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        content = str(record.config["data"]["source"].get("content") or "")
        groups.setdefault((dataset_name(record), content), []).append(record)
    names = [name for name, _ in groups]
    return {
        f"{name} ({content[:6] or 'unknown'})" if names.count(name) > 1 else name: group
        for (name, content), group in groups.items()
    }


def _run_name(record: RunRecord) -> str:
    return f"{record.attack} x {record.penalty} ({record.digest}), seed {record.seed}"
