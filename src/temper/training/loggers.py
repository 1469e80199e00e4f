"""Loggers of a run: built from the config, given the config and the final metrics, closed with the exit status.

They copy the record and the curves and are never their source.
"""

import logging
import re
import sys
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger

from temper.config.errors import explain
from temper.config.node import target_of
from temper.config.run_config import RunConfig
from temper.runs.identity import RunIdentity
from temper.runs.record import RunRecord
from temper.training.wandb_logger import WandbLogger

log = logging.getLogger("temper")


def build_loggers(run: RunConfig, identity: RunIdentity) -> list[Logger]:
    """Build every logger of a run (`logger=csv`, `logger=wandb`, `logger=[csv,wandb]`).

    Args:
        run: the run.
        identity: its identity; the loggers write into its folder.

    Raises:
        ConfigError: a setting is wrong, or the logger's library is not installed.
    """
    loggers: list[Logger] = []
    for node in run.logger.values():
        arguments: dict[str, Any] = {}
        if target_of(node.target, node.key) is WandbLogger:
            arguments["content"] = wandb_identity(run.study, identity)
        loggers.append(node.build(save_dir=str(identity.folder), **arguments))
    return loggers


def wandb_identity(study: str, identity: RunIdentity) -> dict[str, str]:
    """Return `id`, `name`, `group` (the cell) and `job_type` (the kind) of a W&B run.

    The id consists of study, cell, seed and code digest: a run of different code must not continue the curves.

    Args:
        study: name of the study.
        identity: the run's identity.
    """
    cell = identity.cell
    # W&B rejects some characters in an id, and ids of more than 128 characters.
    run_id = re.sub(r"[^\w.-]", "_", f"{study[:80]}-{cell.digest}-{identity.seed}-{identity.code}")
    return {"id": run_id, "name": f"{cell.name}/seed-{identity.seed}", "group": cell.name, "job_type": str(cell.kind)}


def log_config(loggers: list[Logger], record: RunRecord) -> None:
    """Log the config to every logger; W&B, which groups runs by config values, also gets the cell and the code's provenance.

    Args:
        loggers: the loggers.
        record: record of the run.
    """
    for_wandb = {
        "cell": {"attack": record.attack, "penalty": record.penalty, "kind": record.kind, "digest": record.digest},
        "made_by": {"code": record.code, "commit": record.commit, "dirty": record.dirty, "versions": record.versions},
    }
    for logger in loggers:
        logger.log_hyperparams(record.config | for_wandb if isinstance(logger, WandbLogger) else record.config)


def close_loggers(loggers: list[Logger], record: RunRecord, suite: str, status: int) -> None:
    """Log the final metrics of a run to every logger that shows them, and close the loggers.

    A W&B run left open would absorb the next job of this process, and a failed run would appear as finished.

    Args:
        loggers: the loggers.
        record: record of the run, already written.
        suite: key of the evaluation suite; the record has no such evaluation if the run failed.
        status: exit status of the run.
    """
    evaluation = record.evaluations.get(suite)
    checkpoints = evaluation["checkpoints"] if evaluation else {}
    metrics = {
        f"{checkpoint}/{name}": v for checkpoint in checkpoints for name, v in checkpoints[checkpoint]["metrics"].items()
    }
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _close_wandb(logger, record, suite, status)
        else:
            if metrics and not isinstance(logger, CSVLogger):
                logger.log_metrics(metrics)
            logger.finalize("success" if status == 0 else "failed")
    if "wandb" in sys.modules:  # for loggers other than WandbLogger
        sys.modules["wandb"].finish(exit_code=status)


def _close_wandb(wandb_logger: WandbLogger, record: RunRecord, suite: str, status: int) -> None:
    """Log final results and finish; errors of W&B are only warnings, since the record is already written."""
    try:
        if suite in record.evaluations:
            wandb_logger.log_final(record, suite)
    except Exception as error:  # W&B can raise anything
        log.warning("warning: some results of this run were not logged to W&B: %s", explain(error))
    finally:
        wandb_logger.finish(status, record.error)
