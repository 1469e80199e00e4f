"""What the report of one data set says, in numbers and words: nothing is drawn or written here."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from omegaconf import DictConfig

from temper.report.claims.conclusions import Conclusions, conclude
from temper.report.claims.judgement import Judged
from temper.report.examples.kept_examples import Example
from temper.report.examples.tabular_examples import Row, kept_rows
from temper.report.examples.text_examples import kept_texts
from temper.report.records.long_format import choose_suite, evaluated, evaluations_of, evidence
from temper.report.records.representatives import one_of_each_kind
from temper.report.statistics.metric_catalogue import Style
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables.audit_badges import badges, findings
from temper.report.tables.paper_tables import Paper, TableOptions, paper_of
from temper.runs.record import RunRecord


class ReportRequest(NamedTuple):
    """What is to be reported.

    Attributes:
        studies: the folders that the runs lie in.
        title: of the report.
        suite: which evaluation; None: the one that most runs have.
        settings: as in conf/report.yaml.
        typed: what of the command line made them so.
    """

    studies: Sequence[Path]
    title: str
    suite: str | None
    settings: DictConfig
    typed: Sequence[str] = ()


class Analysis(NamedTuple):
    """What the runs of one data set say.

    Attributes:
        asked: what was to be reported.
        records: finished runs that were evaluated by the suite.
        suite, checkpoint: whose numbers are shown.
        data: the numbers, as `temper.report.records.long_format.evidence` gives them.
        runs: the same as one block, of the checkpoint.
        paper: the tables.
        style: how differences are shown.
        audited: what of the audit did not pass; None: there was no audit.
        concluded: effects, claims and the front.
        texts: examples of what exchanging words did; none where inputs are no texts.
        rows: examples of what an attack did to rows; none where inputs are no rows of a table.
        problems: what is left out, and why, a line each.
    """

    asked: ReportRequest
    records: Sequence[RunRecord]
    suite: str
    checkpoint: str
    data: pd.DataFrame
    runs: PairedRuns
    paper: Paper
    style: Style
    audited: pd.DataFrame | None
    concluded: Conclusions
    texts: Sequence[Example[str]]
    rows: Sequence[Example[Row]]
    problems: Sequence[str]

    @property
    def judged(self) -> Judged:
        return self.concluded.judged

    def with_problems(self, before: Sequence[str]) -> "Analysis":
        """The same, with what was left out before these runs were chosen."""
        return self._replace(problems=[*before, *self.problems])


def analyse(records: Sequence[RunRecord], asked: ReportRequest) -> tuple[Analysis | None, list[str]]:
    """What these runs say; or None, and why there is no report.

    Raises:
        ValueError: a setting is wrong, such as a table that names a metric that no run has.
    """
    where = ", ".join(map(str, asked.studies))
    problems = [f"{_name(r)} failed: {(r.error or '').partition(chr(10))[0]}" for r in records if not r.finished and r.error]
    finished = [record for record in records if record.finished]
    if not finished:
        return None, [f"no run of {where} is finished: no report", *problems]
    if not any(map(evaluated, finished)):
        return None, [f"no run of {where} was evaluated on the test set: no report", *problems]
    wanted = TableOptions.of(asked.settings)
    suite = choose_suite(finished, asked.suite)
    chosen = [record for record in finished if evaluations_of(record, suite)]
    problems += [f"{_name(r)} was not evaluated by {suite}" for r in finished if not evaluations_of(r, suite)]
    checkpoint, said = _checkpoint(chosen, suite, wanted.checkpoint)
    data = evidence(chosen, suite)
    runs = PairedRuns.of(data, checkpoint)
    picks = one_of_each_kind(chosen, asked.studies)
    suites = [evaluations_of(pick.record, suite)[0] for pick in picks]
    texts, unreadable = kept_texts(picks, suites, checkpoint)
    rows, broken = kept_rows(picks, suites, checkpoint)
    concluded = conclude(asked.studies, chosen, runs, suite, checkpoint, asked.settings, wanted.style)
    found = Analysis(
        asked=asked,
        records=chosen,
        suite=suite,
        checkpoint=checkpoint,
        data=data,
        runs=runs,
        paper=paper_of(chosen, data, runs, suite, wanted, checkpoint),
        style=wanted.style,
        audited=findings(chosen, suite, checkpoint) if badges(chosen, suite) else None,
        concluded=concluded,
        texts=texts,
        rows=rows,
        problems=[*problems, *said, *concluded.problems, *dict.fromkeys([*unreadable, *broken])],
    )
    return found, []


def _name(record: RunRecord) -> str:
    return f"{record.attack} x {record.penalty}, seed {record.seed}"


def _checkpoint(records: Sequence[RunRecord], suite: str, wanted: str) -> tuple[str, list[str]]:
    """The one that is asked for, if some run was evaluated there, or the last that the suite evaluated; and what is to be said
    of that."""
    there = {
        id(record): [name for key in evaluations_of(record, suite) for name in record.evaluations[key]["checkpoints"]]
        for record in records
    }
    without = [record for record in records if wanted not in there[id(record)]]
    if len(without) < len(records):
        names = dict.fromkeys(f"{record.attack} x {record.penalty}" for record in without)
        return wanted, [f"{name} was not evaluated at the checkpoint {wanted}" for name in names]
    last = there[id(records[0])][-1]
    return last, [f"table.checkpoint={wanted}: {suite} did not evaluate it; {last} is shown"]
