"""Search in two stages: Optuna suggests settings; those on the Pareto front are trained again, evaluated and reported.

Trials are compared on the validation split by two objectives, clean and robust accuracy. A search stores nothing but the
records of its runs: a seeded sampler that gets the same results suggests the same settings. So an interrupted search is
replayed; its finished runs are identified by their content, and only missing runs are trained.
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

from temper.config.errors import ConfigError
from temper.config.run_config import parse
from temper.report.figures import save
from temper.report.tables.results_table import percent
from temper.runs.atomic_files import atomic_write
from temper.runs.jobs import Job
from temper.runs.record import RunRecord
from temper.runs.terminal import say
from temper.sweeps.axes import Axis, axis_overrides, split_axes
from temper.sweeps.composing import Composer
from temper.sweeps.sampling import KEY, SearchBudget
from temper.sweeps.search_report import SearchInfo, TrialResult, pareto_trials, search_figure, search_page
from temper.sweeps.sweep import combinations, plan, run_and_report, run_jobs, unfinished_jobs
from temper.sweeps.trial import ended_record, seed_overlap_warnings, selection_overrides, validation_scores

# Keys of `data` that change training, but not the validation by which trials are compared.
TRAINING_ONLY = ("batch_size", "flip", "threats")


class Trial(NamedTuple):
    """One suggestion of Optuna.

    Attributes:
        suggestion: Optuna's trial.
        parameters: values by key, as overrides write them.
        jobs: one run for each seed; empty if the settings are invalid.
        error: why there are no runs, or empty.
    """

    suggestion: optuna.trial.Trial
    parameters: dict[str, str]
    jobs: list[Job]
    error: str

    @property
    def description(self) -> str:
        """Settings and cell in one line."""
        cell = self.jobs[0].cell.name if self.jobs else f"cannot run: {self.error}"
        return f"{', '.join(f'{key}={value}' for key, value in self.parameters.items())}: {cell}"


def search_and_report(
    config: DictConfig, loader: ConfigLoader, launcher: Launcher, arguments: Sequence[str], search: Any
) -> list[Any]:
    """Search, then run the settings on the Pareto front with the seeds of the command, and report.

    Args:
        config: of the sweep, composed without the axes.
        loader: Hydra's.
        launcher: Hydra's.
        arguments: overrides; an interval, range or choice is an axis of the search, several seeds are those of the report.
        search: as in conf/hydra/sweeper/temper.yaml.

    Raises:
        ConfigError: the search is not possible, or a run is invalid at an end of an axis; nothing is started then.
        SystemExit: a trial has not ended, every trial failed, or a run on the Pareto front failed (status 1).
    """
    budget = SearchBudget.of(search)
    axes, others = split_axes(loader, arguments)
    study = budget.study()
    runs = combinations(loader, others)
    report_jobs, warnings = _check_ends(config, loader, axes, runs)
    folder, seeds = report_jobs[0].folder.parents[1], sorted({job.seed for job in report_jobs})
    for warning in [*warnings, *seed_overlap_warnings(seeds, budget.seeds, KEY)]:
        say(f"warning: {warning}")
    name = str(folder.relative_to(Path(config.paths.outputs)))
    common = [
        *(override for override in runs[0] if not override.startswith("seed=")),
        *selection_overrides(f"{name}-search"),
    ]
    results = _run_trials(
        config, launcher, budget, lambda: _plan(config, loader, axes, _ask(study, axes), common, budget.seeds), study
    )
    if results is None:
        say(f"then the settings on the Pareto front, each with seed {', '.join(map(str, seeds))}")
        return []
    best = pareto_trials(results)
    page = Path(config.paths.results) / folder.name / "search.md"
    if not config.dry_run:
        _write_page(page, _search_info(config, folder.name, axes, budget, seeds, best), results)
    if best:
        say(f"Pareto front: trials {', '.join(str(trial.number) for trial in best)}")
    else:
        say(f"every trial failed; the errors are in {page}")
        raise SystemExit(1)
    final_jobs = plan(config, loader, [[*run, *axis_overrides(axes, trial.parameters)] for trial in best for run in runs])[0]
    _mention_other_cells(folder, final_jobs)
    run_and_report(config, launcher, final_jobs)
    return []


def _check_ends(
    config: DictConfig, loader: ConfigLoader, axes: Sequence[Axis], runs: Sequence[list[str]]
) -> tuple[list[Job], list[str]]:
    """Compose and validate the cells at the ends of every axis, with the seeds of the report.

    Returns:
        The runs of the first cell, and the warnings that apply at every end: they are about the settings, not about a value.

    Raises:
        ConfigError: a value at an end is wrong, changes nothing, or changes the validation by which trials are compared.
    """
    first = {axis.key: axis.ends[0] for axis in axes}
    corners = {"": first} | {f"{a.key}={end}": first | {a.key: end} for a in axes for end in a.ends[1:]}
    corners["all"] = {axis.key: axis.ends[-1] for axis in axes}
    compose = Composer(config, loader).compose
    jobs: dict[str, list[Job]] = {}
    errors: dict[str, None] = {}
    warnings: list[dict[str, None]] = []
    for name, parameters in corners.items():
        try:
            jobs[name], cell_warnings = plan(config, loader, [[*run, *axis_overrides(axes, parameters)] for run in runs])
            warnings.append(dict.fromkeys(warning.partition(": ")[2] or warning for warning in cell_warnings))
        except ConfigError as error:
            errors[str(error)] = None
    if errors:
        raise ConfigError("\n".join(errors))
    validation = {
        name: _validation_settings(compose([*runs[0], *axis_overrides(axes, values)])) for name, values in corners.items()
    }
    for axis in axes:
        for end in axis.ends[1:]:
            if validation[f"{axis.key}={end}"] != validation[""]:
                raise ConfigError(
                    f"{axis.key}={axis.text}: cannot be searched, because it changes the validation attack or the validation "
                    "split, by which trials are compared. Search the training radius by attack.eps."
                )
            if jobs[f"{axis.key}={end}"][0].cell.digest == jobs[""][0].cell.digest:
                raise ConfigError(
                    f"{axis.key}={axis.text}: cannot be searched, because {axis.ends[0]} and {end} give the same run. "
                    "Remove this axis."
                )
    return jobs[""], [warning for warning in warnings[0] if all(warning in others for others in warnings)]


def _validation_settings(config: DictConfig) -> str:
    """Return the settings by which trials are compared, as JSON."""
    values = parse(config).plain()
    data = {key: value for key, value in values["data"].items() if key not in TRAINING_ONLY}
    return json.dumps([values["validation"], data], sort_keys=True)


def _ask(study: optuna.Study, axes: Sequence[Axis]) -> optuna.trial.Trial:
    """Ask Optuna for the next settings."""
    try:
        return study.ask({axis.key: axis.distribution for axis in axes})
    except ValueError as error:
        raise ConfigError(f"{KEY}.sampler: {error}") from error


def _plan(
    config: DictConfig,
    loader: ConfigLoader,
    axes: Sequence[Axis],
    suggestion: optuna.trial.Trial,
    common: Sequence[str],
    seeds: Sequence[int],
) -> Trial:
    """Plan the runs of a trial.

    Settings that are valid at the ends of each axis may be invalid in combination; such a trial fails.
    """
    parameters = {axis.key: axis.value(suggestion.params[axis.key]) for axis in axes}
    runs = [[*common, *axis_overrides(axes, parameters), f"seed={seed}"] for seed in seeds]
    try:
        return Trial(suggestion, parameters, plan(config, loader, runs)[0], "")
    except ConfigError as error:
        return Trial(suggestion, parameters, [], str(error))


def _run_trials(
    config: DictConfig, launcher: Launcher, budget: SearchBudget, ask: Callable[[], Trial], study: optuna.Study
) -> list[TrialResult] | None:
    """Run all trials in batches: get suggestions, train what is missing, and report the results to Optuna.

    Returns:
        The results; None if a dry run reaches trials that are not finished, which it prints.

    Raises:
        SystemExit: a run has no record (status 1).
    """
    results: list[TrialResult] = []
    started: set[Path] = set()
    while (first := len(results)) < budget.trials:
        batch = [ask() for _ in range(min(budget.concurrent, budget.trials - first))]
        # Settings that are suggested again have ended already, finished or failed.
        jobs = list({job.folder: job for trial in batch for job in trial.jobs if job.folder not in started}.values())
        started |= {job.folder for job in jobs}
        if new := bool(unfinished_jobs(config, jobs)):
            say(f"trials {first} to {first + len(batch) - 1} ({budget.trials} in total)")
            if config.dry_run:
                for trial in batch:
                    say(f"trial {trial.suggestion.number}: {trial.description}")
                run_jobs(config, launcher, jobs)
                say(f"then {budget.trials - first - len(batch)} trials, whose settings depend on these results")
                return None
            for problem in run_jobs(config, launcher, jobs):
                say(problem)
        if pending := sum(ended_record(job) is None for job in jobs):
            say(f"the search is incomplete: {pending} of its runs left no record. Run the same command again to resume it.")
            raise SystemExit(1)
        for trial in batch:
            result = _result_of(trial, config.validation.name)
            if new:
                say(_line(result, config.validation.name))
            if result.reason:
                study.tell(trial.suggestion, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial.suggestion, result.values)
            results.append(result)
    return results


def _result_of(trial: Trial, attack: str) -> TrialResult:
    """Return the result of a trial; it fails if the run of any seed failed."""
    records = [record for job in trial.jobs if (record := ended_record(job)) is not None]
    number, parameters = trial.suggestion.number, trial.parameters
    if reason := trial.error or next((record.error for record in records if record.error), ""):
        return TrialResult(number, parameters, [], [], reason.splitlines()[0])
    clean, robust = (_finite_scores(records, f"val/{name}") for name in ("clean", attack))
    if not clean or not robust:
        return TrialResult(number, parameters, [], [], "its validation accuracy is not finite")
    return TrialResult(number, parameters, clean, robust)


def _finite_scores(records: Sequence[RunRecord], metric: str) -> list[float]:
    """Return the score of each run, or an empty list if any is missing or not finite."""
    values = validation_scores(records, metric) or []
    return values if all(value is not None and math.isfinite(value) for value in values) else []


def _line(result: TrialResult, attack: str) -> str:
    if result.reason:
        return f"trial {result.number}: {result.setting}: failed: {result.reason}"
    clean, robust = percent(result.clean), percent(result.robust)
    return f"trial {result.number}: {result.setting}: val/clean {clean} %, val/{attack} {robust} %"


def _search_info(
    config: DictConfig,
    study: str,
    axes: Sequence[Axis],
    budget: SearchBudget,
    report_seeds: Sequence[int],
    best: Sequence[TrialResult],
) -> SearchInfo:
    near_end = {axis.key: [t.number for t in best if axis.is_near_end(t.parameters[axis.key])] for axis in axes}
    return SearchInfo(
        study=study,
        axes={axis.key: axis.text for axis in axes},
        sampler=budget.sampler_description,
        concurrent=budget.concurrent,
        seeds=budget.seeds,
        report_seeds=report_seeds,
        attack=config.validation.name,
        near_end={key: numbers for key, numbers in near_end.items() if numbers},
    )


def _write_page(page: Path, info: SearchInfo, results: Sequence[TrialResult]) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    if pareto_trials(results):
        save(lambda: search_figure(info, results), page.with_suffix(""))
    with atomic_write(page) as part:
        part.write_text(search_page(info, results))
    say(f"search report: {page}")


def _mention_other_cells(study: Path, jobs: Sequence[Job]) -> None:
    """Print how many other cells the report will include, such as those of an earlier search with fewer trials."""
    cells = {folder.parent for folder in study.glob("*/seed-*")} - {job.folder.parent for job in jobs}
    if cells:
        say(f"{study} contains {len(cells)} cells that are not on this Pareto front; the report includes them")
