"""A study's W&B report and workspace: made from its records, published with a login, written down without one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from temper.config.errors import ConfigError, explain
from temper.config.resolvers import wandb_offline
from temper.report.records.baseline import on_baseline
from temper.report.records.long_format import choose_suite, evaluations_of, frame
from temper.report.statistics.contrasts import PAIRS, difference
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables.audit_badges import LEGEND, badges
from temper.report.tables.results_table import table, to_markdown
from temper.report.write import describe_study
from temper.runs.atomic_files import atomic_write
from temper.runs.record import RunRecord, collect, outcomes_file
from temper.training.wandb_summary import contact_sheet

if TYPE_CHECKING:
    from temper.report.wandb_panels import StudyOverview

PUBLISHED = "published.json"  # what W&B called them, so that the same command updates them


def make_dashboard(study: Path, results: Path, *, settings: DictConfig) -> list[str]:
    """Write report.json and workspace.json, and publish both where there is a login.

    Args:
        study: folder of the study's runs.
        results: folder of the dashboard; files of an earlier one are replaced whole.
        settings: as in conf/dashboard.yaml.

    Returns:
        What to show on a terminal.

    Raises:
        ConfigError: no run has anything to show, wandb-workspaces is not installed, or W&B refuses.
    """
    try:
        from temper.report.wandb_panels import report, workspace
    except ModuleNotFoundError as error:
        raise ConfigError(f"the dashboard needs {error.name}: pip install 'temper[dashboard]'") from error
    shown = what_is_shown(study, settings)
    nobody = replace(shown, entity="")  # with an entity even an unpublished report would ask W&B for the project
    made = {"report": report(nobody), "workspace": workspace(nobody)}
    results.mkdir(parents=True, exist_ok=True)
    for name, part in made.items():
        with atomic_write(results / f"{name}.json") as file:
            file.write_text(json.dumps(_specification(part), indent=1) + "\n")
    written = f"{results}/report.json, workspace.json"
    if wandb_offline():
        return [
            *shown.sentences,
            f"dashboard: {written}",
            "no login to W&B, so nothing is published. To publish: wandb login",
            f"  wandb sync {study / 'wandb'}",
            f"  temper-dashboard study={study.name}, as now",
        ]
    try:
        return [*shown.sentences, f"dashboard: {written}", *_publish(shown, results / PUBLISHED)]
    except Exception as error:  # wandb-workspaces raises whatever came of its request
        raise ConfigError(
            f"W&B did not take the dashboard ({explain(error)}); are the runs there (wandb sync {study / 'wandb'}), and are "
            f"project={settings.project} and entity={settings.entity or 'your own'} right? It is written to {written}"
        ) from error


def what_is_shown(study: Path, settings: DictConfig) -> "StudyOverview":
    """From the records of a study.

    Raises:
        ConfigError: none is finished and evaluated, or none was logged to W&B.
    """
    from temper.report.wandb_panels import StudyOverview

    records = [record for record in collect(study)[0] if record.finished]
    logged = [record for record in records if "wandb" in record.config["logger"]]
    if records and not logged:
        raise ConfigError(f"no run of {study} was logged to W&B: run them with logger=wandb")
    try:
        suite = choose_suite(logged, settings.suite)
    except ValueError as error:
        raise ConfigError(f"{study}: {error}") from error
    logged = on_baseline([record for record in logged if evaluations_of(record, suite)])
    first, key = logged[0], evaluations_of(logged[0], suite)[0]
    checkpoints = list(first.evaluations[key]["checkpoints"])
    if settings.checkpoint not in checkpoints:
        raise ConfigError(f"checkpoint={settings.checkpoint}: {suite} evaluated {', '.join(checkpoints)}")
    data, attacks, badged = frame(logged, suite), first.attacks(key), badges(logged, suite)
    columns = ["test/clean", "attacks", "test/worst_case", "gap/robust", "run:cost/seconds"]
    return StudyOverview(
        study=study.name,
        project=settings.project,
        entity=settings.entity or "",
        checkpoint=settings.checkpoint,
        attacks=attacks,
        validation=first.config["validation"]["name"],
        audited=bool(badged),
        pictured=_pictured(study, first, key, settings.checkpoint),
        about=[*describe_study(logged, suite), *([LEGEND] if badged else [])],
        table=to_markdown(table(data, columns, attacks, checkpoint=settings.checkpoint, badges=badged)),
        sentences=comparisons(PairedRuns.of(data, settings.checkpoint)),
    )


def _pictured(study: Path, record: RunRecord, key: str, checkpoint: str) -> bool:
    """Whether a run's examples are images."""
    (folder,) = study.glob(f"*-{record.digest}/seed-{record.seed}")
    try:
        return contact_sheet(outcomes_file(folder, key, checkpoint)) is not None
    except FileNotFoundError:
        return False


def _specification(part: Any) -> Any:
    """What would be sent, without the names that are drawn anew each time: the same records give the same bytes."""
    drawn: dict[str, str] = {}

    def steady(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: _name(key, item) for key, item in value.items()}
        return [steady(item) for item in value] if isinstance(value, list) else value

    def _name(key: str, value: Any) -> Any:
        if key in ("id", "__id__") and isinstance(value, str) and value:
            return drawn.setdefault(value, f"id-{len(drawn)}")
        return steady(value)

    return steady(part._to_model().model_dump(mode="json", by_alias=True, exclude_none=True))


def _publish(shown: "StudyOverview", published: Path) -> list[str]:
    """Hand report and workspace to W&B: anew, or in place of those that an earlier call made."""
    import wandb

    from temper.report.wandb_panels import report, workspace

    shown = replace(shown, entity=shown.entity or str(wandb.Api().default_entity))
    page, view = report(shown), workspace(shown)
    if published.exists():
        before = json.loads(published.read_text())
        page.id, view._internal_name, view._internal_id = before["report"], before["workspace"], before["workspace_id"]
    page.save()
    view.save()
    with atomic_write(published) as file:
        names = {"report": page.id, "workspace": view._internal_name, "workspace_id": view._internal_id}
        file.write_text(json.dumps(names, indent=1) + "\n")
    return [f"report: {page.url}", f"workspace: {view.url}"]


# By the metric of a record: what it is called in a sentence, its factor, its unit.
COMPARED = {
    "test/clean": ("clean accuracy", 100, " points"),
    "test/worst_case": ("robust accuracy in the worst case", 100, " points"),
    "gap/robust": ("robust generalization gap", 100, " points"),
    "cost/seconds": ("training", 1, " s"),
}


def comparisons(runs: PairedRuns) -> list[str]:
    """A sentence for every pair of kinds that the study has, such as "combined against adversarial: clean accuracy +0.3 ± 0.2
    points, …"."""
    said = []
    for kind, against in PAIRS:
        found = {metric: difference(runs, kind, against, metric) for metric in COMPARED}
        known = {metric: value for metric, value in found.items() if value is not None}
        if not known:
            continue
        parts = []
        for metric, value in known.items():
            name, factor, unit = COMPARED[metric]
            spread = f" ± {factor * value.sd:.1f}" if value.n > 1 else ""
            parts.append(f"{name} {factor * value.mean:+.1f}{spread}{unit}")
        seeds = max(value.n for value in known.values())
        basis = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed, which is not a result"
        said.append(f"{kind} against {against}: {', '.join(parts)}; {basis}")
    return said
