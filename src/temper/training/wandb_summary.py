"""Final results of a run for W&B: metrics, tables and images from its record and per-example outcomes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from temper.runs.record import RunRecord, load_outcomes
from temper.runs.record_schema import STATUSES

if TYPE_CHECKING:
    import wandb

SIDE = 64  # minimal side length of shown images, in pixels
Arrays = Mapping[str, np.ndarray]


def final_numbers(record: RunRecord, suite: str) -> dict[str, float | str]:
    """Return all numbers of an evaluation and of the cost, by name.

    Names are like `last/test/pgd`, `best/gap/robust`, `run/gap/robust_overfitting` and `cost/seconds`; an audit adds its worst
    status, `last/audit/verdict`, and the figure of each check.

    Args:
        record: record of the run.
        suite: key of the evaluation suite.
    """
    evaluation = record.evaluations[suite]
    numbers: dict[str, float | str] = {}
    for name, checkpoint in evaluation["checkpoints"].items():
        numbers |= {f"{name}/{metric}": value for metric, value in checkpoint["metrics"].items() if value is not None}
        if audit := checkpoint.get("audit"):
            numbers[f"{name}/audit/verdict"] = audit_verdict(audit)
            numbers |= {f"{name}/audit/{check}": finding["figure"] for check, finding in audit.items()}
    numbers |= {f"run/{metric}": value for metric, value in evaluation["run"].items() if value is not None}
    costs = record.cost | {"evaluation_seconds": evaluation["seconds"]}
    return numbers | {f"cost/{name}": value for name, value in costs.items() if value is not None}


def audit_verdict(audit: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the worst status among an audit's findings."""
    return max((finding["status"] for finding in audit.values()), key=STATUSES.index)


def final_tables(record: RunRecord, suite: str, folder: Path) -> dict[str, Any]:
    """Return tables, images and plots of an evaluation, by their W&B key.

    They are tables of results, audit and examples, the examples as one image, and the confusion matrix under attack.

    Args:
        record: record of the run.
        suite: key of the evaluation suite.
        folder: the run's folder, with its per-example outcomes.
    """
    import wandb

    checkpoints = record.evaluations[suite]["checkpoints"]
    logged: dict[str, Any] = {
        "final/results": _table(["checkpoint", "epoch", "attack", "accuracy", "loss"], results(record, suite)),
    }
    findings = [
        [name, check, finding["status"], finding["figure"], finding["meaning"]]
        for name, checkpoint in checkpoints.items()
        for check, finding in checkpoint.get("audit", {}).items()
    ]
    if findings:
        logged["final/audit"] = _table(["checkpoint", "check", "status", "figure", "meaning"], findings)
    if not checkpoints:
        return logged
    headline = "last" if "last" in checkpoints else list(checkpoints)[-1]
    arrays = load_outcomes(folder, suite, headline)
    strongest = min(record.attacks(suite), key=lambda name: checkpoints[headline]["metrics"][f"test/{name}"])
    logged |= _confusion(arrays, strongest, record.config["data"]["classes"])
    if "examples" in arrays:
        logged["final/examples"] = _examples(arrays, record.attacks(suite))
        if (sheet := contact_sheet(arrays)) is not None:
            logged["final/pictures"] = wandb.Image(sheet, caption=STRIP)
    return logged


def _table(columns: list[str | int], rows: list[list[Any]]) -> "wandb.Table":
    import wandb

    return wandb.Table(columns=columns, data=[*rows])


def results(record: RunRecord, suite: str) -> list[list[Any]]:
    """Return rows of (checkpoint, epoch, attack, accuracy, loss): clean, each attack, and the worst case, which has no loss.

    Args:
        record: record of the run.
        suite: key of the evaluation suite.
    """
    rows = []
    for name, checkpoint in record.evaluations[suite]["checkpoints"].items():
        metrics = checkpoint["metrics"]
        for attack in ("clean", *record.attacks(suite), "worst_case"):
            loss = metrics.get("test/loss" if attack == "clean" else f"test/{attack}_loss")
            rows.append([name, checkpoint["epoch"], attack, metrics[f"test/{attack}"], loss])
    return rows


