"""Sweep in two stages: every cell is tuned with the same budget, then the grid runs at the tuned strengths."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import MinLen
from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from temper.config.cell import NOT_IDENTITY
from temper.config.errors import ConfigError
from temper.config.types import NonNegative
from temper.report.records.long_format import differing_settings
from temper.runs.atomic_files import atomic_write
from temper.runs.jobs import Job
from temper.runs.record import RunRecord
from temper.runs.terminal import say
from temper.sweeps.sweep import combinations, plan, run_and_report, run_jobs
from temper.sweeps.trial import (
    Seeds,
    ended_record,
    parse_list,
    seed_overlap_warnings,
    selection_overrides,
    validation_scores,
)
from temper.sweeps.tuning_report import TunedCell, tuning_page

KEY = "hydra.sweeper.tune"
KINDS: dict[str, Any] = {"strength": Annotated[list[NonNegative], MinLen(1)], "seed": Seeds}
EXAMPLES = {"strength": "[0.1,1]", "seed": "[100,101]"}


class TuningBudget(NamedTuple):
    """Tuning budget of every cell.

    Attributes:
        strengths: candidates, ascending.
        seeds: with which each strength is run.
    """

    strengths: list[float]
    seeds: list[int]

    @classmethod
    def of(cls, tune: Mapping[str, Any]) -> "TuningBudget":
        """Parse `hydra.sweeper.tune`.

        Args:
            tune: a list for each key, or text separated by commas.

        Raises:
            ConfigError: a key is unknown or missing, a list is empty, or a value is not a number.
        """
        if not isinstance(tune, Mapping) or set(tune) != set(KINDS):
            given = ", ".join(map(str, tune)) if isinstance(tune, Mapping) else repr(tune)
            raise ConfigError(
                f"{KEY}: needs the keys strength and seed, and no other (got {given or 'none'}). Set "
                f"'{KEY}={{strength:[0.1,1],seed:[100,101]}}', or {KEY}=null for no tuning."
            )
        values = {key: parse_list(tune[key], kind, f"{KEY}.{key}", EXAMPLES[key]) for key, kind in KINDS.items()}
        return cls(values["strength"], values["seed"])


class TuningRun(NamedTuple):
    """A run of the first stage.

    Attributes:
        cell: folder of the cell that it tunes.
        strength: candidate strength.
        job: the run.
    """

    cell: Path
    strength: float
    job: Job


def tune_and_sweep(
    config: DictConfig, loader: ConfigLoader, launcher: Launcher, arguments: Sequence[str], tune: Mapping[str, Any]
) -> list[Any]:
    """Tune every cell of a grid that has a scaled penalty, then run the grid at the selected strengths and report.

    Args:
        config: of the sweep, composed without the axes.
        loader: Hydra's.
        launcher: Hydra's.
        arguments: overrides, as of `temper.sweeps.sweep.sweep`.
        tune: the budget, as in conf/hydra/sweeper/temper.yaml.

    Raises:
        ConfigError: a cell is invalid at a strength of the budget; nothing is started then.
        SystemExit: a run failed, or every strength of a cell did (status 1).
    """
    budget = TuningBudget.of(tune)
    runs = combinations(loader, arguments)
    if any(override.lstrip("+").startswith("strength=") for override in runs[0]):
        raise ConfigError(f"strength: is tuned by {KEY}. Leave it out and set {KEY}.strength, or set {KEY}=null for no tuning.")
    grid, warnings = plan(config, loader, runs)
    tuning_runs = _tuning_runs(config, loader, grid, budget)
    warnings += seed_overlap_warnings((job.seed for job in grid), budget.seeds, KEY)
    for warning in warnings:
        say(f"warning: {warning}")
    problems = run_jobs(config, launcher, [run.job for run in tuning_runs]) if tuning_runs else []
    for problem in problems:
        say(problem)
    if pending := [run for run in tuning_runs if ended_record(run.job) is None]:
        if config.dry_run:
            say(f"then the grid: {len(grid)} runs at the tuned strengths")
            return []
        say(f"tuning is incomplete: {len(pending)} of its runs left no record. Run the same command again to resume it.")
        raise SystemExit(1)
    tuned = _select(tuning_runs)
    if not config.dry_run:
        _write_pages(config, grid, tuned, budget)
    lost = [f"failed: {folder}: {cell.name} failed at every strength" for folder, cell in tuned.items() if cell.chosen is None]
    final_runs = [run for job in grid if (run := _at_chosen(job, tuned)) is not None]
    run_and_report(config, launcher, plan(config, loader, final_runs)[0], lost)
    return []


def _tuning_runs(config: DictConfig, loader: ConfigLoader, grid: Sequence[Job], budget: TuningBudget) -> list[TuningRun]:
    """Plan the runs of the first stage, in a study named after the grid's."""
    candidates: list[tuple[Path, float]] = []
    runs = []
    for folder, job in {job.folder.parent: job for job in grid if job.uses_strength}.items():
        study = folder.parent.relative_to(Path(config.paths.outputs))
        cell = [override for override in job.overrides if not override.startswith("seed=")]
        for strength in budget.strengths:
            for seed in budget.seeds:
                candidates.append((folder, strength))
                runs.append([*cell, *selection_overrides(f"{study}-tuning"), f"strength={strength}", f"seed={seed}"])
    jobs = plan(config, loader, runs)[0]  # its warnings repeat those of the grid's plan
    return [TuningRun(cell, strength, job) for (cell, strength), job in zip(candidates, jobs, strict=True)]


