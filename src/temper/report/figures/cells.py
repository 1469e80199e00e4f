"""What figures draw of a cell: mean and standard deviation over seeds, in the units that they are shown in."""

from collections.abc import Sequence

import pandas as pd

from temper.report.columns import describe
from temper.report.rows import none_first

# Metrics in plain words, where a table has room for a heading alone.
WORDS = {
    "test/clean": "clean accuracy, %",
    "test/worst_case": "robust accuracy, worst case, %",
    "test/ece": "calibration error, %",
    "test/sensitivity_adversarial": "sensitivity to attacks",
    "test/minimal_norm": "median distance to the boundary",
    "curve/area": "area under the eps curve, %",
    "corruptions/mean": "accuracy under corruptions, %",
    "gap/clean": "generalization gap, points",
    "gap/robust": "robust generalization gap, points",
    "gap/robust_overfitting": "robust overfitting, points",
    "weights/near_zero": "weights near zero, %",
    "weights/norm": "norm of the weights",
    "cost/seconds": "training, seconds",
    "cost/gradient_evaluations": "gradient evaluations per example and epoch",
}


def in_words(metric: str) -> str:
    """What a metric is called on an axis, with its unit."""
    return WORDS.get(metric) or describe(metric).label


def statistics(data: pd.DataFrame, metrics: Sequence[str], checkpoint: str) -> pd.DataFrame:
    """One row per cell and metric: `mean`, `std` (0 for a single seed) and `n` over seeds, in the metric's unit; `label` is the
    penalty with its setting. Cells stand in order, `none` first.

    Args:
        data: as `temper.report.frame.frame` gives it.
        checkpoint: of all metrics but those of the run as a whole.
    """
    rows = data[data.metric.isin(metrics) & data.checkpoint.isin([checkpoint, "run"])].dropna(subset="value")
    rows = rows.assign(
        value=rows.value * rows.metric.map({metric: describe(metric).factor for metric in metrics}),
        label=labels(rows),
    )
    by_cell = rows.groupby(["attack", "penalty", "setting", "label", "metric"]).value
    found = pd.DataFrame({"mean": by_cell.mean(), "std": by_cell.std().fillna(0), "n": by_cell.count()}).reset_index()
    names = list(zip(found.attack, found.penalty, found.setting, strict=True))
    order = sorted(range(len(found)), key=lambda row: [none_first(name) for name in names[row]])
    return found.loc[order].reset_index(drop=True)


def labels(rows: pd.DataFrame) -> list[str]:
    """The penalty of each row, with the setting that tells it apart from others of its name."""
    return [f"{name} ({setting})" if setting else name for name, setting in zip(rows.penalty, rows.setting, strict=True)]
