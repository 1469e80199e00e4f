"""Loggers mirror the record and the curves; they are never their source."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import CSVLogger, Logger

from temper.build import build


def build_loggers(config: DictConfig, folder: Path) -> list[Logger]:
    """Every logger of the config (`logger=csv`, `logger=wandb`, `logger=[csv,wandb]`), writing into the run's folder.

    Raises:
        ConfigError: a setting is wrong, or the logger's library is not installed.
    """
    return [build(config, f"logger.{name}", save_dir=str(folder)) for name in config.logger]


def close_loggers(loggers: list[Logger], evaluation: Mapping[str, Any] | None, status: int) -> None:
    """Hand the final metrics to every logger that shows them, and end its run with this exit status.

    A W&B run that is not finished here would swallow the next job of this process, and a failed one would read as finished.
    """
    checkpoints = evaluation["checkpoints"] if evaluation else {}
    metrics = {
        f"{checkpoint}/{name}": v for checkpoint in checkpoints for name, v in checkpoints[checkpoint]["metrics"].items()
    }
    for logger in loggers:
        if metrics and not isinstance(logger, CSVLogger):
            logger.log_metrics(metrics)
        logger.finalize("success" if status == 0 else "failed")
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish(exit_code=status)