def _select(runs: Sequence[TuningRun]) -> dict[Path, TunedCell]:
    """Return the tuning results by cell folder; a strength fails if the run of any seed failed."""
    records: dict[Path, dict[float, list[RunRecord]]] = {}
    for run in runs:
        record = ended_record(run.job)
        assert record is not None
        records.setdefault(run.cell, {}).setdefault(run.strength, []).append(record)
    firsts = {cell: next(iter(by_strength.values()))[0] for cell, by_strength in records.items()}
    groups: dict[tuple[str, str], dict[Path, dict[str, Any]]] = {}
    for cell, first in firsts.items():
        values = {key: value for key, value in first.config.items() if key not in NOT_IDENTITY}
        groups.setdefault((first.attack, first.penalty), {})[cell] = values
    settings = differing_settings(groups.values())
    return {
        cell: TunedCell(
            attack=firsts[cell].attack,
            penalty=firsts[cell].penalty,
            setting=settings[cell],
            monitor=firsts[cell].monitor,
            scores={strength: validation_scores(seeds, firsts[cell].monitor) for strength, seeds in by_strength.items()},
        )
        for cell, by_strength in records.items()
    }


def _at_chosen(job: Job, tuned: Mapping[Path, TunedCell]) -> list[str] | None:
    """Return the overrides of a run of the grid at its cell's selected strength; None if every strength failed."""
    cell = tuned.get(job.folder.parent)
    if cell is None:
        return job.overrides
    return None if cell.chosen is None else [*job.overrides, f"strength={cell.chosen}"]


def _write_pages(config: DictConfig, grid: Sequence[Job], tuned: Mapping[Path, TunedCell], budget: TuningBudget) -> None:
    """Write tuning.md next to the report of each study, and print the selected strengths."""
    for study in sorted({job.folder.parents[1] for job in grid}):
        cells = {job.folder.parent: job.cell for job in grid if job.folder.parents[1] == study}
        of_study = [tuned[folder] for folder in cells if folder in tuned]
        if not of_study:
            say(f"{study}: nothing to tune, because strength scales no penalty of its cells")
            continue
        untuned = [f"{cell.attack} x {cell.penalty}" for folder, cell in cells.items() if folder not in tuned]
        path = Path(config.paths.results) / study.name / "tuning.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            part.write_text(tuning_page(study.name, of_study, untuned, budget.seeds))
        for cell in of_study:
            if cell.chosen is not None:
                say(f"{cell.name}: selected strength {cell.chosen:g}, {cell.monitor} {cell.score_text(cell.chosen)} %")
        say(f"tuning report: {path}")
