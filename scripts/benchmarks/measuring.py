"""What benchmarks share: configs, a Trainer that leaves nothing behind, the device's clock, and a line about the machine."""

import logging
import os
import platform
import time
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from temper.config.composed import CONF
from temper.config.instantiate import build
from temper.config.resolvers import cores, register_resolvers
from temper.runs.provenance import provenance
from temper.training.callbacks import Cost, Curves
from temper.training.classifier import Classifier


def begin() -> None:
    """Once in a process, before all else: one thread, and no advice of libraries between the numbers."""
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "lightning_fabric", "temper"):
        logging.getLogger(name).setLevel(logging.ERROR)
    register_resolvers()
    torch.set_num_threads(1)


def composed(*overrides: str) -> DictConfig:
    """The config that `temper-train` would have with these overrides."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", overrides=list(overrides))


def trainer_of(config: DictConfig, module: Classifier, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    """The Trainer of a config, with what every run brings but checkpoints and loggers."""
    trainer: pl.Trainer = build(
        config,
        "trainer",
        callbacks=[Curves(), Cost(), *module.penalties.callbacks(), *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    return trainer


def now(device: torch.device) -> float:
    """Seconds on a clock that all processes of the machine share, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def spent(device: torch.device) -> float:
    """Seconds of work: on the CPU of this process alone, whatever else the machine does; on a GPU by the clock."""
    return time.process_time() if device.type == "cpu" else now(device)


def machine(device: torch.device) -> str:
    """What the numbers were measured on and with, and how busy it was before."""
    hardware = provenance()["hardware"]
    name = hardware["gpu"] if device.type == "cuda" else hardware["cpu"]
    versions = f"python {platform.python_version()}, torch {torch.__version__}"
    return f"{name}, {cores()} cores, load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} thread(s), {versions}"
