"""Evaluation after training: runs in parallel, a single checkpoint, an external network."""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import Parallel, delayed
from omegaconf import DictConfig, OmegaConf
from rich.progress import track

from temper.cli.run import summary
from temper.config.cell import Cell, Kind, identity_settings
from temper.config.composed import plain
from temper.config.errors import ConfigError, explain
from temper.config.resolvers import workers
from temper.config.run_config import EvaluationConfig, RunConfig, parse, parse_evaluation
from temper.data.loading import load_data
from temper.evaluation import Suite, fingerprint
from temper.evaluation.evaluate_checkpoints import delete_partial_results, evaluate_checkpoints, evaluate_networks
from temper.evaluation.transfer import transfer
from temper.models import Network
from temper.report import make_report
from temper.runs.gpu_slots import exclusive_device
from temper.runs.identity import code_digest, suite_key, targets_of
from temper.runs.lock import run_lock
from temper.runs.provenance import provenance
from temper.runs.record import RECORD, RunRecord
from temper.runs.seeding import rekey
from temper.runs.terminal import console, say
from temper.sweeps.preflight import validate_suite
from temper.training.modules import load


def evaluate_runs(
    config: DictConfig, folders: Sequence[Path], *, checkpoint: str | None = None, study: Path | None = None
) -> None:
    """Evaluate finished runs in parallel on cores or GPUs, each into its own record, and report on the study if there is one.

    Args:
        config: the config of temper-evaluate.
        folders: the folders of the runs.
        checkpoint: the only checkpoint to evaluate, "best" or "last"; None: those of `evaluation.checkpoints`.
        study: the folder of the study that the runs form; None: they are not a whole study.

    Raises:
        SystemExit: a run failed (status 1); the others are evaluated.
    """
    n_jobs = min(workers(config.trainer.accelerator, config.runs_per_gpu), len(folders))
    values = plain(config, without=("hydra", "data", "model", "validation", "evaluation"))
    # Not resolved here, since its references point to the threats of each run.
    values["evaluation"] = OmegaConf.to_container(config.evaluation, resolve=False)
    if n_jobs == 1:
        results = [_evaluate_run(values, folder, checkpoint, show=True) for folder in folders]
    else:
        jobs = (delayed(_evaluate_run)(values, folder, checkpoint) for folder in folders)
        done = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)
        bar = track(done, "evaluating", total=len(folders), console=console, disable=not console.is_terminal)
        results = list(_report_progress(bar, len(folders)))
    problems = [result.problem for result in results if result.problem]
    if study is not None and len(problems) < len(results):
        if config.transfer:
            with exclusive_device(config.trainer.accelerator) as device:
                say(transfer({result.folder: result.suite for result in results if result.suite}, device=device))
        for line in make_report(study, Path(config.paths.results) / study.name, suite=config.evaluation.name):
            say(line)
    elif study is None:
        for result in results:
            say(result.text)
    if problems:
        for problem in problems:
            say(problem)
        raise SystemExit(1)


class Result(NamedTuple):
    """Outcome of evaluating one run.

    Attributes:
        folder: the run's folder.
        suite: the key of its evaluation; None: it failed.
        text: its summary.
        problem: the error message; None: it succeeded.
    """

    folder: Path
    suite: str | None
    text: str
    problem: str | None = None


def _report_progress(results: Iterable[Result], total: int) -> Iterator[Result]:
    """Yield results and print a line for each where no progress bar is shown."""
    for number, result in enumerate(results, start=1):
        if not console.is_terminal:
            say(f"[{number}/{total}] {result.problem or result.folder}")
        yield result


