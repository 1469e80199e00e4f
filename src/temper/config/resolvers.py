"""Interpolations of temper's configs: the name of a cell, the number of workers, the measures of a data set."""

import json
import netrc
import os
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import urlparse

from omegaconf import DictConfig, OmegaConf

from temper.config.errors import ConfigError


def register_resolvers() -> None:
    """Register `${temper.…}` with OmegaConf, once per process that composes a config."""
    resolvers: dict[str, Callable[..., Any]] = {
        "temper.run": run_name,
        "temper.workers": workers,
        "temper.gpus": lambda accelerator, devices: devices if accelerator in ("gpu", "cuda", "auto") else None,
        "temper.handlers": lambda mode: ["file"] if "MULTIRUN" in str(mode) else ["console", "file"],
        "temper.wandb_offline": wandb_offline,
        "temper.source": lambda key, *, _root_: of_source(key, _root_.data.source),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def run_name(*, _root_: DictConfig) -> str:
    """Return the folder of a run within its study, such as `pgd+l2-3f9a1c20/seed-0`; wrong values of the config end here."""
    from temper.config.cell import Cell
    from temper.config.run_config import parse

    run = parse(_root_)
    return f"{Cell.of(run).name}/seed-{run.seed}"


def workers(accelerator: Any, runs_per_gpu: Any) -> int:
    """Return the number of parallel runs: `runs_per_gpu` on each GPU if runs use GPUs, one per core otherwise.

    Args:
        accelerator: `trainer.accelerator`.
        runs_per_gpu: parallel runs on one GPU.

    Raises:
        ConfigError: `runs_per_gpu` is not a whole number of at least 1, or it is larger for runs that use no GPU, where it
            would have no effect. This machine need not have a GPU: on a cluster, another one runs the jobs.
    """
    if not isinstance(runs_per_gpu, int) or runs_per_gpu < 1:
        raise ConfigError(f"runs_per_gpu={runs_per_gpu}: should be a whole number of at least 1.")
    if accelerator in ("gpu", "cuda", "auto"):
        import torch

        if torch.cuda.is_available():
            return torch.cuda.device_count() * runs_per_gpu
    elif runs_per_gpu > 1:
        raise ConfigError(
            f"runs_per_gpu={runs_per_gpu}: runs with trainer.accelerator={accelerator} use no GPU and run one per core. "
            "Use trainer=gpu, or leave it at 1."
        )
    return cores()


def of_source(key: str, source: DictConfig) -> Any:
    """Return a measure of a data set's files: their "shape", "classes" or "content" (`temper.data.sources.DatasetInfo`).

    Args:
        key: which measure.
        source: the settings of the source.

    Raises:
        DataError: the files are missing or damaged.
    """
    # Not the content itself, which this may be asked for.
    setting = {name: source[name] for name in source if name != "content"}
    plain = {name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for name, value in setting.items()}
    found = getattr(measured(json.dumps(plain)), key)
    return list(found) if key == "shape" else found


@cache
def measured(setting: str) -> Any:
    """Measure a data source, once per process for all cells that are composed."""
    from temper.config.node import parse_node

    errors: list[str] = []
    source = parse_node(json.loads(setting), "data.source", errors)
    if source is None or errors:
        raise ConfigError("\n".join(errors))
    return source.build().measure()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wandb_offline() -> bool:
    """Return whether W&B has neither a key nor a login on this machine; a set WANDB_MODE decides instead."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode != "online"
    if os.environ.get("WANDB_API_KEY"):
        return False
    try:
        host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
        return netrc.netrc().authenticators(str(host)) is None
    except (OSError, netrc.NetrcParseError):
        return True
