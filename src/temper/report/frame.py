"""Records as a table of numbers: one row per run, checkpoint and metric."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pandas as pd

from temper.records import RunRecord

COLUMNS = ["study", "attack", "penalty", "setting", "kind", "digest", "seed", "checkpoint", "metric", "value"]


def frame(records: Iterable[RunRecord], suite: str) -> pd.DataFrame:
    """All numbers of all finished runs that one suite evaluated, in long form with `COLUMNS`.

    `checkpoint` is best, last, or `run` for what belongs to the run as a whole (cost, gaps between checkpoints).
    `setting` tells apart cells of the same attack and penalty by the config values in which they differ.
    """
    chosen = [record for record in records if record.has(suite)]
    settings = _settings(chosen)
    rows = []
    for record in chosen:
        evaluation = record.evaluations[suite]
        metrics = {name: checkpoint["metrics"] for name, checkpoint in evaluation["checkpoints"].items()}
        metrics["run"] = evaluation["run"] | {f"cost/{name}": value for name, value in record.cost.items()}
        identity = [
            record.study,
            record.attack,
            record.penalty,
            settings[record.digest],
            record.kind,
            record.digest,
            record.seed,
        ]
        rows += [[*identity, checkpoint, name, value] for checkpoint in metrics for name, value in metrics[checkpoint].items()]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})


def choose_suite(records: Iterable[RunRecord], wanted: str | None = None) -> str:
    """The suite (name and digest) that most finished runs have, or most of those with the wanted name.

    Raises:
        ValueError: no run is finished, or none has that suite.
    """
    counts = Counter(suite for record in records if record.finished for suite in record.evaluations)
    named = {suite: n for suite, n in counts.items() if wanted is None or wanted in (suite, suite.rpartition("-")[0])}
    if not named:
        there = f"; there are {', '.join(sorted(counts))}" if counts else ": no run is finished"
        raise ValueError(
            f"suite={wanted}: no finished run was evaluated by it{there}" if wanted else f"nothing to report{there}"
        )
    return min(named, key=lambda suite: (-named[suite], suite))


def _settings(records: list[RunRecord]) -> dict[str, str]:
    """By digest: "key=value, …" for the values in which cells of one attack and penalty differ; empty where there is one."""
    groups: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for record in records:
        identity = {
            key: value for key, value in record.config.items() if key not in ("seed", "study", "paths", "logger", "threads")
        }
        groups[record.attack, record.penalty][record.digest] = _flat(identity)
    texts = {}
    for cells in groups.values():
        keys = sorted(set().union(*cells.values()))
        differing = [key for key in keys if len({repr(cell.get(key)) for cell in cells.values()}) > 1]
        for digest, cell in cells.items():
            texts[digest] = ", ".join(f"{key}={cell.get(key)}" for key in differing)
    return texts


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
