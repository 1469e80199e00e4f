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
from temper.progress import Progress, quieten, say
from temper.records import RunRecord, code_digest, suite_key, targets_of
from temper.report import make_report
from temper.validate import is_scaled, validate, validate_settings

# Values at the root that select no other config: they can be set once the rest is composed.
LATE = ("seed=", "strength=")


class State(StrEnum):
    """How far a run is before the sweep starts."""

    FINISHED = "finished"
    STALE = "stale"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    UNEVALUATED = "unevaluated"
    MISSING = "missing"


class Job(NamedTuple):
    """One run of the grid: how it is composed, where it lies, how far it is, whether its suite is done, and whether the root
    key `strength` scales any of its penalties."""

    overrides: list[str]
    cell: Cell
    seed: int
    folder: Path
    suite: str
    state: State
    evaluated: bool
    scaled: bool


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
    progress.announce()
    if todo:
        with progress:
            _launch(launcher, todo, progress)
    return progress.failures()


def undone(config: DictConfig, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that are yet to run: not finished, not evaluated by their suite, or stale and not to be kept."""
    kept = {State.FINISHED, State.STALE} if config.stale == "keep" else {State.FINISHED}
    return [job for job in jobs if job.state not in kept or not job.evaluated]


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
    jobs: dict[tuple[Path, str], Job] = {}
    warnings: dict[str, None] = {}
    errors: dict[str, None] = {}
    compose = composer(config, loader)
    scaled: dict[tuple[str, str], bool] = {}
    strengths: set[float] = set()
    for overrides in runs:
        composed = compose(overrides)
        try:
            validate_settings(composed)
            cell = Cell.of(composed)
            strengths.add(composed.strength)
            suite = suite_key(plain(composed)["evaluation"])
            if (cell.digest, suite) not in scaled:
                if not composed.penalty:
                    composed.strength = 1.0  # a sweep over strength has one cell without penalties, and it is meant
                warnings |= dict.fromkeys(f"{cell.name}: {warning}" for warning in validate(composed))
                scaled[cell.digest, suite] = is_scaled(composed)
            folder = run_folder(composed)
            state, evaluated = _state(composed, folder, suite)
            job = Job(overrides, cell, composed.seed, folder, suite, state, evaluated, scaled[cell.digest, suite])
            jobs.setdefault((folder, suite), job)
        except ConfigError as error:
            errors[str(error)] = None
    if errors:
        raise ConfigError("\n".join(errors))
    if unused := strengths - {1} if not any(scaled.values()) else set():
        warnings[f"strength={min(unused):g} has no effect: no cell of this grid has a penalty that it scales"] = None
    return list(jobs.values()), list(warnings)


def composer(config: DictConfig, loader: ConfigLoader) -> Callable[[list[str]], DictConfig]:
    """Composition as a job will see it. Cells that differ in `LATE` keys alone are composed once, since Hydra is slow at it."""
    parser = OverridesParser.create(config_loader=loader)
    composed: dict[tuple[str, ...], DictConfig] = {}

    def compose(overrides: list[str]) -> DictConfig:
        late = [override for override in overrides if override.startswith(LATE)]
        others = tuple(override for override in overrides if not override.startswith(LATE))
        if others not in composed:
            composed[others] = _without_hydra(loader.load_sweep_config(config, [*others, *late]))
        cell = composed[others].copy()
        for override in parser.parse_overrides(late):
            cell[override.key_or_group] = override.value()
        return cell

    return compose


def _without_hydra(config: DictConfig) -> DictConfig:
    config = config.copy()
    config._set_flag(["struct", "readonly"], [False, False])
    config.pop("hydra")
    return config


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
