"""Records as a long-format table, one row per run, checkpoint and metric, with the settings that distinguish cells."""

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from temper.config.cell import NOT_IDENTITY
from temper.config.composed import flat
from temper.config.types import number_text
from temper.report.records.recipe import recipe_of
from temper.runs.record import RunRecord

COLUMNS = [
    "study",
    "attack",
    "penalty",
    "setting",
    "kind",
    "digest",
    "suite",
    "recipe",
    "seed",
    "checkpoint",
    "metric",
    "value",
]
RUN_COLUMNS = ["study", "digest", "suite", "seed", "checkpoint"]
# The attacks of a suite repeat its threat.
SUITE_THREAT_COPIES = re.compile(r"evaluation\.(?!threat)[\w.]+\.threat\.")
Key = TypeVar("Key", bound=Hashable)


def evaluation_keys(record: RunRecord, suite: str | None = None) -> list[str]:
    """Return the keys of a finished run's evaluations.

    Evaluations without checkpoints are left out: they hold no metric of the test set.

    Args:
        record: a run.
        suite: keep only evaluations by suites of this name; None keeps all.
    """
    keys = [key for key, evaluation in record.evaluations.items() if record.finished and evaluation["checkpoints"]]
    return keys if suite is None else [key for key in keys if _suite_name(key) == suite]


def choose_suite(records: Iterable[RunRecord], wanted: str | None = None) -> str:
    """Return the name of the suite to report.

    Args:
        records: runs.
        wanted: name of a suite; None: the one that evaluated the most finished runs, and among equals the one with the most
            attacks, because it covers most of what the study is about.

    Raises:
        ValueError: no run is finished, or no finished run was evaluated by the wanted suite.
    """
    counts: Counter[str] = Counter()
    attacks: Counter[str] = Counter()
    for record in records:
        keys = {_suite_name(key): key for key in evaluation_keys(record)}
        counts.update(keys.keys())
        for name, key in keys.items():
            attacks[name] = max(attacks[name], len(record.attacks(key)))
    if wanted is not None and wanted not in counts:
        available = ", ".join(sorted(counts)) or "none"
        raise ValueError(f"suite={wanted}: no finished run was evaluated by this suite. Available: {available}.")
    if not counts:
        raise ValueError("no run is finished and evaluated: there is nothing to report. Finish a run first.")
    return wanted or min(counts, key=lambda name: (-counts[name], -attacks[name], name))


def full_frame(records: Sequence[RunRecord], suite: str) -> pd.DataFrame:
    """Return `frame` of a suite, completed with other suites and with validation.

    Args:
        records: runs.
        suite: name of the suite.

    Returns:
        All metrics of this suite, metrics that only other suites measured, and validation accuracy and loss at the epoch of
        each checkpoint; columns as in `frame`.
    """
    data = frame(records, suite)
    validation = _validation(records, data)
    for other in sorted({_suite_name(key) for record in records for key in evaluation_keys(record)} - {suite}):
        more = frame(records, other)
        data = pd.concat([data, more[~more.metric.isin(data.metric)]], ignore_index=True)
    return pd.concat([data, validation], ignore_index=True)


def frame(records: Iterable[RunRecord], suite: str) -> pd.DataFrame:
    """Return all metrics of all finished runs under the suites of one name, in long format with `COLUMNS`.

    `checkpoint` is best, last, or `run` for metrics of the run as a whole (cost, gaps between checkpoints).
    `setting` distinguishes cells of the same attack and penalty by the config values in which they differ, in training or in
    evaluation. `recipe` holds digests of all settings, by which cells of different names are paired; see
    `temper.report.records.recipe`. A value that is not finite is missing (NaN).

    Args:
        records: runs.
        suite: name of the suite.
    """
    records = list(records)
    chosen = [(record, key) for record in records for key in evaluation_keys(record, suite)]
    settings = distinguishing_settings(chosen, among=records)
    recipes = {record.digest: recipe_of(record) for record in {record.digest: record for record, _ in chosen}.values()}
    rows = []
    for record, key in chosen:
        evaluation = record.evaluations[key]
        metrics = {name: checkpoint["metrics"] for name, checkpoint in evaluation["checkpoints"].items()}
        metrics["run"] = evaluation["run"] | {f"cost/{name}": value for name, value in record.cost.items()}
        setting = settings[record.digest, key]
        identity: list[Any] = [record.study, record.attack, record.penalty, setting, record.kind]
        identity += [record.digest, key, recipes[record.digest], record.seed]
        rows += [[*identity, checkpoint, name, value] for checkpoint in metrics for name, value in metrics[checkpoint].items()]
    return _finite(pd.DataFrame(rows, columns=COLUMNS))


