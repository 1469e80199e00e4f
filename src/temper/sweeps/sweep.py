"""Grid sweep: compose and validate all cells, skip finished runs, launch the others, report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from temper.config.cell import data_name
from temper.config.errors import ConfigError
from temper.config.run_config import parse, parse_seed
from temper.report import make_report
from temper.runs.identity import RunIdentity
from temper.runs.jobs import Job, State, record_mtime, run_state
from temper.runs.plans import Plan
from temper.runs.terminal import quiet_libraries, say
from temper.sweeps.composing import Composer
from temper.sweeps.launch import launch
from temper.sweeps.preflight import is_scaled, validate
from temper.sweeps.progress import Progress
from temper.training.distributed import device_count


def sweep(config: DictConfig, loader: ConfigLoader, launcher: Launcher, arguments: Sequence[str]) -> list[Any]:
    """Run all runs of a grid that are not finished, then report.

    Args:
        config: of the sweep, composed without the axes.
        loader: Hydra's.
        launcher: Hydra's.
        arguments: overrides; several values separated by commas are an axis. A later override replaces an earlier one of the
            same key.

    Raises:
        ConfigError: a cell is invalid; nothing is started then.
        SystemExit: a run failed (status 1).
    """
    jobs, warnings = plan(config, loader, combinations(loader, arguments))
    for warning in warnings:
        say(f"warning: {warning}")
    run_and_report(config, launcher, jobs)
    return []


def run_and_report(config: DictConfig, launcher: Launcher, jobs: Sequence[Job], problems: Sequence[str] = ()) -> None:
    """Run the jobs that are not done, then report every study among them; in a dry run, only print what would run.

    Args:
        config: of the sweep.
        launcher: Hydra's.
        jobs: all runs of the sweep.
        problems: earlier failures, printed again at the end.

    Raises:
        SystemExit: there are problems, or a run failed (status 1).
    """
    failures = [*run_jobs(config, launcher, jobs), *problems]
    if not config.dry_run:
        names = [job.suite.rpartition("-")[0] for job in jobs]
        for study in sorted({job.folder.parents[1] for job in jobs}):
            for line in make_report(study, Path(config.paths.results) / study.name, suite=names[-1]):
                say(line)
    if failures:
        for line in failures:
            say(line)
        raise SystemExit(1)


def run_jobs(config: DictConfig, launcher: Launcher, jobs: Sequence[Job]) -> list[str]:
    """Run the jobs that are not done and show progress; in a dry run, only print what would run.

    Args:
        config: of the sweep.
        launcher: Hydra's.
        jobs: all runs of the sweep.

    Returns:
        One line for each run that failed.

    Raises:
        ConfigError: runs are stale, and `stale` is `ask`.
    """
    stale = [job for job in jobs if job.state is State.STALE]
    if stale and config.stale == "ask" and not config.dry_run:
        raise ConfigError(
            f"stale=ask: {len(stale)} of {len(jobs)} runs were finished by different code, e.g. {stale[0].folder}. Set "
            "stale=keep to keep them, or stale=rerun to run them again (their files are renamed, not deleted)."
        )
    todo = unfinished_jobs(config, jobs)
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


def unfinished_jobs(config: DictConfig, jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs to run: not finished, not evaluated by their suite, or stale unless `stale=keep`.

    Args:
        config: of the sweep.
        jobs: all runs of the sweep.
    """
    kept = {State.FINISHED, State.STALE} if config.stale == "keep" else {State.FINISHED}
    return [job for job in jobs if job.state not in kept or not job.evaluated]


def combinations(loader: ConfigLoader, arguments: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each run of a grid: all combinations of the values of its axes.

    Args:
        loader: Hydra's.
        arguments: overrides.

    Raises:
        ConfigError: an axis is an interval, or has no value.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigError(
                f"{override.input_line}: an interval needs a search. Set hydra.sweeper.search, or list its values as a,b,c."
            )
    runs = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
    if not runs:
        empty = [str(override.input_line) for override in parsed if override.is_sweep_override()]
        raise ConfigError(f"{' '.join(empty)}: this grid has no run, since an axis has no value. Name its values as a,b,c.")
    return runs


def plan(config: DictConfig, loader: ConfigLoader, runs: Sequence[list[str]]) -> tuple[list[Job], list[str]]:
    """Compose and validate every cell of a grid, and read the state of each run.

    Args:
        config: of the sweep.
        loader: Hydra's.
        runs: the overrides of each run.

    Returns:
        The jobs, in which equivalent overrides are one job, and warnings.

    Raises:
        ConfigError: cells are invalid; the message names all of them.
    """
    quiet_libraries()
    torch.set_num_threads(1)  # two examples do not benefit from more, and other sweeps may run on this machine
    jobs: dict[tuple[Path, str], Job] = {}
    warnings: dict[str, None] = {}
    errors: dict[str, None] = {}
    uses_strength: dict[tuple[str, str], bool] = {}
    strengths: set[float] = set()
    composer = Composer(config, loader)
    for composed, group in composer.cells(runs):
        try:
            run = parse(composed)
            _check_devices(run.trainer.devices, config)
            cell_identity = RunIdentity.of(run)
            cell, suite, data = cell_identity.cell, cell_identity.suite, data_name(run.data.source.plain())
            strengths.add(run.strength)
            if (cell.digest, suite) not in uses_strength:
                # The cell without penalties in a sweep over strength needs no warning.
                checked = run if run.penalty else run.replace(strength=1.0)
                warnings |= dict.fromkeys(f"{cell.name}: {warning}" for warning in validate(checked))
                uses_strength[cell.digest, suite] = is_scaled(checked)
            for overrides in group:
                identity = cell_identity.with_seed(parse_seed(composer.seed(overrides, composed)))
                folder = identity.folder
                mtime = record_mtime(folder)  # before the record is read: another sweep may finish the run in between
                state, evaluated = run_state(folder, suite, identity.code)
                scaled = uses_strength[cell.digest, suite]
                job = Job(overrides, cell, data, identity.seed, folder, suite, state, evaluated, scaled, mtime)
                jobs.setdefault((folder, suite), job)
        except ConfigError as error:
            errors[str(error)] = None
    if errors:
        raise ConfigError("\n".join(errors))
    if unused := strengths - {1} if not any(uses_strength.values()) else set():
        warnings[f"strength={min(unused):g} has no effect: no cell of this grid has a penalty that strength scales"] = None
    return list(jobs.values()), list(warnings)


def _check_devices(devices: int | list[int] | str, config: DictConfig) -> None:
    """Raise if a run of a local sweep uses several devices.

    Lightning starts the processes of further devices by running the command again, which would start the whole sweep.
    """
    if device_count(devices) > 1 and "slurm" not in str(config.hydra.launcher.get("_target_", "")).lower():
        raise ConfigError(
            f"trainer.devices={devices}: each run of a local sweep would start the whole sweep again on its "
            "other devices. Set trainer.devices=1 to run one run per device concurrently, use hydra/launcher=slurm on a "
            "cluster, or run each cell separately without -m."
        )
