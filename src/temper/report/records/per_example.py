"""Per-example outcomes of runs, read from the `.npz` files of their evaluations."""

import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from temper.report.records.long_format import evaluation_keys
from temper.runs.record import RunRecord, outcomes_path

# By run (digest, key of the suite, seed) and metric: whether each test image is classified correctly, (N,) bool.
Outcomes = dict[tuple[str, str, int], dict[str, np.ndarray]]


def load_study_outcomes(
    records: Iterable[RunRecord],
    folder: Callable[[RunRecord], Path | None],
    suite: str,
    checkpoint: str,
    metrics: Sequence[str],
) -> tuple[Outcomes, list[str]]:
    """Load the per-example outcomes behind some accuracies.

    Args:
        records: finished runs.
        folder: returns the folder of a run, or None if it is not there.
        suite: name of the evaluation suite.
        checkpoint: "last" or "best".
        metrics: accuracies, such as `test/clean`, `test/pgd`, `test/worst_case` or `curve/1`.

    Returns:
        The outcomes of every run that has them, and a line for each damaged file. Runs without files, such as those whose
        records alone were copied, are skipped.
    """
    loaded: Outcomes = {}
    problems = []
    for record in records:
        for key in evaluation_keys(record, suite):
            run_folder = folder(record)
            path = None if run_folder is None else outcomes_path(run_folder, key, checkpoint)
            if path is None or not path.is_file():
                continue
            try:
                correct = _read_outcomes(path, record.attacks(key))
            except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
                problems.append(f"{path} is damaged; its per-example outcomes are left out ({error})")
            else:
                loaded[record.digest, key, record.seed] = {name: correct[name] for name in metrics if name in correct}
    return loaded, problems


def _read_outcomes(path: Path, attacks: Sequence[str]) -> dict[str, np.ndarray]:
    """Return by metric whether each test image is classified correctly, (N,) bool.

    Raises:
        ValueError: the arrays differ in length or are not boolean.
    """
    with np.load(path) as arrays:
        correct = {f"test/{name}": arrays[name] for name in ("clean", *attacks) if name in arrays}
        curve = {name: arrays[name] for name in arrays if name.startswith("curve/")}
    outcomes = {"test/worst_case": np.stack(list(correct.values())).all(axis=0)} | correct | curve
    if {(values.shape, values.dtype.kind) for values in outcomes.values()} != {((len(correct["test/clean"]),), "b")}:
        raise ValueError("expected one boolean per image and attack")
    return outcomes
