"""Provenance of a run: code digest, commit, package versions and hardware."""

import hashlib
import importlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from temper.config.resolvers import cores

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "torchmetrics", "torchattacks", "foolbox", "numpy")
# Files and folders left out of the code digest: they select runs or present results and cannot change a result.
NO_RESULT = (
    "report/",
    "sweeps/",
    "cli/",
    "config/resolvers.py",
    "runs/gpu_slots.py",
    "runs/jobs.py",
    "runs/lock.py",
    "runs/parent_watch.py",
    "runs/plans.py",
    "runs/terminal.py",
    "training/loggers.py",
    "training/progress_bar.py",
    "training/wandb_logger.py",
    "training/wandb_summary.py",
)


def suite_key(evaluation: Mapping[str, Any]) -> str:
    """Return the key of an evaluation suite: its name and a digest of its settings and of the code of external attacks.

    Evaluations of one run by different suites are stored under different keys.

    Args:
        evaluation: the config's `evaluation` group as plain values.
    """
    text = json.dumps(evaluation, sort_keys=True)
    for path in sorted(_external_files(targets_of(evaluation))):
        text += path.read_text()
    return f"{evaluation['name']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def code_digest(targets: Iterable[str] = ()) -> str:
    """Return a digest of this package's code and of the external modules that a config's `_target_`s name.

    The files are read once per process, since later edits do not change the running code.

    Args:
        targets: the `_target_`s of the config.
    """
    return _digest(frozenset(targets))


@cache
def _digest(targets: frozenset[str]) -> str:
    package = Path(__file__).parents[1]
    files = {path for path in package.rglob("*.py") if not path.relative_to(package).as_posix().startswith(NO_RESULT)}
    files |= _external_files(targets)
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _external_files(targets: Iterable[str]) -> set[Path]:
    """Return the source files of the `_target_`s outside this package and its main dependencies."""
    internal = ("temper", "torch", "pytorch_lightning", "torchvision")
    return set().union(*(_source_file(target) for target in targets if target.partition(".")[0] not in internal))


def targets_of(config: Any) -> set[str]:
    """Return every `_target_` in a plain config."""
    if isinstance(config, Mapping):
        target = {config["_target_"]} if isinstance(config.get("_target_"), str) else set()
        return target.union(*(targets_of(value) for value in config.values()))
    return set().union(*(targets_of(value) for value in config)) if isinstance(config, list) else set()


def _source_file(target: str) -> set[Path]:
    """Return the file that defines a `_target_`, or the empty set if it cannot be found."""
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
    """Return commit and state of this code's repository, package versions and hardware, as of the first call.

    Returns:
        `commit` and `dirty` (None outside of a repository), `versions` by package, and `hardware`.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return result.stdout.strip() if result.returncode == 0 else None

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