def _evaluate_run(values: dict[str, Any], folder: Path, checkpoint: str | None, *, show: bool = False) -> Result:
    """Evaluate one run into its record; called in this process or in a worker process."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    torch.set_num_threads(values["threads"])
    try:
        with run_lock(folder), exclusive_device(values["trainer"]["accelerator"]) as device:
            record = RunRecord.read(folder)
            config = _run_config(values["evaluation"], record.config, checkpoint)
            key = suite_key(config.evaluation.plain())
            _check_code(record, folder, values["stale"])
            if not record.has(key):
                data = load_data(config)
                first = load(folder / "checkpoints" / f"{config.evaluation.checkpoints[0]}.ckpt")[0]
                validate_suite(Suite.of(config), first.net, data)
                record.evaluations[key] = evaluate_checkpoints(config, data, folder, record, device=device, show=show)
                record.write(folder)
                delete_partial_results(folder, key)
            return Result(folder, key, f"{folder}\n{summary(record, key)}")
    except (ValueError, OSError, RuntimeError) as error:
        return Result(folder, None, str(folder), f"failed: {folder}: {explain(error)}")


def _run_config(evaluation: Any, record_config: dict[str, Any], checkpoint: str | None) -> RunConfig:
    """Return the config of a run with its evaluation replaced.

    Args:
        evaluation: the group of temper-evaluate, unresolved, since it refers to the threats of the run.
        record_config: of the run.
        checkpoint: the only one to evaluate; None: those of `evaluation.checkpoints`.
    """
    config = OmegaConf.create(record_config)
    config.evaluation = OmegaConf.create(evaluation)
    run = parse(config)
    if checkpoint is None:
        return run
    return run.replace(evaluation=run.evaluation.model_copy(update={"checkpoints": (checkpoint,)}))


def _check_code(record: RunRecord, folder: Path, stale: str) -> None:
    """Raise a ConfigError if a run is not finished, or was trained by different code and `stale` is not "keep"."""
    if not record.finished and not record.evaluations:
        raise ConfigError(f"path={folder}: the run is not finished. Resume it with temper-train.")
    code = code_digest(targets_of(record.config))
    if record.code != code and stale != "keep":
        raise ConfigError(
            f"stale={stale}: {folder} was trained by different code (digest {record.code}, now {code}). "
            "Use stale=keep to evaluate it anyway."
        )


def evaluate_checkpoint(config: DictConfig, path: Path) -> None:
    """Evaluate a checkpoint outside of any run's folder and write its record into the study `config.study`."""
    torch.set_num_threads(config.threads)
    module, epoch = load(path)
    evaluation = OmegaConf.to_container(config.evaluation, resolve=False)
    run = _run_config(evaluation, module.config or {}, path.stem)
    cell = Cell.of(run)
    # The digest covers the weights, since two different checkpoints may both be named last.ckpt.
    digest = fingerprint(module.net, cell.digest)
    name = f"{cell.name.rpartition('-')[0]}-{digest}"
    run = run.replace(study=str(config.study), threads=config.threads)
    folder = Path(config.paths.outputs) / run.study / name / f"seed-{run.seed}"
    record = _record(run, folder, attack=cell.attack, penalty=cell.penalty, kind=cell.kind, digest=digest)
    _evaluate_into(record, run, {path.stem: (module.net, epoch)}, folder, config.trainer.accelerator)


def evaluate_external(config: DictConfig) -> None:
    """Evaluate a network that was not trained by temper and write its record into the study `config.study`."""
    if "factory" not in config.model or OmegaConf.is_missing(config.model, "factory"):
        raise ConfigError(
            "path=null: nothing to evaluate. Set path= for trained runs, or model.factory= for an external network."
        )
    config = config.copy()
    config.evaluation.checkpoints = ["last"]
    external = parse_evaluation(config, also=("path", "transfer"))
    torch.set_num_threads(external.threads)
    rekey(external.seed, "weights")
    net: Network = external.model.build()
    # Its attack and penalty are unknown, so that model, data and weights are its identity.
    content = identity_settings(external.plain())
    digest = fingerprint(net, json.dumps([content["model"], content["data"]], sort_keys=True))
    factory = Path(external.model.factory)
    name = re.sub(r"[^\w.-]+", "_", factory.name if factory.exists() else str(factory))
    folder = Path(external.paths.outputs) / external.study / f"{name}-{digest}" / f"seed-{external.seed}"
    record = _record(external, folder, attack=name, penalty="none", kind=Kind.EXTERNAL, digest=digest)
    _evaluate_into(record, external, {"last": (net.eval(), None)}, folder, external.trainer.accelerator)


def _record(config: EvaluationConfig, folder: Path, **cell: str) -> RunRecord:
    """Return the record in a folder, or a new one."""
    if (folder / RECORD).exists():
        return RunRecord.read(folder)
    values = config.plain()
    return RunRecord(
        status="finished",
        study=config.study,
        seed=config.seed,
        config=values,
        code=code_digest(targets_of({key: value for key, value in values.items() if key != "evaluation"})),
        threads=config.threads,
        **{key: str(value) for key, value in cell.items()},  # type: ignore[arg-type]
        **provenance(),
    )


def _evaluate_into(
    record: RunRecord,
    config: EvaluationConfig,
    networks: dict[str, tuple[Network, int | None]],
    folder: Path,
    accelerator: str,
) -> None:
    """Evaluate networks with the config's suite into a record, unless the record has that evaluation already."""
    key = suite_key(config.evaluation.plain())
    with run_lock(folder), exclusive_device(accelerator) as device:
        if not record.has(key):
            data = load_data(config)
            validate_suite(Suite.of(config), next(iter(networks.values()))[0], data)
            record.evaluations[key] = evaluate_networks(config, networks, data, folder, record, device=device, show=True)
            record.write(folder)
            delete_partial_results(folder, key)
    say(f"{summary(record, key)}\nrecord: {folder / RECORD}")
