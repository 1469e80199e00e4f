"""The training of one run, by Lightning: on one device, or as one of several."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment

from temper.config.instantiate import build
from temper.data import DataModule
from temper.data.loading import load_data
from temper.models.sync_batch_norm import SynchronizedLayers
from temper.penalties.averaged_weights import BestSoFar
from temper.runs.record import RunRecord
from temper.training.callbacks import Cost, Curves, PeakMemory
from temper.training.checkpoints import AtomicCheckpointIO, Provenance, checkpoint_callbacks, checkpoint_to_resume
from temper.training.classifier import Classifier
from temper.training.distributed import LaunchDecision, destroy_process_group, exit_with_leader, receive_decision
from temper.training.loggers import show_config
from temper.training.modules import build_module
from temper.training.progress_bar import TrainingBar

log = logging.getLogger("temper")


def train(
    config: DictConfig,
    data: DataModule,
    folder: Path,
    record: RunRecord,
    loggers: list[Logger],
    *,
    tell: Callable[[LaunchDecision], None],
    device: str,
    alone: bool,
) -> None:
    """Fit, from the last checkpoint if there is one, and note curves and cost."""
    module = build_module(config)
    curves, cost, followers = Curves(), Cost(), module.penalties.callbacks()
    own: dict[str, Any] = {"devices": [torch.device(device).index]} if device != "cpu" and config.trainer.devices == 1 else {}
    shown = [TrainingBar()] if alone and sys.stderr.isatty() else []
    trainer = _trainer(
        config, module, folder, [curves, cost, Provenance(record.code), *followers, *shown], loggers=loggers, **own
    )
    memory = PeakMemory(device)
    show_config(loggers, record)
    checkpoint = checkpoint_to_resume(config, folder / "checkpoints", record.code)
    tell(LaunchDecision(train=True, checkpoint=checkpoint))
    try:
        trainer.fit(module, data, ckpt_path=checkpoint)
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    destroy_process_group()
    record.epochs = trainer.current_epoch
    record.weights = module.penalties.stand_in or "trained"
    record.epoch = next((f.epoch for f in followers if isinstance(f, BestSoFar)), record.epochs - 1)
    record.curves = curves.values
    record.cost = {
        "seconds": cost.seconds,
        "gradient_evaluations": cost.gradient_evaluations,
        "peak_memory": memory.mebibytes(),
    }


def join(config: DictConfig, folder: Path) -> None:
    """Take part in the training that the first rank leads."""
    log.setLevel(logging.WARNING)  # it speaks for all
    torch.set_num_threads(config.threads)
    exit_with_leader()
    decision = receive_decision(folder)
    if decision.train:
        module = build_module(config)
        trainer = _trainer(config, module, folder, [Curves(), Cost(), *module.penalties.callbacks()], loggers=[])
        trainer.fit(module, load_data(config), ckpt_path=decision.checkpoint)
        destroy_process_group()


def _trainer(config: DictConfig, module: Classifier, folder: Path, callbacks: list[Callback], **options: Any) -> pl.Trainer:
    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # that is submitit's to do
    if config.trainer.get("sync_batchnorm") and config.trainer.accelerator == "cpu":
        plugins.append(SynchronizedLayers())
        options["sync_batchnorm"] = False
    trainer: pl.Trainer = build(
        config,
        "trainer",
        callbacks=[*callbacks, *checkpoint_callbacks(folder / "checkpoints", module.monitor)],
        logger=options.pop("loggers"),
        plugins=plugins,
        default_root_dir=str(folder),
        enable_model_summary=False,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        **options,
    )
    return trainer
