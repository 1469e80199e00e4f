"""Identity of a run: the settings and the code that must match before its results are reused."""

import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from temper.config.cell import Cell, identity, run_folder
from temper.config.run_config import RunConfig

PACKAGE = Path(__file__).parents[1]
# The code that can change a result. An edit anywhere else (reports, sweeps, commands, loggers) makes no record stale.
RESULT_CODE = (
    "attacks/",
    "data/",
    "evaluation/",
    "models/",
    "penalties/",
    "schedules.py",
    "config/node.py",
    "config/types.py",
    "runs/seeding.py",
    "training/callbacks.py",
    "training/checkpoints.py",
    "training/classifier.py",
    "training/distributed.py",
    "training/epoch_losses.py",
    "training/fit.py",
    "training/modules.py",
)
LIBRARIES = ("temper", "torch", "pytorch_lightning", "torchvision")


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """Identity of a run, computed once and passed on.

    Attributes:
        cell: what all its seeds have in common.
        seed: the seed.
        code: digest of the code that trains it, including attacks and penalties from outside.
        suite: key of the suite that evaluates it, which names its evaluation in the record.
        folder: the run's folder.
    """

    cell: Cell
    seed: int
    code: str
    suite: str
    folder: Path

    @classmethod
    def of(cls, run: RunConfig, folder: Path | None = None) -> Self:
        """Return the identity of a run.

        Args:
            run: the run.
            folder: its folder, where it is not the one that its content names.

        Raises:
            ConfigError: `ckpt_path` names no file.
        """
        cell = Cell.of(run)
        return cls(
            cell=cell,
            seed=run.seed,
            code=code_digest(targets_of(identity(run))),
            suite=suite_key(run.evaluation.plain()),
            folder=folder or run_folder(run, cell),
        )

    def with_seed(self, seed: int) -> Self:
        """Return the identity of the run of the same cell with another seed."""
        return replace(self, seed=seed, folder=self.folder.with_name(f"seed-{seed}"))


def suite_key(evaluation: Mapping[str, Any]) -> str:
    """Return the name of a suite with the digest of its settings and of the code of attacks from outside."""
    text = json.dumps(evaluation, sort_keys=True)
    for path in sorted(_outside(targets_of(evaluation))):
        text += path.read_text()
    return f"{evaluation['name']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def code_digest(targets: Iterable[str] = ()) -> str:
    """Return the digest of the code of this package that can change a result, and of the modules of other `_target_`s.

    It is computed once per process: later edits do not affect the running code.
    """
    return _digest(frozenset(targets))


@cache
def _digest(targets: frozenset[str]) -> str:
    own = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).as_posix().startswith(RESULT_CODE)]
    digest = hashlib.sha256()
    for path in sorted({*own, *_outside(targets)}):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def targets_of(config: Any) -> set[str]:
    """Return every `_target_` in plain values."""
    if isinstance(config, Mapping):
        own = {config["_target_"]} if isinstance(config.get("_target_"), str) else set()
        return own.union(*(targets_of(value) for value in config.values()))
    return set().union(*(targets_of(value) for value in config)) if isinstance(config, list) else set()


def _outside(targets: Iterable[str]) -> set[Path]:
    """Return the files of targets that neither this package nor a library that it records the version of defines."""
    return set().union(*(_source(target) for target in targets if target.partition(".")[0] not in LIBRARIES))


def _source(target: str) -> set[Path]:
    """Return the file that defines a target, if it can be found."""
    module = target
    while "." in module:
        module = module.rpartition(".")[0]
        try:
            file = importlib.import_module(module).__file__
        except ImportError:
            continue
        return {Path(file)} if file else set()
    return set()
