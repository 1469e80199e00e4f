"""The way of one run: train, evaluate, record."""

import logging
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment

from temper.build import build
from temper.callbacks import Cost, Curves, PeakMemory, Provenance, checkpoint_callbacks
from temper.cell import Cell, Kind, identity
from temper.checkpoints import checkpoint_to_resume, evaluate_checkpoints, forget_pieces
from temper.claims import sole_owner
from temper.classifier import Classifier
from temper.cli import explain
from temper.config import ConfigError, plain, plain_part
from temper.data import DataModule
from temper.devices import device_of_its_own
from temper.loggers import build_loggers, close_loggers, show_config
from temper.models.synchronized import SynchronizedLayers
from temper.modules import build_module
from temper.penalties.stand_in import BestSoFar
from temper.progress import quieten
from temper.ranks import Decision, device_count, followed, leading, part_ways, rank
from temper.records import RECORD, RunRecord, code_digest, provenance, suite_key, targets_of
from temper.storage import WholeCheckpointIO, set_aside
from temper.validate import build_data, validate

log = logging.getLogger("temper")


def run(config: DictConfig, folder: Path, *, alone: bool) -> RunRecord | None:
    """Train and evaluate one run in its folder, as far as that is not done yet; an error leaves a record too.

    Args:
        alone: not a job of a sweep: the config is yet to be validated, progress goes to the terminal, errors are raised, and
            a run that another process works on is waited for.

    Raises:
        HeldElsewhere: another process works on this run of a sweep.
        ClaimLost: another process took this run over.
    """
    since = time.perf_counter()
    quieten()
    several = device_count(config.trainer.devices) > 1
    if several and rank() > 0:
        join(config, folder)
        return None
    if alone:
        for warning in validate(config):
            log.warning("warning: %s", warning)
    torch.set_num_threads(config.threads)
    with (
        leading(folder, several=several) as tell,
        sole_owner(folder, wait=alone),
        device_of_its_own(config.trainer.accelerator) as device,
    ):
        record = _open_record(config, folder)
        suite = suite_key(plain_part(config, "evaluation"))
        if record.has(suite):
            log.info("finished already: %s", folder)
            return record
        loggers: list[Logger] = []
        status = 1
        try:
            data = build_data(config)
            if not record.finished:
                loggers = build_loggers(config, folder)
                _train(config, data, folder, record, loggers, tell=tell, device=device, alone=alone)
            evaluated = evaluate_checkpoints(config, data, folder, record, device=device, show=alone)
            record.evaluations[suite] = evaluated
            record.status, record.error = "finished", None
            record.cost["wall_seconds"] = time.perf_counter() - since
            record.write(folder)
            forget_pieces(folder, suite)
            status = 0
        except Exception as error:
            log.error("failed: %s", explain(error), exc_info=not alone)
            # What was finished before, under another suite, stays finished.
            record.error = f"{explain(error)}\n\n{traceback.format_exc()}"
            record.write(folder)
            if alone:
                raise
        finally:
            close_loggers(loggers, record, suite, status)
    if status == 0:
        for checkpoint in {"best", "last"} - set(config.keep_checkpoints):
            (folder / "checkpoints" / f"{checkpoint}.ckpt").unlink(missing_ok=True)
        log.info("%s\nrecord: %s", summary(record, suite), folder / RECORD)
    return record


def describe(config: DictConfig, folder: Path) -> None:
    """What `dry_run=true` says of a single run: whether its config is right, and whether it is done."""
    for warning in validate(config):
        log.warning("warning: %s", warning)
    done = (folder / RECORD).exists() and RunRecord.read(folder).has(suite_key(plain_part(config, "evaluation")))
    log.info("%s: %s", folder, "finished" if done else "to run")


