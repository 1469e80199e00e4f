"""Which cells of a grid run: compose, validate, skip what is done, launch the rest, report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from temper.config.cell import Cell, data_name, identity, run_folder
from temper.config.composed import plain_part
from temper.config.errors import ConfigError
from temper.config.settings import validate_seed, validate_settings
from temper.report import make_report
from temper.runs.jobs import Job, State, stamp, state_of
from temper.runs.plans import Plan
from temper.runs.provenance import code_digest, suite_key, targets_of
from temper.runs.terminal import quieten, say
from temper.sweeps.composing import Composer
from temper.sweeps.launch import launch
from temper.sweeps.preflight import is_scaled, validate
from temper.sweeps.progress import Progress
from temper.training.distributed import device_count


def sweep(config: DictConfig, loader: ConfigLoader, launcher: Launcher, arguments: Sequence[str]) -> list[Any]:
    """Run every cell of a grid that is not finished, by Hydra's launcher; then report.

    Args:
        config: the sweep's own, composed without the axes.
        arguments: overrides, several values separated by commas for an axis; a later one replaces an earlier one of its key.

    Raises:
        ConfigError: a cell could not run; nothing has been started then.
        SystemExit: some run failed (status 1).
    """
    jobs, warnings = plan(config, loader, combinations(loader, arguments))
    for warning in warnings:
        say(f"warning: {warning}")
    run_and_report(config, launcher, jobs)
    return []


def run_and_report(config: DictConfig, launcher: Launcher, jobs: Sequence[Job], problems: Sequence[str] = ()) -> None:
    """Run what is not done, then report every study among the jobs; of a dry run, say what would run.

    Args:
        problems: what went wrong before, told again at the end.

    Raises:
        SystemExit: there are problems, or some run failed (status 1).
    """
    failures = [*carry_out(config, launcher, jobs), *problems]
    if not config.dry_run:
        names = [job.suite.rpartition("-")[0] for job in jobs]
        for study in sorted({job.folder.parents[1] for job in jobs}):
            for line in make_report(study, Path(config.paths.results) / study.name, suite=names[-1]):
                say(line)
    if failures:
        for line in failures:
            say(line)
        raise SystemExit(1)


def carry_out(config: DictConfig, launcher: Launcher, jobs: Sequence[Job]) -> list[str]:
    """Run what is not done and show how far it is; of a dry run, say what would run.

    Returns:
        A line for each run that failed.

    Raises:
        ConfigError: runs are stale, and the user has not said what to do with them.
    """
    stale = [job for job in jobs if job.state is State.STALE]
    if stale and config.stale == "ask" and not config.dry_run:
        raise ConfigError(
            f"{len(stale)} of {len(jobs)} runs were finished by other code, {stale[0].folder} among them: "
            "say stale=keep to keep them, or stale=rerun to run them again (what is there is set aside, not deleted)"
        )
    todo = undone(config, jobs)
    progress = Progress(config, jobs, todo)
    if config.dry_run:
        progress.describe()
        return []
    for study in {job.folder.parents[1] for job in jobs}:
        Plan.of([job for job in jobs if job.folder.parents[1] == study]).write(study)
    progress.announce()
    if todo:
        with progress:
            launch(launcher, todo, progress)
    return progress.failures()


def undone(config: DictConfig, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that are yet to run: not finished, not evaluated by their suite, or stale and not to be kept."""
    kept = {State.FINISHED, State.STALE} if config.stale == "keep" else {State.FINISHED}
    return [job for job in jobs if job.state not in kept or not job.evaluated]


def combinations(loader: ConfigLoader, arguments: Sequence[str]) -> list[list[str]]:
    """Every combination of the values that arguments give their keys: the overrides of one run each."""
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigError(
                f"{override.input_line}: an interval is for a search: set hydra.sweeper.search, or write its values, a,b,c"
            )
    return BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]


def plan(config: DictConfig, loader: ConfigLoader, runs: Sequence[list[str]]) -> tuple[list[Job], list[str]]:
    """Compose and validate every cell of a grid, and see how far each run is.

    Args:
        runs: the overrides of each.

    Returns:
        The jobs, two ways to type one run being one job, and warnings.

    Raises:
        ConfigError: naming every cell that is wrong.
    """
    quieten()
    torch.set_num_threads(1)  # two examples gain nothing from more, and other sweeps may run here
    jobs: dict[tuple[Path, str], Job] = {}
    warnings: dict[str, None] = {}
    errors: dict[str, None] = {}
    scaled: dict[tuple[str, str], bool] = {}
    strengths: set[float] = set()
    composer = Composer(config, loader)
    for composed, group in composer.cells(runs):
        try:
            validate_settings(composed)
            _one_device(composed, config)
            cell, data = Cell.of(composed), data_name(composed.data.get("source") or {})
            folder = run_folder(composed, cell)
            strengths.add(composed.strength)
            suite = suite_key(plain_part(composed, "evaluation"))
            if (cell.digest, suite) not in scaled:
                if not composed.penalty:
                    composed.strength = 1.0  # a sweep over strength has one cell without penalties, and it is meant
                warnings |= dict.fromkeys(f"{cell.name}: {warning}" for warning in validate(composed))
                scaled[cell.digest, suite] = is_scaled(composed)
            code = code_digest(targets_of(identity(composed)))
            for overrides in group:
                composed.seed = composer.seed(overrides, composed)
                validate_seed(composed)
                own = folder.with_name(f"seed-{composed.seed}")
                before = stamp(own)  # before the record is read: another sweep may finish the run meanwhile
                state, evaluated = state_of(own, suite, code)
                worked = scaled[cell.digest, suite]
                job = Job(overrides, cell, data, composed.seed, own, suite, state, evaluated, worked, before)
                jobs.setdefault((own, suite), job)
        except ConfigError as error:
            errors[str(error)] = None
    if errors:
        raise ConfigError("\n".join(errors))
    if unused := strengths - {1} if not any(scaled.values()) else set():
        warnings[f"strength={min(unused):g} has no effect: no cell of this grid has a penalty that it scales"] = None
    return list(jobs.values()), list(warnings)


def _one_device(composed: DictConfig, config: DictConfig) -> None:
    """Lightning starts the processes of other devices by running the command again, which in a sweep would be the sweep."""
    if device_count(composed.trainer.devices) > 1 and "slurm" not in str(config.hydra.launcher.get("_target_", "")).lower():
        raise ConfigError(
            f"trainer.devices={composed.trainer.devices} in a sweep: each run would start the whole sweep again on its other "
            "devices. Run its cells one by one, without -m; or on a cluster, where SLURM starts the processes: "
            "hydra/launcher=slurm; or take trainer.devices=1: runs go side by side, one per device"
        )
