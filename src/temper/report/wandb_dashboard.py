"""W&B report and workspace of a study, made from its records and published if there is a login."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from temper.config.errors import ConfigError, explain
from temper.config.resolvers import wandb_offline
from temper.report.records.baseline import apply_baseline
from temper.report.records.long_format import choose_suite, evaluation_keys, frame
from temper.report.statistics.contrasts import KIND_PAIRS, kind_difference
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables.audit_badges import LEGEND, badges
from temper.report.tables.results_table import table, to_markdown
from temper.report.write import describe_study
from temper.runs.atomic_files import atomic_write
from temper.runs.record import RunRecord, collect, load_outcomes
from temper.training.wandb_summary import contact_sheet

if TYPE_CHECKING:
    from temper.report.wandb_panels import StudyOverview

PUBLISHED = "published.json"  # the ids that W&B assigned, so that the same command updates the same report and workspace
# Metrics of a comparison of kinds: name in a sentence, factor, unit.
COMPARED = {
    "test/clean": ("clean accuracy", 100, " points"),
    "test/worst_case": ("robust accuracy in the worst case", 100, " points"),
    "gap/robust": ("robust generalization gap", 100, " points"),
    "cost/seconds": ("training", 1, " s"),
}


def make_dashboard(study: Path, results: Path, *, settings: DictConfig) -> list[str]:
    """Write report.json and workspace.json, and publish both if there is a login.

    Args:
        study: folder of the study.
        results: folder of the dashboard; files of an earlier one are replaced.
        settings: config as in conf/dashboard.yaml.

    Returns:
        Output for the terminal.

    Raises:
        ConfigError: no run can be shown, wandb-workspaces is not installed, or W&B rejects the dashboard.
    """
    try:
        from temper.report.wandb_panels import report, workspace
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the dashboard needs {error.name}, which is not installed. Run: pip install 'temper[dashboard]'"
        ) from error
    overview = build_overview(study, settings)
    unpublished = replace(overview, entity="")  # with an entity, even an unpublished report asks W&B for the project
    parts = {"report": report(unpublished), "workspace": workspace(unpublished)}
    results.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        with atomic_write(results / f"{name}.json") as file:
            file.write_text(json.dumps(_specification(part), indent=1) + "\n")
    files = f"{results}/report.json, workspace.json"
    if wandb_offline():
        return [
            *overview.sentences,
            f"dashboard: {files}",
            "W&B is offline or has no login: nothing is published. To publish: wandb login",
            f"  wandb sync {study / 'wandb'}",
            f"  temper-dashboard study={study.name}, with the same overrides",
        ]
    try:
        return [*overview.sentences, f"dashboard: {files}", *_publish(overview, results / PUBLISHED)]
    except Exception as error:  # wandb-workspaces passes on every error of its request
        raise ConfigError(
            f"W&B rejected the dashboard ({explain(error)}). Check that the runs are synced (wandb sync {study / 'wandb'}), and"
            f" that project={settings.project} and entity={settings.entity or 'your own'} are correct. Written: {files}"
        ) from error


def build_overview(study: Path, settings: DictConfig) -> "StudyOverview":
    """Build the overview of a study from its records.

    Args:
        study: folder of the study.
        settings: config as in conf/dashboard.yaml.

    Raises:
        ConfigError: no run is finished and evaluated, or none was logged to W&B.
    """
    from temper.report.wandb_panels import StudyOverview

    records = [record for record in collect(study)[0] if record.finished]
    logged = [record for record in records if "wandb" in record.config["logger"]]
    if records and not logged:
        raise ConfigError(f"study={study.name}: no run was logged to W&B. Train with logger=wandb.")
    try:
        suite = choose_suite(logged, settings.suite)
    except ValueError as error:
        raise ConfigError(f"{study}: {error}") from error
    logged = apply_baseline([record for record in logged if evaluation_keys(record, suite)])
    first, key = logged[0], evaluation_keys(logged[0], suite)[0]
    checkpoints = list(first.evaluations[key]["checkpoints"])
    if settings.checkpoint not in checkpoints:
        raise ConfigError(
            f"checkpoint={settings.checkpoint}: {suite} did not evaluate this checkpoint. Available: {', '.join(checkpoints)}."
        )
    data, attacks, audited = frame(logged, suite), first.attacks(key), badges(logged, suite)
    columns = ["test/clean", "attacks", "test/worst_case", "gap/robust", "run:cost/seconds"]
    return StudyOverview(
        study=study.name,
        project=settings.project,
        entity=settings.entity or "",
        checkpoint=settings.checkpoint,
        attacks=attacks,
        validation=first.config["validation"]["name"],
        audited=bool(audited),
        pictured=_has_images(study, first, key, settings.checkpoint),
        about=[*describe_study(logged, suite), *([LEGEND] if audited else [])],
        table=to_markdown(table(data, columns, attacks, checkpoint=settings.checkpoint, badges=audited)),
        sentences=compare_kinds(PairedRuns.of(data, settings.checkpoint)),
    )


def compare_kinds(runs: PairedRuns) -> list[str]:
    """Return a sentence for every pair of kinds in the study.

    Returns:
        Such as "combined vs. adversarial training: clean accuracy +0.3 ± 0.2 points, …".
    """
    sentences = []
    for kind, against in KIND_PAIRS:
        differences = {metric: kind_difference(runs, kind, against, metric) for metric in COMPARED}
        present = {metric: value for metric, value in differences.items() if value is not None}
        if not present:
            continue
        parts = []
        for metric, value in present.items():
            name, factor, unit = COMPARED[metric]
            sd = f" ± {factor * value.sd:.1f}" if value.n > 1 else ""
            parts.append(f"{name} {factor * value.mean:+.1f}{sd}{unit}")
        seeds = max(value.n for value in present.values())
        basis = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed, which is not a result"
        sentences.append(f"{kind} vs. {against} training: {', '.join(parts)}; {basis}")
    return sentences


def _has_images(study: Path, record: RunRecord, key: str, checkpoint: str) -> bool:
    """Return whether the stored examples of a run are images."""
    (folder,) = study.glob(f"*-{record.digest}/seed-{record.seed}")
    try:
        return contact_sheet(load_outcomes(folder, key, checkpoint)) is not None
    except FileNotFoundError:
        return False


def _specification(part: Any) -> Any:
    """Return the JSON values to be sent, with random ids numbered, so that the same records give the same bytes."""
    ids: dict[str, str] = {}

    def number_ids(value: Any, key: str = "") -> Any:
        if key in ("id", "__id__") and isinstance(value, str) and value:
            return ids.setdefault(value, f"id-{len(ids)}")
        if isinstance(value, dict):
            return {name: number_ids(item, name) for name, item in value.items()}
        return [number_ids(item) for item in value] if isinstance(value, list) else value

    return number_ids(part._to_model().model_dump(mode="json", by_alias=True, exclude_none=True))


def _publish(overview: "StudyOverview", published: Path) -> list[str]:
    """Save report and workspace at W&B; those of an earlier call are updated.

    Args:
        overview: the study.
        published: file with the ids that W&B assigned.

    Returns:
        The addresses of both.
    """
    import wandb

    from temper.report.wandb_panels import report, workspace

    overview = replace(overview, entity=overview.entity or str(wandb.Api().default_entity))
    page, view = report(overview), workspace(overview)
    if published.exists():
        before = json.loads(published.read_text())
        page.id, view._internal_name, view._internal_id = before["report"], before["workspace"], before["workspace_id"]
    page.save()
    view.save()
    with atomic_write(published) as file:
        ids = {"report": page.id, "workspace": view._internal_name, "workspace_id": view._internal_id}
        file.write_text(json.dumps(ids, indent=1) + "\n")
    return [f"report: {page.url}", f"workspace: {view.url}"]
