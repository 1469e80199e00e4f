"""Which cells of a grid run: compose, validate, skip what is done, launch the rest, report."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from temper.cell import Cell, identity, run_folder
from temper.config import ConfigError, plain
from temper.progress import Progress, say
from temper.records import RunRecord, code_digest, suite_key, targets_of
from temper.report import make_report
from temper.validate import validate, validate_settings


class State(StrEnum):
    """How far a run is before the sweep starts."""

    FINISHED = "finished"
    STALE = "stale"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    UNEVALUATED = "unevaluated"
    MISSING = "missing"


class Job(NamedTuple):
    """One run of the grid: how it is composed, where it lies, how far it is, and whether its suite is done."""

    overrides: list[str]
    cell: Cell
    seed: int
    folder: Path
    suite: str
    state: State
    evaluated: bool


def sweep(config: DictConfig, loader: ConfigLoader, launcher: Launcher, arguments: Sequence[str]) -> list[Any]:
    """Run every cell of a grid that is not finished, by Hydra's launcher; then report.

    Args:
        config: the sweep's own, composed without the axes.
        arguments: overrides, several values separated by commas for an axis; a later one replaces an earlier one of its key.

    Raises:
        ConfigError: a cell could not run; nothing has been started then.
        SystemExit: some run failed (status 1).
    """
    jobs, warnings = plan(config, loader, arguments)
    for warning in warnings:
        say(f"warning: {warning}")
    stale = [job for job in jobs if job.state is State.STALE]
    if stale and config.stale == "ask" and not config.dry_run:
        raise ConfigError(
            f"{len(stale)} of {len(jobs)} runs were finished by other code, {stale[0].folder} among them: "
            "say stale=keep to keep them, or stale=rerun to run them again (what is there is set aside, not deleted)"
        )
    kept = {State.FINISHED, State.STALE} if config.stale == "keep" else {State.FINISHED}
    todo = [job for job in jobs if job.state not in kept or not job.evaluated]
    progress = Progress(config, jobs, todo)
    if config.dry_run:
        progress.describe()
        return []
    progress.announce()
    if todo:
        with progress:
            _launch(launcher, todo, progress)
    names = [job.suite.rpartition("-")[0] for job in jobs]
    for study in sorted({job.folder.parents[1] for job in jobs}):
        for line in make_report(study, Path(config.paths.results) / study.name, suite=names[-1]):
            say(line)
    if failures := progress.failures():
        for line in failures:
            say(line)
        raise SystemExit(1)
    return []


def _launch(launcher: Launcher, todo: Sequence[Job], progress: Progress) -> None:
    """Run the jobs. Where a launcher breaks down (a worker killed for its memory), what it left undone is launched again, and
    one by one once that brings nothing more, so that only the runs that break it are lost."""
    together = True
    while todo:
        for batch in [list(todo)] if together else [[job] for job in todo]:
            try:
                launcher.launch([list(job.overrides) for job in batch], initial_job_idx=0)
            except Exception as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                say(f"the launcher stopped: {reason}")
        undone = [job for job in todo if not progress.has_ended(job)]
        if not together or not undone:
            return
        together = len(undone) < len(todo)
        todo = undone


def plan(config: DictConfig, loader: ConfigLoader, arguments: Sequence[str]) -> tuple[list[Job], list[str]]:
    """Compose and validate every cell of a grid, and see how far each run is.

    Returns:
        The jobs, two ways to type one run being one job, and warnings.

    Raises:
        ConfigError: naming every cell that is wrong.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    combinations = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
    jobs: dict[tuple[Path, str], Job] = {}
    warnings: dict[str, None] = {}
    errors: dict[str, None] = {}
    compose = _composer(config, loader)
    valid: set[str] = set()
    for overrides in combinations:
        composed = compose(overrides)
        try:
            validate_settings(composed)
            cell = Cell.of(composed)
            if cell.digest + suite_key(plain(composed)["evaluation"]) not in valid:
                warnings |= dict.fromkeys(f"{cell.name}: {warning}" for warning in validate(composed))
                valid.add(cell.digest + suite_key(plain(composed)["evaluation"]))
            job = _job(composed, overrides, cell)
            jobs.setdefault((job.folder, job.suite), job)
        except ConfigError as error:
            errors[str(error)] = None
    if errors:
        raise ConfigError("\n".join(errors))
    return list(jobs.values()), list(warnings)


def _composer(config: DictConfig, loader: ConfigLoader) -> Callable[[list[str]], DictConfig]:
    """Composition as a job will see it. Cells that differ in the seed alone are composed once, since Hydra is slow at it."""
    composed: dict[tuple[str, ...], DictConfig] = {}

    def compose(overrides: list[str]) -> DictConfig:
        seeds = [override for override in overrides if override.startswith("seed=")]
        others = tuple(override for override in overrides if not override.startswith("seed="))
        if others not in composed:
            whole = loader.load_sweep_config(config, [*others, *seeds])
            composed[others] = _without_hydra(whole)
        cell = composed[others].copy()
        if seeds:
            seed = seeds[-1].partition("=")[2]
            cell.seed = int(seed) if seed.lstrip("-").isdecimal() else seed
        return cell

    return compose


def _without_hydra(config: DictConfig) -> DictConfig:
    config = config.copy()
    config._set_flag(["struct", "readonly"], [False, False])
    config.pop("hydra")
    return config


def _job(config: DictConfig, overrides: list[str], cell: Cell) -> Job:
    folder, suite = run_folder(config), suite_key(plain(config)["evaluation"])
    state, evaluated = _state(config, folder, suite)
    return Job(overrides, cell, config.seed, folder, suite, state, evaluated)


def _state(config: DictConfig, folder: Path, suite: str) -> tuple[State, bool]:
    try:
        record = RunRecord.read(folder)
    except FileNotFoundError:
        return (State.INTERRUPTED if (folder / "checkpoints" / "last.ckpt").exists() else State.MISSING), False
    except ValueError:
        return State.INTERRUPTED, False  # the run itself sets the damaged record aside
    if not record.finished:
        return State.FAILED, False
    if record.code != code_digest(targets_of(identity(config))):
        return State.STALE, record.has(suite)
    return (State.FINISHED if record.has(suite) else State.UNEVALUATED), record.has(suite)
