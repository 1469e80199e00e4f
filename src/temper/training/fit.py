"""Training of one run with Lightning, on one device or as one of several ranks."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment

from temper.config.run_config import RunConfig
from temper.data import DataModule
from temper.data.loading import load_data
from temper.models.sync_batch_norm import SynchronizedLayers
from temper.penalties.averaged_weights import BestSoFar
from temper.runs.identity import RunIdentity
from temper.runs.record import RunRecord
from temper.training.callbacks import Cost, Curves, PeakMemory
from temper.training.checkpoints import AtomicCheckpointIO, SaveIdentity, checkpoint_callbacks, checkpoint_to_resume
from temper.training.classifier import Classifier
from temper.training.distributed import LaunchDecision, destroy_process_group, exit_with_leader, receive_decision
from temper.training.loggers import log_config
from temper.training.modules import build_module
from temper.training.progress_bar import TrainingBar

log = logging.getLogger("temper")


def train(
    run: RunConfig,
    data: DataModule,
    identity: RunIdentity,
    record: RunRecord,
    loggers: list[Logger],
    *,
    announce: Callable[[LaunchDecision], None],
    device: str,
    alone: bool,
) -> None:
    """Train a run, from its last checkpoint if there is one, and store epochs, curves and cost in its record.

    Args:
        run: the run.
        data: its data.
        identity: its identity; checkpoints are written into its folder.
        record: its record, changed in place but not written.
        loggers: Lightning loggers.
        announce: called with the launch decision before training; see `temper.training.distributed.broadcast_decision`.
        device: "cpu" or "cuda:<index>".
        alone: False for a job of a sweep, which shows no progress bar.

    Raises:
        KeyboardInterrupt: training was interrupted.
        FloatingPointError: training diverged.
    """
    module = build_module(run)
    curves, cost, penalty_callbacks = Curves(), Cost(), module.penalties.callbacks()
    options: dict[str, Any] = {}
    if device != "cpu" and run.trainer.devices == 1:
        options["devices"] = [torch.device(device).index]
    progress = [TrainingBar()] if alone and sys.stderr.isatty() else []
    callbacks: list[Callback] = [curves, cost, SaveIdentity(identity), *penalty_callbacks, *progress]
    trainer = _trainer(run, module, identity.folder, callbacks, loggers, **options)
    memory = PeakMemory(device)
    log_config(loggers, record)
    checkpoint = checkpoint_to_resume(identity, run.ckpt_path)
    announce(LaunchDecision(train=True, checkpoint=checkpoint))
    try:
        trainer.fit(module, data, ckpt_path=checkpoint)
    except SystemExit:  # Lightning turns Ctrl-C into SystemExit
        raise KeyboardInterrupt from None
    destroy_process_group()
    record.epochs = trainer.current_epoch
    record.weights = module.penalties.weights_from or "trained"
    record.epoch = next((c.epoch for c in penalty_callbacks if isinstance(c, BestSoFar)), record.epochs - 1)
    record.curves = curves.values
    record.cost = {
        "seconds": cost.seconds,
        "gradient_evaluations": cost.gradient_evaluations,
        "peak_memory": memory.mebibytes(),
    }


def join(run: RunConfig, folder: Path) -> None:
    """Train as a rank other than 0, if rank 0 decides to train.

    Args:
        run: the run.
        folder: the run's folder.

    Raises:
        TimeoutError: rank 0 announced no decision.
    """
    log.setLevel(logging.WARNING)  # rank 0 logs for all
    torch.set_num_threads(run.threads)
    exit_with_leader()
    decision = receive_decision(folder)
    if decision.train:
        module = build_module(run)
        trainer = _trainer(run, module, folder, [Curves(), Cost(), *module.penalties.callbacks()], loggers=[])
        trainer.fit(module, load_data(run), ckpt_path=decision.checkpoint)
        destroy_process_group()


def _trainer(
    run: RunConfig, module: Classifier, folder: Path, callbacks: list[Callback], loggers: list[Logger], **options: Any
) -> pl.Trainer:
    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # submitit requeues
    if run.trainer.get("sync_batchnorm") and run.trainer.accelerator == "cpu":
        plugins.append(SynchronizedLayers())
        options["sync_batchnorm"] = False
    trainer: pl.Trainer = run.trainer.build(
        callbacks=[*callbacks, *checkpoint_callbacks(folder / "checkpoints", module.monitor)],
        logger=loggers,
        plugins=plugins,
        default_root_dir=str(folder),
        enable_model_summary=False,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        **options,
    )
    return trainer