def _confusion(arrays: Arrays, attack: str, classes: int) -> dict[str, Any]:
    """Return the confusion matrix under one attack; the diagonal counts the robust examples."""
    import wandb

    names = [str(number) for number in range(classes)]
    truth, predicted = arrays["y"].tolist(), arrays[f"{attack}_prediction"].tolist()
    title = f"last checkpoint under {attack}, the strongest attack"
    return {
        "final/confusion": wandb.plot.confusion_matrix(y_true=truth, preds=predicted, class_names=names, title=title),
    }


def _examples(arrays: Arrays, attacks: list[str]) -> "wandb.Table":
    """Return a row for each kept example: label, prediction under each attack, and for image data an image strip."""
    import wandb

    strips = example_strips(arrays)
    predictions = ["clean", *attacks]
    columns: list[str | int] = ["example", "label", *(f"prediction, {name}" for name in predictions)]
    rows: list[list[Any]] = [
        [int(row), int(arrays["y"][row]), *(int(arrays[f"{name}_prediction"][row]) for name in predictions)]
        for row in arrays["examples"]
    ]
    if strips is not None:  # one file per row, which dominates the cost of logging
        columns.append(STRIP)
        rows = [[*row, wandb.Image(strip)] for row, strip in zip(rows, strips, strict=True)]
    return _table(columns, rows)


STRIP = "clean input, then for each attack the amplified perturbation and the adversarial example"


def example_strips(arrays: Arrays) -> np.ndarray | None:
    """Return each kept example as an image strip, (K, H, W, 3) uint8, or None if the inputs are not images.

    A strip shows the clean input, then for each attack the perturbation, amplified to the full range with gray for no change,
    and the adversarial example. Cascades, and attacks in another space than the inputs, are omitted.

    Args:
        arrays: per-example outcomes with `examples/<attack>`, (K, C, H, W).
    """
    original = arrays.get("examples/clean")
    clean = None if original is None else input_images(original)
    if original is None or clean is None:
        return None
    columns = [clean]
    for name, points in arrays.items():
        if name.startswith("examples/") and name != "examples/clean" and points.shape == original.shape:
            columns += [perturbation_images(points - original), to_rgb(points)]
    framed = [np.pad(column, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255) for column in columns]
    return np.concatenate(framed, axis=2)


def contact_sheet(arrays: Arrays) -> np.ndarray | None:
    """Return all strips below each other as one image, (H, W, 3) uint8, or None if the inputs are not images.

    Args:
        arrays: as for `example_strips`.
    """
    strips = example_strips(arrays)
    return None if strips is None else np.concatenate(list(strips), axis=0)


def input_images(points: np.ndarray) -> np.ndarray | None:
    """Return inputs as RGB images of at least `SIDE` pixels a side, (K, H, W, 3) uint8, or None if they are not images.

    Args:
        points: (K, ...); images have the shape (K, 1 or 3, H, W) and values in [0, 1].
    """
    is_images = points.ndim == 4 and points.shape[1] in (1, 3) and points.min() >= 0 and points.max() <= 1
    return to_rgb(points) if is_images else None


def to_rgb(points: np.ndarray) -> np.ndarray:
    """Clip to [0, 1] and convert to RGB images of at least `SIDE` pixels a side, (K, 1 or 3, H, W) to (K, H, W, 3) uint8."""
    scale = -(-SIDE // max(points.shape[2:]))
    whole = np.rint(255 * points.clip(0, 1)).astype(np.uint8)
    rgb = np.broadcast_to(whole, (len(points), 3, *points.shape[2:])).transpose(0, 2, 3, 1)
    return rgb.repeat(scale, axis=1).repeat(scale, axis=2)


def perturbation_images(change: np.ndarray) -> np.ndarray:
    """Return perturbations as RGB images, (K, 1 or 3, H, W) to (K, H, W, 3) uint8.

    Gray is no change; the largest change of each example is black or white.

    Args:
        change: perturbations of the inputs.
    """
    largest = np.abs(change).max(axis=(1, 2, 3), keepdims=True)
    return to_rgb(0.5 + change / (2 * np.maximum(largest, 1e-12)))
