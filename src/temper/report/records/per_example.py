"""Per-example outcomes of runs, read from the arrays that their evaluations left."""

import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from temper.report.records.long_format import evaluations_of
from temper.runs.record import RunRecord, outcomes_path

# Of one run, (digest, key of the suite, seed): by metric, whether each test image is right, (N,) bool.
Outcomes = dict[tuple[str, str, int], dict[str, np.ndarray]]


def outcomes(
    records: Iterable[RunRecord],
    folder: Callable[[RunRecord], Path | None],
    suite: str,
    checkpoint: str,
    metrics: Sequence[str],
) -> tuple[Outcomes, list[str]]:
    """What happened to every test image under some accuracies (`test/clean`, `test/pgd`, `test/worst_case`, `curve/1`).

    Runs whose arrays are not there, such as those of records that were copied alone, are left out; so are damaged ones, with a
    line for each.
    """
    found: Outcomes = {}
    problems = []
    for record in records:
        for key in evaluations_of(record, suite):
            where = folder(record)
            path = None if where is None else outcomes_path(where, key, checkpoint)
            if path is None or not path.is_file():
                continue
            try:
                named = _named(path, record.attacks(key))
            except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
                problems.append(f"{path} is damaged, and its images are left out ({error})")
            else:
                found[record.digest, key, record.seed] = {metric: named[metric] for metric in metrics if metric in named}
    return found, problems


def _named(path: Path, attacks: Sequence[str]) -> dict[str, np.ndarray]:
    """By metric, whether each test image is right.

    Raises:
        ValueError: the arrays are of different lengths, or no truth values.
    """
    with np.load(path) as arrays:
        right = {f"test/{name}": arrays[name] for name in ("clean", *attacks) if name in arrays}
        curve = {name: arrays[name] for name in arrays if name.startswith("curve/")}
    named = {"test/worst_case": np.stack(list(right.values())).all(axis=0)} | right | curve
    if {(values.shape, values.dtype.kind) for values in named.values()} != {((len(right["test/clean"]),), "b")}:
        raise ValueError("not one truth value for each image under each attack")
    return named
