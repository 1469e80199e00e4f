"""Record of a run: one `result.json` with everything that tables, figures and statistics need."""

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from temper.config.cell import Kind
from temper.config.types import InEps, parse_step_size
from temper.runs.atomic_files import atomic_write, partial_writes
from temper.runs.record_schema import validate_schema

SCHEMA_VERSION = 1
RECORD = "result.json"


@dataclass(kw_only=True)
class RunRecord:
    """Record of one run.

    Attributes:
        status: "finished", or "failed" with `error`.
        study, attack, penalty, kind, digest, seed: identity of the run; see `temper.config.cell.Cell`.
        config: the full resolved config as plain values.
        code: digest of the code that made the run, including external attacks and penalties.
        commit, dirty: state of the repository, None outside of one.
        versions, hardware: see `temper.runs.provenance.provenance`.
        threads: CPU threads of the run.
        epochs: number of epochs trained.
        weights: the evaluated weights: "trained", or the penalty that replaces them (ema, swa, early_stopping) from its first
            average on.
        epoch: epoch of these weights, from 0: the last one, or the one that early stopping chose.
        curves: by metric, one value per epoch.
        cost: `seconds` of training alone, `gradient_evaluations` per example and epoch, `peak_memory` in MiB, and
            `wall_seconds` from start to end.
        evaluations: by suite key: `suite` (its config), `versions` (of attacks that exist in several), `code` (digest of the
            evaluating code), `checkpoints` (by name: `epoch`, `metrics` and `audit`; empty if the test set was not used),
            `run` (metrics of the run as a whole), `seconds`.
        error: message and traceback of a failed run.
        schema_version: version of this format.
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
        """Write the record atomically: a reader finds the old record or the new one. NaN is written as null.

        Args:
            folder: the run's folder.
        """
        text = json.dumps(_finite(dataclasses.asdict(self)), indent=1, allow_nan=False)
        with atomic_write(folder / RECORD) as part:
            part.write_text(text + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the record of a run.

        Args:
            folder: the run's folder.

        Raises:
            OSError: the record is missing or unreadable.
            ValueError: the record is damaged or has another schema version.
        """
        path = folder / RECORD
        try:
            values = json.loads(path.read_text())
            version = values["schema_version"]
            if version != SCHEMA_VERSION:
                raise ValueError(f"schema version {version}, expected {SCHEMA_VERSION}")
            validate_schema(values)
            _rename(values)
            return cls(**values)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged or in an unknown format ({error})") from error

    @property
    def finished(self) -> bool:
        """True if the run is trained and evaluated by at least one suite, possibly on no checkpoint."""
        return self.status == "finished"

    @property
    def monitor(self) -> str:
        """Metric that judges a run without the test set: validation accuracy, robust for adversarial training, else clean."""
        adversarial = self.kind in (Kind.ADVERSARIAL, Kind.COMBINED)
        return f"val/{self.config['validation']['name']}" if adversarial else "val/clean"

    def has(self, suite: str) -> bool:
        """Return True if the run is finished and the suite has evaluated it."""
        return self.finished and suite in self.evaluations

    def attacks(self, suite: str) -> list[str]:
        """Return the names of a suite's attacks, in its order."""
        return list(self.evaluations[suite]["suite"]["attacks"])


def _rename(values: dict[str, Any]) -> None:
    """Convert older records in place: the names of a metric, of the settings of text files, and of OpenML numbers."""
    for evaluation in values.get("evaluations", {}).values():
        if "val/loss_stability" in evaluation["run"]:
            evaluation["run"]["val/loss_instability"] = evaluation["run"].pop("val/loss_stability")
    for part in (values["config"], *(evaluation["suite"] for evaluation in values.get("evaluations", {}).values())):
        _parse_radii(part)
    data = values["config"].get("data")
    source = data.get("source") if isinstance(data, dict) else None
    if isinstance(source, dict) and isinstance(source.get("openml"), int):
        source["openml"] = {source.get("path"): source["openml"]}
    if isinstance(source, dict) and {"train", "label"} <= source.keys():
        labels = source.pop("labels", None)
        positive = labels[1] if isinstance(labels, list) and len(labels) == 2 else None
        source |= {"root": ".", "path": source.pop("train"), "target": source.pop("label"), "positive": positive}


def _parse_radii(part: Any) -> None:
    """Give radii and step sizes that older records hold as text, such as "8/255", the form that the config has today."""
    if not isinstance(part, dict):
        return
    for key, value in part.items():
        if key in ("eps", "step_size") and isinstance(value, str):
            parsed = parse_step_size(value)
            part[key] = str(parsed) if isinstance(parsed, InEps) else parsed
        else:
            _parse_radii(value)


def outcomes_path(folder: Path, suite: str, checkpoint: str) -> Path:
    """Return the path of a checkpoint's per-example outcomes; the file is missing if only the record was copied.

    Args:
        folder: the run's folder.
        suite: key of the evaluation suite.
        checkpoint: name of the checkpoint, "best" or "last".
    """
    return folder / "evaluations" / suite / f"{checkpoint}.npz"


def load_outcomes(folder: Path, suite: str, checkpoint: str) -> dict[str, np.ndarray]:
    """Load a checkpoint's per-example outcomes; see `outcomes_path` for the arguments."""
    with np.load(outcomes_path(folder, suite, checkpoint)) as arrays:
        return dict(arrays)


def collect(study: Path) -> tuple[list[RunRecord], list[str]]:
    """Return every record of a study, in a fixed order, and a message for each that is unreadable or in the wrong folder.

    Args:
        study: the study's folder.
    """
    records, problems = [], []
    for folder in sorted(study.glob("*/seed-*")):
        if not folder.name.removeprefix("seed-").lstrip("-").isdecimal():
            continue  # a run that was set aside
        if not os.path.lexists(folder / RECORD):
            problems += [
                f"{part} is an incomplete record: its run was killed or is still writing it"
                for part in partial_writes(folder / RECORD)
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
                problems.append(f"{folder / RECORD} belongs to another run (digest {record.digest}, seed {record.seed})")
    return sorted(records, key=record_order), problems


def record_order(record: RunRecord) -> tuple[Any, ...]:
    """Return the sort key of records: `none` first."""
    none = (record.attack != "none", record.attack, record.penalty != "none", record.penalty)
    return (*none, record.digest, record.seed)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
