"""Loggers mirror the record and the curves; they are never their source."""

import logging
import re
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import CSVLogger, Logger

from temper.config.cell import Cell, identity
from temper.config.errors import explain
from temper.config.instantiate import build
from temper.runs.provenance import code_digest, targets_of
from temper.runs.record import RunRecord
from temper.training.wandb_logger import WandbLogger

log = logging.getLogger("temper")


def build_loggers(config: DictConfig, folder: Path) -> list[Logger]:
    """Every logger of the config (`logger=csv`, `logger=wandb`, `logger=[csv,wandb]`), writing into the run's folder.

    Raises:
        ConfigError: a setting is wrong, or the logger's library is not installed.
    """
    loggers: list[Logger] = []
    for name, settings in config.logger.items():
        # Only here, since all of the config is digested for it.
        is_wandb = settings.get("_target_") == "temper.training.wandb_logger.WandbLogger"
        own: dict[str, Any] = {"content": content(config)} if is_wandb else {}
        loggers.append(build(config, f"logger.{name}", save_dir=str(folder), **own))
    return loggers


def content(config: DictConfig) -> dict[str, str]:
    """What W&B calls a run, from its content: runs of a cell are a group, and the kind is their job type.

    The id holds study, cell, seed, and the code, since what other code makes continues no curve.
    """
    cell, code = Cell.of(config), code_digest(targets_of(identity(config)))
    # W&B refuses some characters in an id, and more than 128 of them.
    run_id = re.sub(r"[^\w.-]", "_", f"{str(config.study)[:80]}-{cell.digest}-{config.seed}-{code}")
    return {"id": run_id, "name": f"{cell.name}/seed-{config.seed}", "group": cell.name, "job_type": str(cell.kind)}


def show_config(loggers: list[Logger], record: RunRecord) -> None:
    """Tell every logger the config, and W&B, which groups runs by it, also which cell that is and what code made it."""
    also = {
        "cell": {"attack": record.attack, "penalty": record.penalty, "kind": record.kind, "digest": record.digest},
        "made_by": {"code": record.code, "commit": record.commit, "dirty": record.dirty, "versions": record.versions},
    }
    for logger in loggers:
        logger.log_hyperparams(record.config | also if isinstance(logger, WandbLogger) else record.config)


def close_loggers(loggers: list[Logger], record: RunRecord, suite: str, status: int) -> None:
    """Hand the final numbers of a run to every logger that shows them, and end its own run with this exit status.

    A W&B run that is not finished here would swallow the next job of this process, and a failed one would read as finished.

    Args:
        record: of the run, written already.
        suite: key of the evaluation, in the record or not.
    """
    evaluation = record.evaluations.get(suite)
    checkpoints = evaluation["checkpoints"] if evaluation else {}
    metrics = {
        f"{checkpoint}/{name}": v for checkpoint in checkpoints for name, v in checkpoints[checkpoint]["metrics"].items()
    }
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _end(logger, record, suite, status)
        else:
            if metrics and not isinstance(logger, CSVLogger):
                logger.log_metrics(metrics)
            logger.finalize("success" if status == 0 else "failed")
    if "wandb" in sys.modules:  # of a logger that is not ours
        sys.modules["wandb"].finish(exit_code=status)


def _end(mirror: WandbLogger, record: RunRecord, suite: str, status: int) -> None:
    """What cannot be shown fails no run: its record is written already."""
    try:
        if suite in record.evaluations:
            mirror.conclude(record, suite)
    except Exception as error:  # whatever W&B raises
        log.warning("warning: W&B does not show everything of this run: %s", explain(error))
    finally:
        mirror.finish(status, record.error)
