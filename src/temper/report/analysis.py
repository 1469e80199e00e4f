"""Analysis of one data set: all numbers, tables and verdicts of its report, before any file is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from omegaconf import DictConfig

from temper.report.claims.conclusions import Conclusions, conclude
from temper.report.claims.judgement import JudgedClaims
from temper.report.examples.kept_examples import Example
from temper.report.examples.tabular_examples import TabularRow, kept_rows
from temper.report.examples.text_examples import kept_texts
from temper.report.records.long_format import choose_suite, evaluation_keys, full_frame
from temper.report.records.representatives import representative_runs
from temper.report.statistics.metric_catalogue import NumberFormat
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables.audit_badges import badges, findings
from temper.report.tables.paper_tables import PaperTables, TableOptions, paper_tables
from temper.runs.record import RunRecord


class ReportRequest(NamedTuple):
    """Options of a report.

    Attributes:
        studies: folders of the studies.
        title: title of the report.
        suite: name of the evaluation suite; None: the one that evaluated the most runs.
        settings: config as in conf/report.yaml.
        overrides: command-line overrides of the config.
    """

    studies: Sequence[Path]
    title: str
    suite: str | None
    settings: DictConfig
    overrides: Sequence[str] = ()


class Analysis(NamedTuple):
    """Results of the runs of one data set.

    Attributes:
        request: options of the report.
        records: finished runs that were evaluated by the suite.
        suite: name of the reported suite.
        checkpoint: reported checkpoint.
        data: all metrics, as in `temper.report.records.long_format.full_frame`.
        runs: the same metrics as an array, at the checkpoint.
        paper: tables and bibliography.
        style: format of differences.
        audit: audit checks that did not pass; None if no run was audited.
        conclusions: effects, verdicts on claims, and the Pareto front.
        texts: examples of attacked texts; empty for other data.
        rows: examples of attacked table rows; empty for other data.
        problems: a line for each run, figure or comparison that is left out.
    """

    request: ReportRequest
    records: Sequence[RunRecord]
    suite: str
    checkpoint: str
    data: pd.DataFrame
    runs: PairedRuns
    paper: PaperTables
    style: NumberFormat
    audit: pd.DataFrame | None
    conclusions: Conclusions
    texts: Sequence[Example[str]]
    rows: Sequence[Example[TabularRow]]
    problems: Sequence[str]

    @property
    def judged(self) -> JudgedClaims:
        """Claims with their verdicts."""
        return self.conclusions.judged


def analyze(records: Sequence[RunRecord], request: ReportRequest) -> tuple[Analysis | None, list[str]]:
    """Analyze the runs of one data set.

    Args:
        records: its runs.
        request: options of the report.

    Returns:
        The analysis and an empty list; or None and the reasons if no run is finished and evaluated.

    Raises:
        ValueError: a setting is invalid, for example a table with a metric that no run has.
    """
    studies = ", ".join(map(str, request.studies))
    problems = [f"{_name(r)} failed: {(r.error or '').partition(chr(10))[0]}" for r in records if not r.finished and r.error]
    finished = [record for record in records if record.finished]
    if not finished:
        return None, [f"{studies}: no run is finished. No report is written.", *problems]
    if not any(map(evaluation_keys, finished)):
        return None, [f"{studies}: no run was evaluated on the test set. No report is written.", *problems]
    options = TableOptions.of(request.settings)
    suite = choose_suite(finished, request.suite)
    chosen = [record for record in finished if evaluation_keys(record, suite)]
    problems += [f"{_name(r)} was not evaluated by {suite}" for r in finished if not evaluation_keys(r, suite)]
    checkpoint, checkpoint_problems = _choose_checkpoint(chosen, suite, options.checkpoint)
    data = full_frame(chosen, suite)
    runs = PairedRuns.of(data, checkpoint)
    representatives = representative_runs(chosen, request.studies)
    keys = [evaluation_keys(run.record, suite)[0] for run in representatives]
    texts, text_problems = kept_texts(representatives, keys, checkpoint)
    rows, row_problems = kept_rows(representatives, keys, checkpoint)
    conclusions = conclude(request.studies, chosen, runs, suite, checkpoint, request.settings, options.style)
    analysis = Analysis(
        request=request,
        records=chosen,
        suite=suite,
        checkpoint=checkpoint,
        data=data,
        runs=runs,
        paper=paper_tables(chosen, data, runs, suite, options, checkpoint),
        style=options.style,
        audit=findings(chosen, suite, checkpoint) if badges(chosen, suite) else None,
        conclusions=conclusions,
        texts=texts,
        rows=rows,
        problems=[
            *problems,
            *checkpoint_problems,
            *conclusions.problems,
            *dict.fromkeys([*text_problems, *row_problems]),
        ],
    )
    return analysis, []


def _name(record: RunRecord) -> str:
    return f"{record.attack} x {record.penalty}, seed {record.seed}"


def _choose_checkpoint(records: Sequence[RunRecord], suite: str, wanted: str) -> tuple[str, list[str]]:
    """Return the wanted checkpoint if any run was evaluated at it, else the last evaluated one; and a line for each gap."""
    evaluated = {
        id(record): [name for key in evaluation_keys(record, suite) for name in record.evaluations[key]["checkpoints"]]
        for record in records
    }
    without = [record for record in records if wanted not in evaluated[id(record)]]
    if len(without) < len(records):
        names = dict.fromkeys(f"{record.attack} x {record.penalty}" for record in without)
        return wanted, [f"{name} was not evaluated at the checkpoint {wanted}" for name in names]
    last = evaluated[id(records[0])][-1]
    return last, [f"table.checkpoint={wanted}: {suite} did not evaluate this checkpoint. The report shows {last}."]
