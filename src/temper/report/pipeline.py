"""The report of a study, from its records alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from temper.config.composed import CONF
from temper.report.analysis import ReportRequest, analyse
from temper.report.cross_dataset import Across, write_across
from temper.report.records.baseline import on_baselines
from temper.report.records.load import by_data, gather, selected
from temper.report.records.long_format import evaluations_of
from temper.report.write import write
from temper.runs.record import RunRecord


def make_report(
    study: Path | Sequence[Path],
    results: Path,
    *,
    suite: str | None = None,
    settings: DictConfig | None = None,
    typed: Sequence[str] = (),
) -> list[Any]:
    """Write index.html, runs.csv, table.md, table.tex, tables/, references.bib, and figures of a study into `results`.

    A study of several data sets has a report for each, in a folder of its name, and a page that sets them side by side.

    Args:
        study: folder of the study's runs; of several, they are reported together.
        results: folder of the report; files of an earlier report are replaced whole.
        suite: name of the evaluation to report; None: the one in the settings, or that most runs have.
        settings: as in conf/report.yaml, the default.
        typed: the command line that set them, for the page to tell.

    Returns:
        What to show on a terminal: the first table, problems, and where the report lies.

    Raises:
        ValueError: a setting is wrong, such as a table that names a metric that no run has.
    """
    if settings is None:
        settings = cast(DictConfig, OmegaConf.load(Path(CONF) / "report.yaml"))
    studies = [study] if isinstance(study, Path) else list(study)
    asked = ReportRequest(studies, "+".join(folder.name for folder in studies), suite or settings.suite, settings, typed)
    records, problems = gather(studies)
    baseline = settings.get("baseline") if settings.get("baseline") is not None else settings.get("ground")
    records = selected(on_baselines(by_data(records).values(), baseline), settings.filter)
    sets = by_data(records)
    if len(sets) < 2:
        found, said = analyse(records, asked)
        return [*said, *problems] if found is None else write(found.with_problems(problems), results)
    shown: list[Any] = []
    made = {}
    for name, own in sets.items():
        found, said = analyse(
            own, asked._replace(title=f"{asked.title}: {name}", suite=_of_these(own, suite) or settings.suite)
        )
        shown += [f"\n{name}", *(said if found is None else write(found, results / name))]
        if found is not None:
            made[name] = found
    write_across(Across.of(made), results, asked.title, problems)
    return [*shown, *problems, f"side by side: {results}/index.html, table.md"]


def _of_these(records: Sequence[RunRecord], suite: str | None) -> str | None:
    """Data sets of different kinds are evaluated by different suites: one that these have not is none to ask for."""
    return suite if any(evaluations_of(record, suite) for record in records if suite) else None
