"""Records as a table of numbers: one row per run, checkpoint and metric."""

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from temper.config.cell import NOT_IDENTITY
from temper.config.composed import flat
from temper.report.records.recipe import recipe_of
from temper.runs.record import RunRecord

# Where the threat of a suite stands again in each of its parts.
PARTS_OF_A_SUITE = re.compile(r"evaluation\.(?!threat)[\w.]+\.threat\.")
Key = TypeVar("Key", bound=Hashable)
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


def frame(records: Iterable[RunRecord], suite: str) -> pd.DataFrame:
    """All numbers of all finished runs under the suites of one name, in long form with `COLUMNS`.

    `checkpoint` is best, last, or `run` for what belongs to the run as a whole (cost, gaps between checkpoints).
    `setting` tells apart cells of the same attack and penalty by the config values in which they differ, in training or in
    evaluation. `recipe` says what cells of other names have in common; see `temper.report.records.recipe`. A value that is
    not finite is missing (NaN).
    """
    records = list(records)
    chosen = [(record, key) for record in records for key in evaluations_of(record, suite)]
    settings = settings_of(chosen, among=records)
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
    data = pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})
    return data.assign(value=data.value.where(np.isfinite(data.value)))


def evaluations_of(record: RunRecord, suite: str) -> list[str]:
    """Keys of a finished run's evaluations by the suites of this name."""
    return [key for key in evaluated(record) if key.rpartition("-")[0] == suite]


def evaluated(record: RunRecord) -> list[str]:
    """Keys of a finished run's evaluations, those of no checkpoint apart: they hold no number of the test set."""
    return [key for key, evaluation in record.evaluations.items() if record.finished and evaluation["checkpoints"]]


def choose_suite(records: Iterable[RunRecord], wanted: str | None = None) -> str:
    """The wanted suite, or the one that most finished runs have, by its name: of equals the one with the most attacks, which
    tells most of what a study is about.

    Raises:
        ValueError: no run is finished, or none has that suite.
    """
    counts: Counter[str] = Counter()
    attacks: Counter[str] = Counter()
    for record in records:
        keys = {key.rpartition("-")[0]: key for key in evaluated(record)}
        counts.update(keys.keys())
        for name, key in keys.items():
            attacks[name] = max(attacks[name], len(record.attacks(key)))
    if wanted is not None and wanted not in counts:
        raise ValueError(
            f"suite={wanted}: no finished run was evaluated by it; there are {', '.join(sorted(counts)) or 'none'}"
        )
    if not counts:
        raise ValueError("nothing to report: no run is finished")
    return wanted or min(counts, key=lambda name: (-counts[name], -attacks[name], name))


def settings_of(
    chosen: Iterable[tuple[RunRecord, str]], among: Iterable[RunRecord] | None = None
) -> dict[tuple[str, str], str]:
    """By digest and suite: "key=value, …" for the values in which cells of one attack and penalty differ in training, and those
    of one training in evaluation; else empty.

    Args:
        among: all runs that a name has to tell apart, by whatever suite they were evaluated; None: those that are chosen.
    """
    chosen = list(chosen)
    training: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for record in [record for record, _ in chosen] if among is None else filter(evaluated, among):
        if record.digest not in training[record.attack, record.penalty]:
            values = {name: value for name, value in record.config.items() if name not in NOT_IDENTITY}
            training[record.attack, record.penalty][record.digest] = values
    trained = differences(training.values())
    evaluation: dict[tuple[str, str, str], dict[tuple[str, str], dict[str, Any]]] = defaultdict(dict)
    for record, key in chosen:
        group = evaluation[record.attack, record.penalty, trained[record.digest]]
        group.setdefault((record.digest, key), {"evaluation": record.evaluations[key]["suite"]})
    return {place: ", ".join(filter(None, [trained[place[0]], own])) for place, own in differences(evaluation.values()).items()}


def differences(groups: Iterable[Mapping[Key, Mapping[str, Any]]]) -> dict[Key, str]:
    """By key: "key=value, …" for the config values in which it differs from others of its group; empty where it has none."""
    texts = {}
    for group in groups:
        cells = {identity: flat(values) for identity, values in group.items()}
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


RUN = ["study", "digest", "suite", "seed", "checkpoint"]


def evidence(records: Sequence[RunRecord], suite: str) -> pd.DataFrame:
    """Rows as `frame` gives them: all of this suite; of the others the metrics that it lacks; and validation accuracy and loss
    at the epoch of each checkpoint."""
    data = frame(records, suite)
    validation = _validation(records, data)
    for other in sorted({key.rpartition("-")[0] for record in records for key in evaluated(record)} - {suite}):
        more = frame(records, other)
        data = pd.concat([data, more[~more.metric.isin(data.metric)]], ignore_index=True)
    return pd.concat([data, validation], ignore_index=True)


def _validation(records: Sequence[RunRecord], data: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for record in records:
        curves = {name: values for name, values in record.curves.items() if name.startswith("val/")}
        for key in evaluated(record):
            for name, checkpoint in record.evaluations[key]["checkpoints"].items():
                run, epoch = (record.study, record.digest, key, record.seed, name), checkpoint.get("epoch")
                known = {} if epoch is None else {m: values[epoch] for m, values in curves.items() if epoch < len(values)}
                rows += [(*run, metric, value) for metric, value in known.items()]
    found = pd.DataFrame(rows, columns=[*RUN, "metric", "value"]).astype({"value": float})
    found = found.assign(value=found.value.where(np.isfinite(found.value)))
    runs = data[data.columns.difference(["metric", "value"])].drop_duplicates(RUN)
    return runs.merge(found, on=RUN)[COLUMNS]
