"""The panels of a study's W&B report and workspace: which metric of a run each of them shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import wandb_workspaces.expr as we
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

KIND, ATTACK, PENALTY = "cell.kind", "cell.attack", "cell.penalty"


@dataclass(frozen=True)
class StudyOverview:
    """What a study has to show.

    Attributes:
        study, project, entity: whose runs; an empty entity is filled in where there is a login.
        checkpoint: whose final numbers.
        attacks: of the evaluation.
        validation: name of the validation attack.
        audited, pictured: whether its runs have audits, and pictures of examples.
        about: lines on what the numbers rest on.
        table: the study's table, as Markdown.
        sentences: what each pair of kinds shows.
    """

    study: str
    project: str
    entity: str
    checkpoint: str
    attacks: Sequence[str]
    validation: str
    audited: bool
    pictured: bool
    about: Sequence[str]
    table: str
    sentences: Sequence[str]

    def final(self, metric: str) -> wr.SummaryMetric:
        """A number of the record as W&B names it."""
        return wr.SummaryMetric(metric if metric.startswith("cost/") else f"{self.checkpoint}/{metric}")

    @property
    def runs(self) -> str:
        """The filter that leaves this study's runs."""
        return f"Config('study') = '{self.study}'"


def curves(shown: StudyOverview) -> list[wr.LinePlot]:
    """Clean and robust accuracy, risk and penalty apart, a line for each kind: mean and standard deviation of its runs."""
    titles = {
        "val/clean": "clean accuracy, validation",
        f"val/{shown.validation}": f"accuracy under {shown.validation}, validation",
        "train/risk": "risk, training",
        "train/penalty": "weighted penalty, training",
    }
    return [
        wr.LinePlot(
            title=title,
            x="epoch",
            y=[metric],
            title_x="epoch",
            groupby=wr.Config(KIND),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        for metric, title in titles.items()
    ]


def plane(shown: StudyOverview) -> list[wr.ScatterPlot]:
    """The trade-off plane, and the price of robustness."""
    worst = shown.final("test/worst_case")
    return [
        wr.ScatterPlot(title="clean against robust accuracy", x=shown.final("test/clean"), y=worst),
        wr.ScatterPlot(title="seconds of training against robust accuracy", x=shown.final("cost/seconds"), y=worst, log_x=True),
    ]


def coordinates(shown: StudyOverview) -> list[wr.ParallelCoordinatesPlot]:
    """From a cell to what came of it, a line for each run."""
    column = wr.ParallelCoordinatesPlotColumn
    return [
        wr.ParallelCoordinatesPlot(
            title="from cell to result",
            columns=[
                column(wr.Config(ATTACK), display_name="attack"),
                column(wr.Config(PENALTY), display_name="penalty"),
                column(wr.Config("strength"), display_name="strength"),
                column(shown.final("test/clean"), display_name="clean"),
                column(shown.final("test/worst_case"), display_name="worst case"),
                column(shown.final("gap/robust"), display_name="robust gap", inverted=True),
                column(shown.final("cost/seconds"), display_name="training s", inverted=True),
            ],
        )
    ]


def by_kind(shown: StudyOverview) -> list[wr.BarPlot]:
    """The numbers that the comparison of kinds rests on: mean and standard deviation of each kind's runs."""
    titles = {
        "test/clean": "clean accuracy",
        "test/worst_case": "robust accuracy, worst case",
        "gap/robust": "robust generalization gap",
        "cost/seconds": "seconds of training",
    }
    return [
        wr.BarPlot(
            title=title,
            metrics=[shown.final(metric)],
            groupby=wr.Config(KIND),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        for metric, title in titles.items()
    ]


def single_runs(shown: StudyOverview) -> list[wr.MediaBrowser | wr.WeavePanelSummaryTable | wr.CustomChart]:
    """What each run shows of itself: results, confusion under attack, examples, audit."""
    panels: list[wr.MediaBrowser | wr.WeavePanelSummaryTable | wr.CustomChart] = [
        wr.WeavePanelSummaryTable(table_name="final/results"),
        wr.CustomChart(
            query={"summaryTable": {"tableKey": "final/confusion_table"}},
            chart_name="wandb/confusion_matrix/v1",
            chart_fields={"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"},
            chart_strings={"title": "confusion under the strongest attack"},
        ),
        wr.WeavePanelSummaryTable(table_name="final/examples"),
    ]
    if shown.pictured:
        panels.append(wr.MediaBrowser(title="examples, and what attacks made of them", media_keys=["final/pictures"]))
    if shown.audited:
        panels.append(wr.WeavePanelSummaryTable(table_name="final/audit"))
    return panels


def columns(shown: StudyOverview) -> list[str]:
    """Of the table of runs."""
    metrics = ["test/clean", *(f"test/{attack}" for attack in shown.attacks), "test/worst_case", "gap/robust", "cost/seconds"]
    metrics += ["audit/verdict"] if shown.audited else []
    return [
        *(f"config:{key.replace('cell', 'cell.value', 1)}" for key in (KIND, ATTACK, PENALTY)),
        "config:seed.value",
        *(f"summary:{shown.final(metric).name}" for metric in metrics),
    ]


def report(shown: StudyOverview) -> wr.Report:
    """A page to read: what was asked, what came out, and the runs behind it."""

    def grid(panels: Sequence[wr.interface.PanelTypes], *, runs: bool = False) -> wr.PanelGrid:
        runset = wr.Runset(
            entity=shown.entity,
            project=shown.project,
            name=shown.study,
            filters=shown.runs,
            groupby=[f"config.{ATTACK}", f"config.{PENALTY}"] if runs else [],
            pinned_columns=columns(shown),
            lock_columns=True,
        )
        return wr.PanelGrid(runsets=[runset], panels=list(panels), hide_run_sets=not runs)

    return wr.Report(
        project=shown.project,
        entity=shown.entity,
        title=f"{shown.study}: adversarial training against regularization",
        description=shown.about[0],
        width="fluid",
        blocks=[
            wr.MarkdownBlock("\n\n".join(shown.about)),
            wr.H2("The grid"),
            wr.MarkdownBlock(shown.table),
            wr.H2("The kinds against one another"),
            wr.MarkdownBlock(
                "\n".join(f"- {sentence}" for sentence in shown.sentences) or "The study has no two kinds to compare."
            ),
            grid(by_kind(shown)),
            wr.H2("The trade-off plane"),
            grid(plane(shown)),
            wr.H2("From cell to result"),
            grid(coordinates(shown)),
            wr.H2("Curves by kind"),
            grid(curves(shown)),
            wr.H2("The runs"),
            grid([], runs=True),
        ],
    )


def workspace(shown: StudyOverview) -> ws.Workspace:
    """The same panels to work with, and what each run shows of itself."""
    sections: dict[str, Sequence[Any]] = {
        "Kinds": by_kind(shown),
        "Trade-off": [*plane(shown), *coordinates(shown)],
        "Curves by kind": curves(shown),
        "Single runs": single_runs(shown),
    }
    return ws.Workspace(
        entity=shown.entity,
        project=shown.project,
        name=shown.study,
        sections=[ws.Section(name=name, panels=list(panels), is_open=True) for name, panels in sections.items()],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=shown.runs,
            groupby=[we.Config(ATTACK), we.Config(PENALTY)],
            pinned_columns=columns(shown),
        ),
    )
