"""What a finished run shows in W&B beside its curves: read from the record, and from what its evaluation left on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from temper.runs.record import RunRecord, outcomes_file

if TYPE_CHECKING:
    import wandb

SIDE = 64  # pixels that a small picture is blown up to
Arrays = Mapping[str, np.ndarray]


def final_numbers(record: RunRecord, suite: str) -> dict[str, float | str]:
    """Every number of an evaluation and of the cost: `last/test/pgd`, `best/gap/robust`, `run/gap/robust_overfitting`,
    `cost/seconds`; of an audit its worst finding, `last/audit/verdict`, and each figure."""
    evaluation = record.evaluations[suite]
    numbers: dict[str, float | str] = {}
    for name, checkpoint in evaluation["checkpoints"].items():
        numbers |= {f"{name}/{metric}": value for metric, value in checkpoint["metrics"].items() if value is not None}
        if audit := checkpoint.get("audit"):
            numbers[f"{name}/audit/verdict"] = verdict(audit)
            numbers |= {f"{name}/audit/{check}": finding["figure"] for check, finding in audit.items()}
    numbers |= {f"run/{metric}": value for metric, value in evaluation["run"].items() if value is not None}
    costs = record.cost | {"evaluation_seconds": evaluation["seconds"]}
    return numbers | {f"cost/{name}": value for name, value in costs.items() if value is not None}


def verdict(audit: Mapping[str, Mapping[str, Any]]) -> str:
    """The worst of an audit's findings."""
    found = {finding["status"] for finding in audit.values()}
    return next(status for status in ("failed", "warned", "passed") if status in found)


def final_tables(record: RunRecord, suite: str, folder: Path) -> dict[str, Any]:
    """Tables of results, audit and examples, the examples as one picture, and the confusion matrix under attack: by the
    key that W&B shows them under.

    Args:
        folder: of the run, with what its evaluation left.
    """
    import wandb

    checkpoints = record.evaluations[suite]["checkpoints"]
    shown: dict[str, Any] = {
        "final/results": _table(["checkpoint", "epoch", "attack", "accuracy", "loss"], results(record, suite)),
    }
    audited = [
        [name, check, finding["status"], finding["figure"], finding["meaning"]]
        for name, checkpoint in checkpoints.items()
        for check, finding in checkpoint.get("audit", {}).items()
    ]
    if audited:
        shown["final/audit"] = _table(["checkpoint", "check", "status", "figure", "meaning"], audited)
    if not checkpoints:
        return shown
    headline = "last" if "last" in checkpoints else list(checkpoints)[-1]
    arrays = outcomes_file(folder, suite, headline)
    strongest = min(record.attacks(suite), key=lambda name: checkpoints[headline]["metrics"][f"test/{name}"])
    shown |= _confusion(arrays, strongest, record.config["data"]["classes"])
    if "examples" in arrays:
        shown["final/examples"] = _examples(arrays, record.attacks(suite))
        if (sheet := contact_sheet(arrays)) is not None:
            shown["final/pictures"] = wandb.Image(sheet, caption=STRIP)
    return shown


def _table(columns: list[str | int], rows: list[list[Any]]) -> "wandb.Table":
    import wandb

    return wandb.Table(columns=columns, data=[*rows])


def results(record: RunRecord, suite: str) -> list[list[Any]]:
    """Checkpoint, its epoch, attack, accuracy and loss: clean, under each attack, and under the worst of them for each
    example, which has no loss."""
    rows = []
    for name, checkpoint in record.evaluations[suite]["checkpoints"].items():
        metrics = checkpoint["metrics"]
        for what in ("clean", *record.attacks(suite), "worst_case"):
            loss = metrics.get("test/loss" if what == "clean" else f"test/{what}_loss")
            rows.append([name, checkpoint["epoch"], what, metrics[f"test/{what}"], loss])
    return rows


def _confusion(arrays: Arrays, attack: str, classes: int) -> dict[str, Any]:
    """Counts of true and predicted class under one attack: those on the diagonal withstand it."""
    import wandb

    names = [str(number) for number in range(classes)]
    truth, predicted = arrays["y"].tolist(), arrays[f"{attack}_prediction"].tolist()
    title = f"last checkpoint under {attack}, the strongest attack"
    return {
        "final/confusion": wandb.plot.confusion_matrix(y_true=truth, preds=predicted, class_names=names, title=title),
    }


def _examples(arrays: Arrays, attacks: list[str]) -> "wandb.Table":
    """A row for each kept example: what it is, what it is taken for under each attack, and a strip where inputs are images."""
    import wandb

    shown = strips(arrays)
    predictions = ["clean", *attacks]
    columns: list[str | int] = ["example", "label", *(f"prediction, {name}" for name in predictions)]
    rows: list[list[Any]] = [
        [int(row), int(arrays["y"][row]), *(int(arrays[f"{name}_prediction"][row]) for name in predictions)]
        for row in arrays["examples"]
    ]
    if shown is not None:  # one file for each row: they are what logging costs most
        columns.append(STRIP)
        rows = [[*row, wandb.Image(strip)] for row, strip in zip(rows, shown, strict=True)]
    return _table(columns, rows)


STRIP = "as it is, then for each attack what it changed, amplified, and what it made"


def strips(arrays: Arrays) -> np.ndarray | None:
    """Each kept example and what became of it, side by side, (K, H, W, 3) uint8; None where inputs are no images.

    As it is, then for each attack the perturbation, grey where nothing changed and amplified to the full range, and what came
    of it. Cascades, and attacks whose points lie in another space than the inputs, are left out.
    """
    original = arrays.get("examples/clean")
    clean = None if original is None else pictures(original)
    if original is None or clean is None:
        return None
    columns = [clean]
    for name, points in arrays.items():
        if name.startswith("examples/") and name != "examples/clean" and points.shape == original.shape:
            columns += [amplified(points - original), clipped(points)]
    framed = [np.pad(column, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255) for column in columns]
    return np.concatenate(framed, axis=2)


def contact_sheet(arrays: Arrays) -> np.ndarray | None:
    """All strips in one picture, one below the other, (H, W, 3) uint8; None where inputs are no images."""
    shown = strips(arrays)
    return None if shown is None else np.concatenate(list(shown), axis=0)


def pictures(points: np.ndarray) -> np.ndarray | None:
    """Points as images of at least `SIDE` pixels a side, (K, H, W, 3) uint8; None where they are no images in [0, 1].

    Args:
        points: (K, ...), images where they are (K, 1 or 3, H, W).
    """
    images = points.ndim == 4 and points.shape[1] in (1, 3) and points.min() >= 0 and points.max() <= 1
    return clipped(points) if images else None


def clipped(points: np.ndarray) -> np.ndarray:
    """The same, whatever their range: (K, 1 or 3, H, W) to (K, H, W, 3) uint8."""
    scale = -(-SIDE // max(points.shape[2:]))
    whole = np.rint(255 * points.clip(0, 1)).astype(np.uint8)
    coloured = np.broadcast_to(whole, (len(points), 3, *points.shape[2:])).transpose(0, 2, 3, 1)
    return coloured.repeat(scale, axis=1).repeat(scale, axis=2)


def amplified(change: np.ndarray) -> np.ndarray:
    """Perturbations as images, (K, 1 or 3, H, W) to (K, H, W, 3) uint8: grey is no change, and each example's largest change
    is black or white."""
    largest = np.abs(change).max(axis=(1, 2, 3), keepdims=True)
    return clipped(0.5 + change / (2 * np.maximum(largest, 1e-12)))