def _open_record(config: DictConfig, folder: Path) -> RunRecord:
    """The finished record of this folder, or a new one; what cannot be used is set aside, never deleted."""
    values = plain(config)
    code = code_digest(targets_of(identity(config)))
    try:
        record = RunRecord.read(folder)
        if record.finished and (record.code == code or config.stale == "keep"):
            return record
        if record.finished:
            if config.stale == "ask":
                raise ConfigError(
                    f"{folder} was finished by other code (digest {record.code}, now {code}): "
                    "say stale=keep to keep it, or stale=rerun to run it again"
                )
            for name in (RECORD, "checkpoints", "evaluations"):
                if (folder / name).exists():
                    set_aside(folder / name, f"stale-{record.code}")
    except FileNotFoundError:
        pass
    except ConfigError:
        raise
    except ValueError as error:
        log.warning("warning: %s; set aside as %s", error, set_aside(folder / RECORD, "damaged"))
    cell = Cell.of(config)
    return RunRecord(
        status="failed",
        study=str(config.study),
        attack=cell.attack,
        penalty=cell.penalty,
        kind=str(cell.kind),
        digest=cell.digest,
        seed=config.seed,
        config=values,
        code=code,
        threads=config.threads,
        **provenance(),
    )


def join(config: DictConfig, folder: Path) -> None:
    """Take part in the training that the first rank leads."""
    log.setLevel(logging.WARNING)  # it speaks for all
    torch.set_num_threads(config.threads)
    decision = followed(folder)
    if decision.train:
        module = build_module(config)
        trainer = _trainer(config, module, folder, [Curves(), Cost(), *module.penalties.callbacks()], loggers=[])
        trainer.fit(module, build_data(config), ckpt_path=decision.checkpoint)
        part_ways()


def _trainer(config: DictConfig, module: Classifier, folder: Path, callbacks: list[Callback], **options: Any) -> pl.Trainer:
    plugins: list[Any] = [WholeCheckpointIO()]
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
        **{"enable_progress_bar": False} | options,
    )
    return trainer


def _train(
    config: DictConfig,
    data: DataModule,
    folder: Path,
    record: RunRecord,
    loggers: list[Logger],
    *,
    tell: Callable[[Decision], None],
    device: str,
    alone: bool,
) -> None:
    """Fit, from the last checkpoint if there is one, and note curves and cost."""
    module = build_module(config)
    curves, cost, followers = Curves(), Cost(), module.penalties.callbacks()
    own: dict[str, Any] = {"devices": [torch.device(device).index]} if device != "cpu" and config.trainer.devices == 1 else {}
    trainer = _trainer(
        config,
        module,
        folder,
        [curves, cost, *followers, Provenance(record.code)],
        loggers=loggers,
        enable_progress_bar=alone and sys.stderr.isatty(),
        **own,
    )
    memory = PeakMemory()
    show_config(loggers, record)
    checkpoint = checkpoint_to_resume(config, folder / "checkpoints", record.code)
    tell(Decision(train=True, checkpoint=checkpoint))
    try:
        trainer.fit(module, data, ckpt_path=checkpoint)
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    part_ways()
    record.epochs = trainer.current_epoch
    record.weights = module.penalties.stand_in or "trained"
    record.epoch = next((f.epoch for f in followers if isinstance(f, BestSoFar)), record.epochs - 1)
    record.curves = curves.values
    record.cost = {
        "seconds": cost.seconds,
        "gradient_evaluations": cost.gradient_evaluations,
        "peak_memory": memory.mebibytes(),
    }


def summary(record: RunRecord, suite: str) -> str:
    of_ours = f"attack {record.attack}, penalty {record.penalty}, seed {record.seed}"
    lines = [f"{record.kind}: {record.attack if record.kind == Kind.EXTERNAL else of_ours}"]
    for name, checkpoint in record.evaluations[suite]["checkpoints"].items():
        accuracies = {key: checkpoint["metrics"][f"test/{key}"] for key in ("clean", *record.attacks(suite), "worst_case")}
        shares = "  ".join(f"{key} {100 * value:.1f} %" for key, value in accuracies.items())
        epoch = "" if checkpoint["epoch"] is None else f" (epoch {checkpoint['epoch']})"
        lines.append(f"{name}{epoch}:  {shares}")
        lines += [
            f"  audit, {check} {finding['status']}: {100 * finding['figure']:.1f} % {finding['meaning']}"
            for check, finding in checkpoint.get("audit", {}).items()
            if finding["status"] != "passed"
        ]
    return "\n".join(lines)
