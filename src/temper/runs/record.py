"""What a run leaves behind: one `result.json` that holds all that a table or a test needs to know about it."""

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from temper.config.cell import Kind
from temper.runs.atomic_files import atomic_write, unfinished
from temper.runs.record_schema import check

SCHEMA_VERSION = 1
RECORD = "result.json"


@dataclass(kw_only=True)
class RunRecord:
    """One run of one cell.

    Attributes:
        status: "finished", or "failed" with `error`.
        study, attack, penalty, kind, digest, seed: which run this is; see `temper.config.cell.Cell`.
        config: all of it, plain and resolved.
        code: digest of the code that made the run, its own attacks and penalties included.
        commit, dirty: of the repository, None outside of one.
        epochs: how many were trained.
        weights: which are evaluated: "trained", or the penalty whose weights stand in for them (ema, swa, early_stopping), from
            its first average on.
        epoch: of these weights, from 0: the last one, or that of early stopping.
        curves: by metric, one value per epoch.
        cost: `seconds` of training alone, `gradient_evaluations` per example and epoch, `peak_memory` in MiB.
        evaluations: by suite and its digest: `suite` (its config), `versions` (of attacks that exist in several), `code` (that
            evaluated), `checkpoints` (by name: `epoch`, `metrics` and `audit`; none where the test set was to stay untouched),
            `run` (metrics of the run as a whole), `seconds`.
    """

    status: Literal["finished", "failed"]
    study: str
    attack: str
    penalty: str
    kind: str
    digest: str
    seed: int
    config: dict[str, Any]
    code: str
    commit: str | None = None
    dirty: bool | None = None
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    epochs: int = 0
    weights: str = "trained"
    epoch: int = -1
    curves: dict[str, list[float]] = field(default_factory=dict)
    cost: dict[str, float | None] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str | None = None
    schema_version: int = SCHEMA_VERSION

    def write(self, folder: Path) -> None:
        """Atomically, so that a reader finds the old record or the new one; NaN becomes null."""
        text = json.dumps(_finite(dataclasses.asdict(self)), indent=1, allow_nan=False)
        with atomic_write(folder / RECORD) as part:
            part.write_text(text + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The record of a run's folder.

        Raises:
            OSError: there is none, or it cannot be read.
            ValueError: it is damaged, or of another schema version.
        """
        path = folder / RECORD
        try:
            values = json.loads(path.read_text())
            found = values["schema_version"]
            if found != SCHEMA_VERSION:
                raise ValueError(f"schema version {found}, this code reads {SCHEMA_VERSION}")
            check(values)
            _rename(values)
            return cls(**values)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged or foreign ({error})") from error

    @property
    def finished(self) -> bool:
        """Trained, and evaluated by one suite at least, be it on no checkpoint."""
        return self.status == "finished"

    @property
    def monitor(self) -> str:
        """What a run is judged by without the test set: clean validation accuracy, robust if it trained against an attack."""
        attacked = self.kind in (Kind.ADVERSARIAL, Kind.COMBINED)
        return f"val/{self.config['validation']['name']}" if attacked else "val/clean"

    def has(self, suite: str) -> bool:
        """Whether the run is finished and was evaluated by this suite."""
        return self.finished and suite in self.evaluations

    def attacks(self, suite: str) -> list[str]:
        """Names of the attacks that a suite ran on this run, in its order."""
        return list(self.evaluations[suite]["suite"]["attacks"])


def _rename(values: dict[str, Any]) -> None:
    """Give older records the names of today: of a metric, of the settings of text files, and of OpenML numbers."""
    for evaluation in values.get("evaluations", {}).values():
        if "val/loss_stability" in evaluation["run"]:
            evaluation["run"]["val/loss_instability"] = evaluation["run"].pop("val/loss_stability")
    data = values["config"].get("data")
    source = data.get("source") if isinstance(data, dict) else None
    if isinstance(source, dict) and isinstance(source.get("openml"), int):
        source["openml"] = {source.get("path"): source["openml"]}
    if isinstance(source, dict) and {"train", "label"} <= source.keys():
        labels = source.pop("labels", None)
        positive = labels[1] if isinstance(labels, list) and len(labels) == 2 else None
        source |= {"root": ".", "path": source.pop("train"), "target": source.pop("label"), "positive": positive}


def outcomes_path(folder: Path, suite: str, checkpoint: str) -> Path:
    """Where a run's folder has what happened to every example under a suite; a record may have been copied without it."""
    return folder / "evaluations" / suite / f"{checkpoint}.npz"


def outcomes_file(folder: Path, suite: str, checkpoint: str) -> dict[str, np.ndarray]:
    """What happened to every example, as an evaluation left it."""
    with np.load(outcomes_path(folder, suite, checkpoint)) as arrays:
        return dict(arrays)


def collect(study: Path) -> tuple[list[RunRecord], list[str]]:
    """Every record of a study, in a fixed order, and a line for each that cannot be read or lies where it does not belong."""
    records, problems = [], []
    for folder in sorted(study.glob("*/seed-*")):
        if not folder.name.removeprefix("seed-").lstrip("-").isdecimal():
            continue  # a run that was set aside
        if not os.path.lexists(folder / RECORD):
            problems += [
                f"{part} is half of a record, whose run was stopped, or is writing it" for part in unfinished(folder / RECORD)
            ]
            continue
        try:
            record = RunRecord.read(folder)
        except OSError as error:
            problems.append(f"{folder / RECORD} cannot be read ({error.strerror})")
        except ValueError as error:
            problems.append(str(error))
        else:
            if folder.parent.name.endswith(f"-{record.digest}") and folder.name == f"seed-{record.seed}":
                records.append(record)
            else:
                problems.append(f"{folder / RECORD} is of another run (digest {record.digest}, seed {record.seed})")
    return sorted(records, key=in_order), problems


def in_order(record: RunRecord) -> tuple[Any, ...]:
    """The order in which records are told: `none` first."""
    none = (record.attack != "none", record.attack, record.penalty != "none", record.penalty)
    return (*none, record.digest, record.seed)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
