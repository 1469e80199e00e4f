"""Records as a table of numbers: one row per run, checkpoint and metric."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pandas as pd

from temper.cell import NOT_IDENTITY
from temper.records import RunRecord

# Where the threat of a suite stands again in each of its parts.
PARTS_OF_A_SUITE = re.compile(r"evaluation\.(?!threat)[\w.]+\.threat\.")
COLUMNS = ["study", "attack", "penalty", "setting", "kind", "digest", "suite", "seed", "checkpoint", "metric", "value"]


def frame(records: Iterable[RunRecord], suite: str) -> pd.DataFrame:
    """All numbers of all finished runs under the suites of one name, in long form with `COLUMNS`.

    `checkpoint` is best, last, or `run` for what belongs to the run as a whole (cost, gaps between checkpoints).
    `setting` tells apart cells of the same attack and penalty by the config values in which they differ, in training or in
    evaluation.
    """
    chosen = [(record, key) for record in records for key in evaluations_of(record, suite)]
    settings = settings_of(chosen)
    rows = []
    for record, key in chosen:
        evaluation = record.evaluations[key]
        metrics = {name: checkpoint["metrics"] for name, checkpoint in evaluation["checkpoints"].items()}
        metrics["run"] = evaluation["run"] | {f"cost/{name}": value for name, value in record.cost.items()}
        setting = settings[record.digest, key]
        identity = [record.study, record.attack, record.penalty, setting, record.kind, record.digest, key, record.seed]
        rows += [[*identity, checkpoint, name, value] for checkpoint in metrics for name, value in metrics[checkpoint].items()]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})


def evaluations_of(record: RunRecord, suite: str) -> list[str]:
    """Keys of a finished run's evaluations by the suites of this name."""
    return [key for key in record.evaluations if record.finished and key.rpartition("-")[0] == suite]


def choose_suite(records: Iterable[RunRecord], wanted: str | None = None) -> str:
    """The wanted suite, or the one that most finished runs have, by its name.

    Raises:
        ValueError: no run is finished, or none has that suite.
    """
    found = [{key.rpartition("-")[0] for key in record.evaluations} for record in records if record.finished]
    counts = Counter(name for names in found for name in names)
    if wanted is not None and wanted not in counts:
        raise ValueError(
            f"suite={wanted}: no finished run was evaluated by it; there are {', '.join(sorted(counts)) or 'none'}"
        )
    if not counts:
        raise ValueError("nothing to report: no run is finished")
    return wanted or min(counts, key=lambda name: (-counts[name], name))


def settings_of(chosen: Iterable[tuple[RunRecord, str]]) -> dict[tuple[str, str], str]:
    """By digest and suite: "key=value, …" for the values in which cells of one attack and penalty differ; else empty."""
    groups: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = defaultdict(dict)
    for record, key in chosen:
        values = {name: value for name, value in record.config.items() if name not in NOT_IDENTITY}
        values["evaluation"] = record.evaluations[key]["suite"]
        groups[record.attack, record.penalty][record.digest, key] = _flat(values)
    texts = {}
    for cells in groups.values():
        differing = [
            key
            for key in sorted(set().union(*cells.values()))
            if len({repr(cell.get(key)) for cell in cells.values()}) > 1 and not PARTS_OF_A_SUITE.match(key)
        ]
        # One number often stands in several places (a threat in the data, the attack and the evaluation): the first is named.
        shown: dict[tuple[str, ...], str] = {}
        for key in differing:
            shown.setdefault(tuple(repr(cell.get(key)) for cell in cells.values()), key)
        for identity, cell in cells.items():
            texts[identity] = ", ".join(f"{key}={cell.get(key)}" for key in shown.values())
    return texts


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
