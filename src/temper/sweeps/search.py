"""A search in two stages: Optuna asks for settings, trials judge them on validation by two objectives, clean and robust
accuracy; then the settings that no other beats are trained anew, evaluated and reported.

Nothing of a search is stored but the records of its runs. A seeded sampler that is told the same asks the same, so a search
that was stopped is replayed: its finished runs are found by their content, and only what is missing is trained.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from temper.config.composed import plain
from temper.config.errors import ConfigError
from temper.report.figures import save
from temper.report.tables.results_table import percent
from temper.runs.atomic_files import atomic_write
from temper.runs.jobs import Job
from temper.runs.record import RunRecord
from temper.runs.terminal import say
from temper.sweeps.axes import Axis, overrides, split
from temper.sweeps.composing import Composer
from temper.sweeps.sampling import KEY, Budget
from temper.sweeps.search_report import About, Tried, pareto_set, search_figure, search_page
from temper.sweeps.sweep import carry_out, combinations, plan, run_and_report, undone
from temper.sweeps.trial import both_seeds, record_of, scores, settings

# What changes how well a network learns, and nothing of what it is judged by.
OF_TRAINING = ("batch_size", "flip", "threats")


class Trial(NamedTuple):
    """What Optuna asked for: the settings, a run for each seed, or why there is none."""

    asked: optuna.trial.Trial
    parameters: dict[str, str]
    jobs: list[Job]
    error: str

    @property
    def shown(self) -> str:
        cell = self.jobs[0].cell.name if self.jobs else f"cannot run: {self.error}"
        return f"{', '.join(f'{key}={value}' for key, value in self.parameters.items())}: {cell}"


def search_and_report(
    config: DictConfig, loader: ConfigLoader, launcher: Launcher, arguments: Sequence[str], search: Any
) -> list[Any]:
    """Search, then run the Pareto set with the seeds of the command, and report.

    Args:
        config, loader, launcher: as of `temper.sweeps.sweep.sweep`.
        arguments: overrides; an interval, range or choice is an axis of the search, several seeds are the report's.
        search: as in conf/hydra/sweeper/temper.yaml.

    Raises:
        ConfigError: what is asked for cannot be searched, or fails at some end of an axis; nothing has been started then.
        SystemExit: a trial has not ended, every trial or some run of the Pareto set failed (status 1).
    """
    budget = Budget.of(search)
    axes, others = split(loader, arguments)
    study = budget.study()
    runs = combinations(loader, others)
    reported, said = _at_the_ends(config, loader, axes, runs)
    folder, seeds = reported[0].folder.parents[1], sorted({job.seed for job in reported})
    for warning in [*said, *both_seeds(seeds, budget.seeds, KEY)]:
        say(f"warning: {warning}")
    name = str(folder.relative_to(Path(config.paths.outputs)))
    common = [*(override for override in runs[0] if not override.startswith("seed=")), *settings(f"{name}-search")]
    tried = _try(config, launcher, budget, lambda: _plan(config, loader, axes, _ask(study, axes), common, budget.seeds), study)
    if tried is None:
        say(f"and then the Pareto set with seed {', '.join(map(str, seeds))}")
        return []
    best = pareto_set(tried)
    if not config.dry_run:
        about = _about(config, folder.name, axes, budget, seeds, best)
        _write_page(Path(config.paths.results) / folder.name, about, tried)
    if best:
        say(f"Pareto set: trials {', '.join(str(trial.number) for trial in best)}")
    else:
        say(f"every trial failed: {Path(config.paths.results) / folder.name / 'search.md'} says why")
        raise SystemExit(1)
    chosen = plan(config, loader, [[*run, *overrides(axes, trial.parameters)] for trial in best for run in runs])[0]
    _tell_of_others(folder, chosen)
    run_and_report(config, launcher, chosen)
    return []


def _at_the_ends(
    config: DictConfig, loader: ConfigLoader, axes: Sequence[Axis], runs: Sequence[list[str]]
) -> tuple[list[Job], list[str]]:
    """Compose and check the cells at the ends of every axis, as they would be reported.

    Returns:
        The runs of the first of them, and warnings that hold at every end: those are of the settings, not of a value.

    Raises:
        ConfigError: a value at an end is wrong, changes nothing, or moves what trials are judged by.
    """
    first = {axis.key: axis.ends[0] for axis in axes}
    corners = {"": first} | {f"{a.key}={end}": first | {a.key: end} for a in axes for end in a.ends[1:]}
    corners["all"] = {axis.key: axis.ends[-1] for axis in axes}
    compose = Composer(config, loader).compose
    jobs: dict[str, list[Job]] = {}
    errors: dict[str, None] = {}
    said: list[dict[str, None]] = []
    for name, parameters in corners.items():
        try:
            jobs[name], found = plan(config, loader, [[*run, *overrides(axes, parameters)] for run in runs])
            said.append(dict.fromkeys(warning.partition(": ")[2] or warning for warning in found))
        except ConfigError as error:
            errors[str(error)] = None
    if errors:
        raise ConfigError("\n".join(errors))
    judged = {name: _judged_by(compose([*runs[0], *overrides(axes, values)])) for name, values in corners.items()}
    for axis in axes:
        for end in axis.ends[1:]:
            if judged[f"{axis.key}={end}"] != judged[""]:
                raise ConfigError(
                    f"{axis.key} is no axis of a search: it moves what trials are judged by, the validation attack or the "
                    "validation split; the radius of training is searched by attack.eps"
                )
            if jobs[f"{axis.key}={end}"][0].cell.digest == jobs[""][0].cell.digest:
                raise ConfigError(f"{axis.key} is no axis of a search: {axis.ends[0]} and {end} give one and the same run")
    return jobs[""], [warning for warning in said[0] if all(warning in others for others in said)]


def _judged_by(config: DictConfig) -> str:
    values = plain(config)
    data = {key: value for key, value in values["data"].items() if key not in OF_TRAINING}
    return json.dumps([values["validation"], data], sort_keys=True)


def _ask(study: optuna.Study, axes: Sequence[Axis]) -> optuna.trial.Trial:
    try:
        return study.ask({axis.key: axis.distribution for axis in axes})
    except ValueError as error:
        raise ConfigError(f"{KEY}.sampler: {error}") from error


def _plan(
    config: DictConfig,
    loader: ConfigLoader,
    axes: Sequence[Axis],
    asked: optuna.trial.Trial,
    common: Sequence[str],
    seeds: Sequence[int],
) -> Trial:
    """The runs of a trial. Settings that are right at the ends of each axis may still be wrong together: that trial fails."""
    parameters = {axis.key: axis.value(asked.params[axis.key]) for axis in axes}
    runs = [[*common, *overrides(axes, parameters), f"seed={seed}"] for seed in seeds]
    try:
        return Trial(asked, parameters, plan(config, loader, runs)[0], "")
    except ConfigError as error:
        return Trial(asked, parameters, [], str(error))


def _try(
    config: DictConfig, launcher: Launcher, budget: Budget, ask: Callable[[], Trial], study: optuna.Study
) -> list[Tried] | None:
    """Every trial, in batches: asked, run as far as that is not done yet, judged by its records, and told.

    Returns:
        What each of them reached; None where a dry run has come to one that is yet to run, and has said so.

    Raises:
        SystemExit: some run has left no record (status 1).
    """
    tried: list[Tried] = []
    ran: set[Path] = set()
    while (first := len(tried)) < budget.trials:
        batch = [ask() for _ in range(min(budget.side_by_side, budget.trials - first))]
        # A setting that is asked again has ended, well or not.
        jobs = list({job.folder: job for trial in batch for job in trial.jobs if job.folder not in ran}.values())
        ran |= {job.folder for job in jobs}
        if new := bool(undone(config, jobs)):
            say(f"trials {first} to {first + len(batch) - 1} of 0 to {budget.trials - 1}")
            if config.dry_run:
                for trial in batch:
                    say(f"trial {trial.asked.number}: {trial.shown}")
                carry_out(config, launcher, jobs)
                say(f"then {budget.trials - first - len(batch)} trials that depend on these")
                return None
            for problem in carry_out(config, launcher, jobs):
                say(problem)
        if pending := sum(record_of(job) is None for job in jobs):
            say(f"the search is not at its end: {pending} runs have left no record; the same command goes on")
            raise SystemExit(1)
        for trial in batch:
            result = _judge(trial, config.validation.name)
            if new:
                say(_line(result, config.validation.name))
            if result.reason:
                study.tell(trial.asked, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial.asked, result.values)
            tried.append(result)
    return tried


def _judge(trial: Trial, attack: str) -> Tried:
    """What a trial reached; a failed run fails it, whatever its other seeds say."""
    records = [record for job in trial.jobs if (record := record_of(job)) is not None]
    number, parameters = trial.asked.number, trial.parameters
    if reason := trial.error or next((record.error for record in records if record.error), ""):
        return Tried(number, parameters, [], [], reason.splitlines()[0])
    clean, robust = (_finite(records, f"val/{name}") for name in ("clean", attack))
    if not clean or not robust:
        return Tried(number, parameters, [], [], "its accuracy is not a number")
    return Tried(number, parameters, clean, robust)


def _finite(records: Sequence[RunRecord], metric: str) -> list[float]:
    values = scores(records, metric) or []
    return values if all(value is not None and math.isfinite(value) for value in values) else []


def _line(result: Tried, attack: str) -> str:
    if result.reason:
        return f"trial {result.number}: {result.shown}: failed: {result.reason}"
    clean, robust = percent(result.clean), percent(result.robust)
    return f"trial {result.number}: {result.shown}: val/clean {clean} %, val/{attack} {robust} %"


def _about(
    config: DictConfig, study: str, axes: Sequence[Axis], budget: Budget, reported: Sequence[int], best: Sequence[Tried]
) -> About:
    near = {axis.key: [t.number for t in best if axis.near_an_end(t.parameters[axis.key])] for axis in axes}
    return About(
        study=study,
        axes={axis.key: axis.written for axis in axes},
        sampler=budget.about_sampler,
        side_by_side=budget.side_by_side,
        seeds=budget.seeds,
        reported=reported,
        robust=config.validation.name,
        near_an_end={key: numbers for key, numbers in near.items() if numbers},
    )


def _write_page(results: Path, about: About, tried: Sequence[Tried]) -> None:
    results.mkdir(parents=True, exist_ok=True)
    if pareto_set(tried):
        save(lambda: search_figure(about, tried), results / "search")
    with atomic_write(results / "search.md") as part:
        part.write_text(search_page(about, tried))
    say(f"searched: {results}/search.md")


def _tell_of_others(study: Path, chosen: Sequence[Job]) -> None:
    """An earlier search of fewer trials had another Pareto set: its runs are kept, and reported with the rest."""
    cells = {folder.parent for folder in study.glob("*/seed-*")} - {job.folder.parent for job in chosen}
    if cells:
        say(f"{study} holds {len(cells)} cells that are not of this Pareto set; the report shows them too")
