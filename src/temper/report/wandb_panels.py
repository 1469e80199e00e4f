"""Panels of the W&B report and workspace of a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import wandb_workspaces.expr as we
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

KIND, ATTACK, PENALTY = "cell.kind", "cell.attack", "cell.penalty"


@dataclass(frozen=True)
class StudyOverview:
    """Contents of the dashboard of a study.

    Attributes:
        study: name of the study.
        project: W&B project of its runs.
        entity: W&B entity; empty: the default one of the login.
        checkpoint: checkpoint of the final metrics.
        attacks: attacks of the evaluation suite.
        validation: name of the validation attack.
        audited: whether the runs have audits.
        pictured: whether the runs have pictures of examples.
        about: conditions of the study, one line each.
        table: results table as Markdown.
        sentences: comparison of each pair of kinds.
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
        """Return the W&B summary metric of a final metric of the record."""
        return wr.SummaryMetric(metric if metric.startswith("cost/") else f"{self.checkpoint}/{metric}")

    @property
    def runs(self) -> str:
        """W&B filter expression for the runs of this study."""
        return f"Config('study') = '{self.study}'"


def learning_curves(overview: StudyOverview) -> list[wr.LinePlot]:
    """Return plots of accuracies, risk and penalty by epoch: mean and standard deviation over the runs of each kind."""
    titles = {
        "val/clean": "clean accuracy, validation",
        f"val/{overview.validation}": f"accuracy under {overview.validation}, validation",
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


def tradeoff_plots(overview: StudyOverview) -> list[wr.ScatterPlot]:
    """Return scatter plots of robust accuracy over clean accuracy and over training time."""
    worst = overview.final("test/worst_case")
    return [
        wr.ScatterPlot(title="robust vs. clean accuracy", x=overview.final("test/clean"), y=worst),
        wr.ScatterPlot(title="robust accuracy vs. training time (s)", x=overview.final("cost/seconds"), y=worst, log_x=True),
    ]


def parallel_coordinates(overview: StudyOverview) -> list[wr.ParallelCoordinatesPlot]:
    """Return a parallel coordinates plot from the options of a cell to its results, one line per run."""
    column = wr.ParallelCoordinatesPlotColumn
    return [
        wr.ParallelCoordinatesPlot(
            title="from cell to result",
            columns=[
                column(wr.Config(ATTACK), display_name="attack"),
                column(wr.Config(PENALTY), display_name="penalty"),
                column(wr.Config("strength"), display_name="strength"),
                column(overview.final("test/clean"), display_name="clean"),
                column(overview.final("test/worst_case"), display_name="worst case"),
                column(overview.final("gap/robust"), display_name="robust gap", inverted=True),
                column(overview.final("cost/seconds"), display_name="training time (s)", inverted=True),
            ],
        )
    ]


def kind_bars(overview: StudyOverview) -> list[wr.BarPlot]:
    """Return bar plots of the compared metrics: mean and standard deviation over the runs of each kind."""
    titles = {
        "test/clean": "clean accuracy",
        "test/worst_case": "robust accuracy, worst case",
        "gap/robust": "robust generalization gap",
        "cost/seconds": "training time (s)",
    }
    return [
        wr.BarPlot(
            title=title,
            metrics=[overview.final(metric)],
            groupby=wr.Config(KIND),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        for metric, title in titles.items()
    ]


def run_panels(overview: StudyOverview) -> list[wr.MediaBrowser | wr.WeavePanelSummaryTable | wr.CustomChart]:
    """Return panels of single runs: results, confusion matrix under attack, examples, audit."""
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
    if overview.pictured:
        panels.append(wr.MediaBrowser(title="examples, clean and attacked", media_keys=["final/pictures"]))
    if overview.audited:
        panels.append(wr.WeavePanelSummaryTable(table_name="final/audit"))
    return panels


def run_columns(overview: StudyOverview) -> list[str]:
    """Return the columns of the table of runs."""
    metrics = [
        "test/clean",
        *(f"test/{attack}" for attack in overview.attacks),
        "test/worst_case",
        "gap/robust",
        "cost/seconds",
    ]
    metrics += ["audit/verdict"] if overview.audited else []
    return [
        *(f"config:{key.replace('cell', 'cell.value', 1)}" for key in (KIND, ATTACK, PENALTY)),
        "config:seed.value",
        *(f"summary:{overview.final(metric).name}" for metric in metrics),
    ]


def report(overview: StudyOverview) -> wr.Report:
    """Return the W&B report: conditions, results, comparisons and runs of a study."""

    def grid(panels: Sequence[wr.interface.PanelTypes], *, runs: bool = False) -> wr.PanelGrid:
        runset = wr.Runset(
            entity=overview.entity,
            project=overview.project,
            name=overview.study,
            filters=overview.runs,
            groupby=[f"config.{ATTACK}", f"config.{PENALTY}"] if runs else [],
            pinned_columns=run_columns(overview),
            lock_columns=True,
        )
        return wr.PanelGrid(runsets=[runset], panels=list(panels), hide_run_sets=not runs)

    return wr.Report(
        project=overview.project,
        entity=overview.entity,
        title=f"{overview.study}: adversarial training vs. regularization",
        description=overview.about[0],
        width="fluid",
        blocks=[
            wr.MarkdownBlock("\n\n".join(overview.about)),
            wr.H2("Results"),
            wr.MarkdownBlock(overview.table),
            wr.H2("Comparison of the kinds of training"),
            wr.MarkdownBlock(
                "\n".join(f"- {sentence}" for sentence in overview.sentences) or "The study has only one kind of training."
            ),
            grid(kind_bars(overview)),
            wr.H2("Trade-off between clean and robust accuracy"),
            grid(tradeoff_plots(overview)),
            wr.H2("From cell to result"),
            grid(parallel_coordinates(overview)),
            wr.H2("Curves by kind"),
            grid(learning_curves(overview)),
            wr.H2("Runs"),
            grid([], runs=True),
        ],
    )


def workspace(overview: StudyOverview) -> ws.Workspace:
    """Return the W&B workspace: the panels of the report, and panels of single runs."""
    sections: dict[str, Sequence[Any]] = {
        "Kinds": kind_bars(overview),
        "Trade-off": [*tradeoff_plots(overview), *parallel_coordinates(overview)],
        "Curves by kind": learning_curves(overview),
        "Single runs": run_panels(overview),
    }
    return ws.Workspace(
        entity=overview.entity,
        project=overview.project,
        name=overview.study,
        sections=[ws.Section(name=name, panels=list(panels), is_open=True) for name, panels in sections.items()],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=overview.runs,
            groupby=[we.Config(ATTACK), we.Config(PENALTY)],
            pinned_columns=run_columns(overview),
        ),
    )
