"""Functions shared by the benchmarks: configs, a Trainer that writes no files, clocks, and a description of the machine."""

import logging
import os
import platform
import time
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from temper.config.composed import CONF
from temper.config.resolvers import cores, register_resolvers
from temper.config.run_config import RunConfig, parse
from temper.runs.provenance import provenance
from temper.training.callbacks import Cost, Curves
from temper.training.classifier import Classifier


def begin() -> None:
    """Set up a benchmark process: one thread, no warnings, resolvers. Call it first, once per process."""
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "lightning_fabric", "temper"):
        logging.getLogger(name).setLevel(logging.ERROR)
    register_resolvers()
    torch.set_num_threads(1)


def composed(*overrides: str) -> RunConfig:
    """Return the config of `temper-train` with these overrides."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return parse(compose("train", overrides=list(overrides)))


def trainer_of(config: RunConfig, module: Classifier, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    """Return the Trainer of a config with the callbacks of every run, without checkpoints and loggers.

    Args:
        config: the run's config.
        module: the module to train, whose penalties add callbacks.
        *callbacks: further callbacks.
        **options: further arguments of the Trainer.
    """
    trainer: pl.Trainer = config.trainer.build(
        callbacks=[Curves(), Cost(), *module.penalties.callbacks(), *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    return trainer


def now(device: torch.device) -> float:
    """Return seconds of a clock that all processes of the machine share, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def spent(device: torch.device) -> float:
    """Return seconds of work: CPU time of this process on a CPU, unaffected by other processes; wall-clock time on a GPU."""
    return time.process_time() if device.type == "cpu" else now(device)


def machine(device: torch.device) -> str:
    """Return a line with the hardware, its current load and the software versions."""
    hardware = provenance()["hardware"]
    name = hardware["gpu"] if device.type == "cuda" else hardware["cpu"]
    versions = f"python {platform.python_version()}, torch {torch.__version__}"
    return f"{name}, {cores()} cores, load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} thread(s), {versions}"


def outcome(met: bool) -> str:
    """Return whether a goal is met as a word."""
    return "MET" if met else "MISSED"