def _validation(records: Sequence[RunRecord], data: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for record in records:
        curves = {name: values for name, values in record.curves.items() if name.startswith("val/")}
        for key in evaluation_keys(record):
            for name, checkpoint in record.evaluations[key]["checkpoints"].items():
                run, epoch = (record.study, record.digest, key, record.seed, name), checkpoint.get("epoch")
                values = {} if epoch is None else {m: curve[epoch] for m, curve in curves.items() if epoch < len(curve)}
                rows += [(*run, metric, value) for metric, value in values.items()]
    validation = _finite(pd.DataFrame(rows, columns=[*RUN_COLUMNS, "metric", "value"]))
    runs = data[data.columns.difference(["metric", "value"])].drop_duplicates(RUN_COLUMNS)
    return runs.merge(validation, on=RUN_COLUMNS)[COLUMNS]


def _finite(data: pd.DataFrame) -> pd.DataFrame:
    data = data.astype({"value": float})
    return data.assign(value=data.value.where(np.isfinite(data.value)))


def distinguishing_settings(
    chosen: Iterable[tuple[RunRecord, str]], among: Iterable[RunRecord] | None = None
) -> dict[tuple[str, str], str]:
    """Return the settings that distinguish cells of one name.

    Args:
        chosen: runs, each with the key of one of its evaluations.
        among: all runs that must be distinguishable, evaluated by any suite; None: the chosen ones.

    Returns:
        By digest of the cell and key of the evaluation, "key=value, …": the values in which cells of one attack and penalty
        differ in training, then those in which evaluations of one cell differ. Empty if there is no difference.
    """
    chosen = list(chosen)
    training: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for record in [record for record, _ in chosen] if among is None else filter(evaluation_keys, among):
        if record.digest not in training[record.attack, record.penalty]:
            values = {name: value for name, value in record.config.items() if name not in NOT_IDENTITY}
            training[record.attack, record.penalty][record.digest] = values
    trained = differing_settings(training.values())
    evaluation: dict[tuple[str, str, str], dict[tuple[str, str], dict[str, Any]]] = defaultdict(dict)
    for record, key in chosen:
        group = evaluation[record.attack, record.penalty, trained[record.digest]]
        group.setdefault((record.digest, key), {"evaluation": record.evaluations[key]["suite"]})
    evaluated = differing_settings(evaluation.values())
    return {key: ", ".join(filter(None, [trained[key[0]], setting])) for key, setting in evaluated.items()}


def differing_settings(groups: Iterable[Mapping[Key, Mapping[str, Any]]]) -> dict[Key, str]:
    """Return the config values in which cells differ from the others of their group.

    Args:
        groups: nested config values of cells, by any key.

    Returns:
        By key, "key=value, …"; empty if the cell does not differ.
    """
    texts = {}
    for group in groups:
        cells = {identity: flat(values) for identity, values in group.items()}
        differing = [
            key
            for key in sorted(set().union(*cells.values()))
            if len({repr(cell.get(key)) for cell in cells.values()}) > 1 and not SUITE_THREAT_COPIES.match(key)
        ]
        # One value often occurs at several keys (a threat in the data, the attack and the evaluation): show the first only.
        shown: dict[tuple[str, ...], str] = {}
        for key in differing:
            shown.setdefault(tuple(repr(cell.get(key)) for cell in cells.values()), key)
        for identity, cell in cells.items():
            texts[identity] = ", ".join(f"{key}={number_text(cell.get(key))}" for key in shown.values())
    return texts


def _suite_name(key: str) -> str:
    return key.rpartition("-")[0]
