"""Make the report of a study from its records alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from temper.config.composed import CONF
from temper.report.analysis import ReportRequest, analyze
from temper.report.cross_dataset import CrossDatasetReport, write_cross_dataset_report
from temper.report.records.baseline import apply_baselines
from temper.report.records.load import group_by_dataset, load_records, select_cells
from temper.report.records.long_format import evaluation_keys
from temper.report.write import write_report


def make_report(
    study: Path | Sequence[Path],
    results: Path,
    *,
    suite: str | None = None,
    settings: DictConfig | None = None,
    overrides: Sequence[str] = (),
) -> list[Any]:
    """Write index.html, runs.csv, table.md, table.tex, tables/, references.bib and the figures of a study into `results`.

    A study of several data sets gets a report for each, in a subfolder of that name, and a page that compares them.

    Args:
        study: folder of the study; several studies are reported together.
        results: folder of the report; files of an earlier report are replaced.
        suite: name of the evaluation suite; None: the one in the settings, or else the one that evaluated the most runs.
        settings: config as in conf/report.yaml, which is the default.
        overrides: command-line overrides of the settings, which the page repeats.

    Returns:
        Output for the terminal: the first table, problems, and the paths of the report.

    Raises:
        ValueError: a setting is invalid, for example a table with a metric that no run has.
    """
    if settings is None:
        settings = cast(DictConfig, OmegaConf.load(Path(CONF) / "report.yaml"))
    studies = [study] if isinstance(study, Path) else list(study)
    title = "+".join(folder.name for folder in studies)
    request = ReportRequest(studies, title, suite or settings.suite, settings, overrides)
    records, problems = load_records(studies)
    baseline = settings.get("baseline") if settings.get("baseline") is not None else settings.get("ground")
    records = select_cells(apply_baselines(group_by_dataset(records).values(), baseline), settings.filter)
    datasets = group_by_dataset(records)
    if len(datasets) < 2:
        analysis, reasons = analyze(records, request)
        if analysis is None:
            return [*reasons, *problems]
        return write_report(analysis._replace(problems=[*problems, *analysis.problems]), results)
    output: list[Any] = []
    analyses = {}
    for name, runs in datasets.items():
        # Data sets of different kinds have different suites; `suite` applies to those that have it.
        own_suite = suite if suite and any(evaluation_keys(run, suite) for run in runs) else settings.suite
        analysis, reasons = analyze(runs, request._replace(title=f"{title}: {name}", suite=own_suite))
        output += [f"\n{name}", *(reasons if analysis is None else write_report(analysis, results / name))]
        if analysis is not None:
            analyses[name] = analysis
    write_cross_dataset_report(CrossDatasetReport.of(analyses), results, title, problems)
    return [*output, *problems, f"comparison of the data sets: {results}/index.html, table.md"]
