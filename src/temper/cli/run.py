"""Run one experiment end to end: train, evaluate, write the record."""

import logging
import time
import traceback

import torch
from pytorch_lightning.loggers import Logger

from temper.config.cell import Kind
from temper.config.errors import ConfigError, explain
from temper.config.run_config import RunConfig
from temper.data.loading import load_data
from temper.evaluation.evaluate_checkpoints import delete_partial_results, evaluate_checkpoints
from temper.runs.atomic_files import set_aside
from temper.runs.gpu_slots import exclusive_device
from temper.runs.identity import RunIdentity
from temper.runs.lock import run_lock
from temper.runs.parent_watch import exit_with_sweep
from temper.runs.provenance import provenance
from temper.runs.record import RECORD, RunRecord
from temper.runs.terminal import quiet_libraries
from temper.sweeps.preflight import validate
from temper.training.distributed import LaunchDecision, broadcast_decision, device_count, rank
from temper.training.fit import join, train
from temper.training.loggers import build_loggers, close_loggers

log = logging.getLogger("temper")


def run(config: RunConfig, identity: RunIdentity, *, alone: bool) -> RunRecord | None:
    """Train and evaluate one run in its folder, except for the parts that are done already.

    A failed run also writes a record, with its error.

    Args:
        config: the run.
        identity: its identity; whatever its folder holds is reused only if it agrees.
        alone: whether the run is not a job of a sweep. Then the config is validated here, progress is shown in the terminal,
            errors are raised, and a run that another process holds is waited for.

    Returns:
        The record of the run; None in every process but the first of a run on several devices.

    Raises:
        LockHeld: the run belongs to a sweep and another process holds it.
        LockLost: another process took over the run.
    """
    since, folder, suite = time.perf_counter(), identity.folder, identity.suite
    quiet_libraries()
    several = device_count(config.trainer.devices) > 1
    if several and rank() > 0:
        join(config, folder)
        return None
    if alone:
        for warning in validate(config):
            log.warning("warning: %s", warning)
    else:
        exit_with_sweep()
    torch.set_num_threads(config.threads)
    with (
        broadcast_decision(folder, several=several) as broadcast,
        run_lock(folder, wait=alone),
        exclusive_device(config.trainer.accelerator) as device,
    ):
        record = _open_record(config, identity)
        if record.finished:
            broadcast(LaunchDecision(train=False))  # other ranks need not wait for the evaluation
        if record.has(suite):
            log.info("already finished: %s", folder)
            return record
        loggers: list[Logger] = []
        status = 1
        try:
            data = load_data(config)
            if not record.finished:
                loggers = build_loggers(config, identity)
                train(config, data, identity, record, loggers, announce=broadcast, device=device, alone=alone)
            evaluated = evaluate_checkpoints(config, data, folder, record, device=device, show=alone)
            record.evaluations[suite] = evaluated
            record.status, record.error = "finished", None
            record.cost["wall_seconds"] = time.perf_counter() - since
            record.write(folder)
            delete_partial_results(folder, suite)
            status = 0
        except Exception as error:
            log.error("failed: %s", explain(error), exc_info=not alone)
            # An evaluation by another suite that was finished before stays in the record.
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


def describe(config: RunConfig, identity: RunIdentity) -> None:
    """Validate the config of a single run and log whether the run is finished (`dry_run=true`)."""
    quiet_libraries()
    for warning in validate(config):
        log.warning("warning: %s", warning)
    done = (identity.folder / RECORD).exists() and RunRecord.read(identity.folder).has(identity.suite)
    log.info("%s: %s", identity.folder, "finished" if done else "to run")


def _open_record(config: RunConfig, identity: RunIdentity) -> RunRecord:
    """Return the finished record of a run's folder, or a new one. Stale and damaged files are set aside, never deleted.

    Raises:
        ConfigError: the folder holds another run, or one of different code while `stale=ask`.
    """
    folder, cell = identity.folder, identity.cell
    try:
        record = RunRecord.read(folder)
        if (record.digest, record.seed) != (cell.digest, identity.seed):
            raise ConfigError(
                f"hydra.run.dir={folder}: the folder holds another run ({record.attack} x {record.penalty}, digest "
                f"{record.digest}, seed {record.seed}), not {cell.name}, seed {identity.seed}. Choose another folder, or leave "
                "hydra.run.dir out: each run has a folder that its content names."
            )
        if record.finished and (record.code == identity.code or config.stale == "keep"):
            return record
        if record.finished:
            if config.stale == "ask":
                raise ConfigError(
                    f"stale=ask: {folder} was finished by different code (digest {record.code}, now {identity.code}). "
                    "Use stale=keep to keep it, or stale=rerun to run it again."
                )
            for name in (RECORD, "checkpoints", "evaluations"):
                if (folder / name).exists():
                    set_aside(folder / name, f"stale-{record.code}")
    except FileNotFoundError:
        pass
    except ConfigError:
        raise
    except ValueError as error:
        log.warning("warning: %s. It is set aside as %s.", error, set_aside(folder / RECORD, "damaged"))
    return RunRecord(
        status="failed",
        study=config.study,
        attack=cell.attack,
        penalty=cell.penalty,
        kind=str(cell.kind),
        digest=cell.digest,
        seed=identity.seed,
        config=config.plain(),
        code=identity.code,
        threads=config.threads,
        **provenance(),
    )


def summary(record: RunRecord, suite: str) -> str:
    """Return the accuracies of each checkpoint and the audit's warnings and failures, as lines of text."""
    cell = f"attack {record.attack}, penalty {record.penalty}, seed {record.seed}"
    lines = [f"{record.kind}: {record.attack if record.kind == Kind.EXTERNAL else cell}"]
    for name, checkpoint in record.evaluations[suite]["checkpoints"].items():
        accuracies = {key: checkpoint["metrics"][f"test/{key}"] for key in ("clean", *record.attacks(suite), "worst_case")}
        percentages = "  ".join(f"{key} {100 * value:.1f} %" for key, value in accuracies.items())
        epoch = "" if checkpoint["epoch"] is None else f" (epoch {checkpoint['epoch']})"
        lines.append(f"{name}{epoch}:  {percentages}")
        lines += [
            f"  audit, {check} {finding['status']}: {100 * finding['figure']:.1f} % {finding['meaning']}"
            for check, finding in checkpoint.get("audit", {}).items()
            if finding["status"] != "passed"
        ]
    return "\n".join(lines)
