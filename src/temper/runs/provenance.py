"""Provenance of a run: commit, package versions and hardware."""

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from temper.config.resolvers import cores

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "torchmetrics", "torchattacks", "foolbox", "numpy")


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
