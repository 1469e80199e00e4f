"""What a run leaves behind: one `result.json` that holds all that a table or a test needs to know about it."""

import dataclasses
import hashlib
import importlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

import torch

from temper.cell import Kind
from temper.resolvers import cores
from temper.schema import check
from temper.storage import unfinished, written_whole

SCHEMA_VERSION = 1
RECORD = "result.json"
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "torchmetrics", "torchattacks", "foolbox", "numpy")
# Code that decides what runs or how results are shown, and cannot change a result.
NO_RESULT = (
    "report",
    "mirror",
    "sweeps",
    "train.py",
    "evaluate.py",
    "progress.py",
    "bar.py",
    "cli.py",
    "loggers.py",
    "dashboard.py",
    "resolvers.py",
    "devices.py",
    "claims.py",
    "status.py",
)


@dataclass(kw_only=True)
class RunRecord:
    """One run of one cell.

    Attributes:
        status: "finished", or "failed" with `error`.
        study, attack, penalty, kind, digest, seed: which run this is; see `temper.cell.Cell`.
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
        with written_whole(folder / RECORD) as part:
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


def suite_key(evaluation: Mapping[str, Any]) -> str:
    """Name of a suite and digest of its settings, and of the code of attacks from outside: evaluations of one run by several
    suites lie beside each other."""
    text = json.dumps(evaluation, sort_keys=True)
    for path in sorted(_outside(targets_of(evaluation))):
        text += path.read_text()
    return f"{evaluation['name']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


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


def code_digest(targets: Iterable[str] = ()) -> str:
    """Digest of this package and of the modules that a config's `_target_`s name outside of it.

    Read once per process, since what is edited later is not what runs.
    """
    return _digest(frozenset(targets))


@cache
def _digest(targets: frozenset[str]) -> str:
    package = Path(__file__).parent
    files = {path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in NO_RESULT}
    files |= _outside(targets)
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _outside(targets: Iterable[str]) -> set[Path]:
    """The files of those `_target_`s that neither this package nor a library of its own defines."""
    ours = ("temper", "torch", "pytorch_lightning", "torchvision")
    return set().union(*(_source(target) for target in targets if target.partition(".")[0] not in ours))


def targets_of(config: Any) -> set[str]:
    """Every `_target_` in a plain config."""
    if isinstance(config, Mapping):
        own = {config["_target_"]} if isinstance(config.get("_target_"), str) else set()
        return own.union(*(targets_of(value) for value in config.values()))
    return set().union(*(targets_of(value) for value in config)) if isinstance(config, list) else set()


def _source(target: str) -> set[Path]:
    """The file that defines a `_target_`, if it is one that can be found."""
    module = target
    while "." in module:
        module = module.rpartition(".")[0]
        try:
            file = importlib.import_module(module).__file__
        except ImportError:
            continue
        return {Path(file)} if file else set()
    return set()


@cache
def provenance() -> dict[str, Any]:
    """Commit and state of the repository that this code lies in, versions, and hardware, as they were at the start."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = git("ls-files", "--error-unmatch", __file__) is not None
    changes = git("status", "--porcelain", "--untracked-files=no") if tracked else None
    hardware: dict[str, Any] = {"machine": platform.machine(), "cpu": _cpu(), "cores": cores()}
    if torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    return {
        "commit": git("rev-parse", "HEAD") if tracked else None,
        "dirty": bool(changes) if changes is not None else None,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "hardware": hardware,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
