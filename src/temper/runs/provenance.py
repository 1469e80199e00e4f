"""What made a run: the code, its commit, the versions of what it builds on, and the machine."""

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
# Code that decides what runs or how results are shown, and cannot change a result.
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
    """Name of a suite and digest of its settings, and of the code of attacks from outside: evaluations of one run by several
    suites lie beside each other."""
    text = json.dumps(evaluation, sort_keys=True)
    for path in sorted(_outside(targets_of(evaluation))):
        text += path.read_text()
    return f"{evaluation['name']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def code_digest(targets: Iterable[str] = ()) -> str:
    """Digest of this package and of the modules that a config's `_target_`s name outside of it.

    Read once per process, since what is edited later is not what runs.
    """
    return _digest(frozenset(targets))


@cache
def _digest(targets: frozenset[str]) -> str:
    package = Path(__file__).parents[1]
    files = {path for path in package.rglob("*.py") if not path.relative_to(package).as_posix().startswith(NO_RESULT)}
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
