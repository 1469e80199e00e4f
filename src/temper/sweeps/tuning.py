"""A sweep in two stages: every cell is given the same budget of strengths, then runs at the one that validation chose."""

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
from temper.report.records.long_format import differences
from temper.runs.atomic_files import atomic_write
from temper.runs.jobs import Job
from temper.runs.record import RunRecord
from temper.runs.terminal import say
from temper.sweeps.sweep import carry_out, combinations, plan, run_and_report
from temper.sweeps.trial import Seeds, both_seeds, record_of, scores, settings, values_of
from temper.sweeps.tuning_report import Tuned, tuning_page

KEY = "hydra.sweeper.tune"
KINDS: dict[str, Any] = {"strength": Annotated[list[NonNegative], MinLen(1)], "seed": Seeds}
EXAMPLES = {"strength": "[0.1,1]", "seed": "[100,101]"}


class Budget(NamedTuple):
    """What every cell is given: the strengths to try, ascending, and the seeds to try each of them with."""

    strengths: list[float]
    seeds: list[int]

    @classmethod
    def of(cls, tune: Mapping[str, Any]) -> "Budget":
        """From a list for each key, or text separated by commas as axes are typed.

        Raises:
            ConfigError: a key is unknown or missing, or a list is empty or holds something else than numbers.
        """
        if not isinstance(tune, Mapping) or set(tune) != set(KINDS):
            there = ", ".join(map(str, tune)) if isinstance(tune, Mapping) else repr(tune)
            raise ConfigError(
                f"{KEY} needs the keys strength and seed, and no other (got {there or 'none'}): "
                f"'{KEY}={{strength:[0.1,1],seed:[100,101]}}', or {KEY}=null not to tune"
            )
        values = {key: values_of(tune[key], kind, f"{KEY}.{key}", EXAMPLES[key]) for key, kind in KINDS.items()}
        return cls(values["strength"], values["seed"])


class Trial(NamedTuple):
    """A run of the first stage: the folder of the cell that it tunes, the strength it tries, and the run itself."""

    cell: Path
    strength: float
    job: Job


def tune_and_sweep(
    config: DictConfig, loader: ConfigLoader, launcher: Launcher, arguments: Sequence[str], tune: Mapping[str, Any]
) -> list[Any]:
    """Tune every cell of a grid whose penalties strength scales, then run the grid at the chosen strengths and report.

    Args:
        config, loader, launcher, arguments: as of `temper.sweeps.sweep.sweep`.
        tune: the budget, as in conf/hydra/sweeper/temper.yaml.

    Raises:
        ConfigError: a cell could not run, at some strength of the budget; nothing has been started then.
        SystemExit: some run failed, or every strength of a cell did (status 1).
    """
    budget = Budget.of(tune)
    runs = combinations(loader, arguments)
    if any(override.lstrip("+").startswith("strength=") for override in runs[0]):
        raise ConfigError(f"strength is what {KEY} chooses: leave it out, set {KEY}.strength, or {KEY}=null not to tune")
    grid, warnings = plan(config, loader, runs)
    trials = _trials(config, loader, grid, budget)
    warnings += both_seeds((job.seed for job in grid), budget.seeds, KEY)
    for warning in warnings:
        say(f"warning: {warning}")
    problems = carry_out(config, launcher, [trial.job for trial in trials]) if trials else []
    for problem in problems:
        say(problem)
    if pending := [trial for trial in trials if record_of(trial.job) is None]:
        if config.dry_run:
            say(f"then the grid: {len(grid)} runs, at the strengths that these choose")
            return []
        say(f"no strength is chosen yet: {len(pending)} runs have left no record; the same command goes on")
        raise SystemExit(1)
    tuned = _judge(trials)
    if not config.dry_run:
        _write_pages(config, grid, tuned, budget)
    lost = [f"failed: {folder}: {cell.name} failed at every strength" for folder, cell in tuned.items() if cell.chosen is None]
    chosen = [run for job in grid if (run := _at_chosen(job, tuned)) is not None]
    run_and_report(config, launcher, plan(config, loader, chosen)[0], lost)
    return []


def _trials(config: DictConfig, loader: ConfigLoader, grid: Sequence[Job], budget: Budget) -> list[Trial]:
    """The runs of the first stage, in a study of their own beside the grid's."""
    planned: list[tuple[Path, float]] = []
    runs = []
    for folder, job in {job.folder.parent: job for job in grid if job.scaled}.items():
        study = folder.parent.relative_to(Path(config.paths.outputs))
        cell = [override for override in job.overrides if not override.startswith("seed=")]
        for strength in budget.strengths:
            for seed in budget.seeds:
                planned.append((folder, strength))
                runs.append([*cell, *settings(f"{study}-tuning"), f"strength={strength}", f"seed={seed}"])
    jobs = plan(config, loader, runs)[0]  # what there is to warn of, the grid's own plan has said
    return [Trial(cell, strength, job) for (cell, strength), job in zip(planned, jobs, strict=True)]


def _judge(trials: Sequence[Trial]) -> dict[Path, Tuned]:
    """By the folder of each cell, how it did at every strength; one with a failed run is out, whatever its other seeds say."""
    records: dict[Path, dict[float, list[RunRecord]]] = {}
    for trial in trials:
        record = record_of(trial.job)
        assert record is not None
        records.setdefault(trial.cell, {}).setdefault(trial.strength, []).append(record)
    firsts = {cell: next(iter(tried.values()))[0] for cell, tried in records.items()}
    groups: dict[tuple[str, str], dict[Path, dict[str, Any]]] = {}
    for cell, first in firsts.items():
        values = {key: value for key, value in first.config.items() if key not in NOT_IDENTITY}
        groups.setdefault((first.attack, first.penalty), {})[cell] = values
    apart = differences(groups.values())
    return {
        cell: Tuned(
            attack=firsts[cell].attack,
            penalty=firsts[cell].penalty,
            setting=apart[cell],
            monitor=firsts[cell].monitor,
            scores={strength: scores(runs, firsts[cell].monitor) for strength, runs in tried.items()},
        )
        for cell, tried in records.items()
    }


def _at_chosen(job: Job, tuned: Mapping[Path, Tuned]) -> list[str] | None:
    """The overrides of a run of the grid at its cell's strength; None where every strength failed."""
    cell = tuned.get(job.folder.parent)
    if cell is None:
        return job.overrides
    return None if cell.chosen is None else [*job.overrides, f"strength={cell.chosen}"]


def _write_pages(config: DictConfig, grid: Sequence[Job], tuned: Mapping[Path, Tuned], budget: Budget) -> None:
    """tuning.md beside the report of each study."""
    for study in sorted({job.folder.parents[1] for job in grid}):
        cells = {job.folder.parent: job.cell for job in grid if job.folder.parents[1] == study}
        of_study = [tuned[folder] for folder in cells if folder in tuned]
        if not of_study:
            say(f"nothing to tune in {study}: strength scales no penalty of its cells")
            continue
        untuned = [f"{cell.attack} x {cell.penalty}" for folder, cell in cells.items() if folder not in tuned]
        path = Path(config.paths.results) / study.name / "tuning.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            part.write_text(tuning_page(study.name, of_study, untuned, budget.seeds))
        for cell in of_study:
            if cell.chosen is not None:
                say(f"{cell.name}: strength {cell.chosen:g}, {cell.monitor} {cell.shown(cell.chosen)} %")
        say(f"tuned: {path}")
