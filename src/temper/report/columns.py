"""The columns of a table: what they are called, and what of a study stands in them."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import pandas as pd

Unit = Literal["percent", "share"]


class Metric(NamedTuple):
    """How a metric is shown: its heading, the factor to its unit, digits behind the point, and which way is better, if any."""

    label: str
    factor: float = 100.0
    precision: int = 1
    better: Literal["higher", "lower"] | None = "higher"

    def of_unit(self, unit: Unit) -> "Metric":
        """What is a percentage, as a share in [0, 1] if that is the unit."""
        if unit == "percent" or self.factor != 100:
            return self
        return self._replace(label=self.label.replace(" %", ""), factor=1.0, precision=self.precision + 2)


# What is not listed is an attack's accuracy: a percentage under its own name.
METRICS = {
    "test/clean": Metric("clean %"),
    "test/worst_case": Metric("worst case %"),
    "test/ece": Metric("ECE %", better="lower"),
    "test/loss": Metric("loss", 1, 3, "lower"),
    "test/sensitivity_random": Metric("sensitivity, random", 1, 3, "lower"),
    "test/sensitivity_adversarial": Metric("sensitivity, adversarial", 1, 3, "lower"),
    "test/minimal_norm": Metric("median distance", 1, 3),
    "curve/area": Metric("area under the eps curve %"),
    "corruptions/mean": Metric("corruptions %"),
    "val/clean": Metric("clean, validation %"),
    "val/overfitting_to_fgsm": Metric("FGSM - PGD, most %", better="lower"),
    "gap/clean": Metric("gap %", better="lower"),
    "gap/robust": Metric("robust gap %", better="lower"),
    "gap/robust_overfitting": Metric("robust overfitting %", better="lower"),
    "val/loss_stability": Metric("loss instability %", better="lower"),
    "weights/near_zero": Metric("weights near zero %", better=None),
    "weights/norm": Metric("weight norm", 1, 2, None),
    "weights/lipschitz": Metric("Lipschitz bound", 1, 1, "lower"),
    "cost/gradient_evaluations": Metric("gradients per example", 1, 0, "lower"),
    "cost/seconds": Metric("training s", 1, 1, "lower"),
    "cost/peak_memory": Metric("peak memory MiB", 1, 0, "lower"),
}
# How class 1 of two is found, by the last words of a metric's name.
DETECTION = {
    "average_precision": Metric("average precision %"),
    "recall": Metric("recall at 1 % false alarms %"),
    "matthews": Metric("Matthews", 1, 3),
}
NAMES = {
    "fgsm": "FGSM",
    "pgd": "PGD",
    "apgd_ce": "APGD-CE",
    "apgd_dlr": "APGD-DLR",
    "square": "Square",
    "autoattack": "AutoAttack",
    "worst_case": "worst case",
}
# A metric is also known by the last part of its name (of several, that of the test set comes first), and these by another.
SHORT = {
    "gap": "gap/clean",
    "robust": "test/worst_case",
    "robust_gap": "gap/robust",
    "area": "curve/area",
    "corruptions": "corruptions/mean",
}


class Column(NamedTuple):
    """A metric at a checkpoint (best, last, or `run` for what belongs to the run as a whole), under its heading."""

    metric: str
    checkpoint: str
    heading: str
    shown: Metric

    @property
    def name(self) -> str:
        """As runs.csv has it, such as `last:test/clean`."""
        return f"{self.checkpoint}:{self.metric}"


def describe(metric: str) -> Metric:
    """How a metric is shown, at the chosen checkpoint or, as "best:test/clean", at another one."""
    checkpoint, _, metric = metric.rpartition(":")
    if checkpoint:
        shown = describe(metric)
        return shown._replace(label=f"{shown.label} ({checkpoint})")
    group, _, name = metric.rpartition("/")
    if group == "detection":
        kind = next(kind for kind in DETECTION if name.endswith(kind))
        attack, shown = name.removesuffix(kind).rstrip("_"), DETECTION[kind]
        return shown._replace(label=f"{NAMES.get(attack, attack)}: {shown.label}") if attack else shown
    if name == "loss" or name.endswith("_loss"):
        of = name.removesuffix("loss").rstrip("_") or group
        return METRICS.get(metric) or Metric(f"{NAMES.get(of, of)} loss", 1, 3, "lower")
    return METRICS.get(metric) or Metric(f"{NAMES.get(name, name)} %")


class Style(NamedTuple):
    """How differences are shown: accuracies in percent or as shares, and digits behind the point (None: what suits each)."""

    unit: Unit = "percent"
    precision: int | None = None

    def of(self, metric: str, scale: str) -> Metric:
        """A metric where it was put on a scale: log odds on "logit", and else as it is."""
        shown = describe(metric)
        if scale == "logit":
            shown = shown._replace(label=shown.label.replace("%", "log odds"), factor=1.0, precision=2)
        shown = shown.of_unit(self.unit)
        return shown if self.precision is None else shown._replace(precision=self.precision)


def columns_of(
    data: pd.DataFrame, wanted: Iterable[str], attacks: Sequence[str], checkpoint: str, unit: Unit = "percent"
) -> list[Column]:
    """What the columns that are asked for show.

    Args:
        data: rows as `temper.report.frame.frame` gives them.
        wanted: metrics, their short names, or checkpoint:metric; "attacks" stands for every attack of the suite.
        attacks: names of the suite's attacks.
        checkpoint: of a column that names none.

    Raises:
        ValueError: no run has such a metric, or such a checkpoint.
    """
    found = data[["checkpoint", "metric"]].drop_duplicates()
    there: dict[str, set[str]] = {}
    for where, metric in zip(found.checkpoint, found.metric, strict=True):
        there.setdefault(metric, set()).add(where)
    attacks = [attack for attack in attacks if f"test/{attack}" in there]
    names = [name for column in wanted for name in (attacks if column == "attacks" else [column])]
    return [_column(str(name), there, checkpoint, unit) for name in names]


def _column(name: str, there: dict[str, set[str]], checkpoint: str, unit: Unit) -> Column:
    said, _, short = name.rpartition(":")
    metric = full_name(short, there)
    checkpoints = {"best", "last", "run"}.union(*there.values())
    if said and said not in checkpoints:
        raise ValueError(f"table: {name}: no run has the checkpoint {said!r}; there are {', '.join(sorted(checkpoints))}")
    where = said or ("run" if there.get(metric) == {"run"} else checkpoint)
    if where not in there.get(metric, set()) and metric not in METRICS:
        raise ValueError(f"table: no run has the metric {metric} for {where!r}; runs.csv lists what there is")
    shown = describe(metric).of_unit(unit)
    heading = shown.label if where in (checkpoint, "run") else f"{shown.label} ({where})"
    return Column(metric, where, heading, shown)


def full_name(short: str, there: Iterable[str], *, key: str = "table") -> str:
    """The metric that a short name stands for; a full one stands for itself.

    Args:
        key: of the setting that has it, for the message.

    Raises:
        ValueError: it stands for none, or for several.
    """
    if "/" in short or short in SHORT:
        return SHORT.get(short, short)
    known: dict[str, list[str]] = {}
    for metric in sorted({*there, *METRICS}, key=lambda name: (not name.startswith("test/"), name)):
        known.setdefault(metric.rpartition("/")[2], []).append(metric)
    several = known.get(short, [])
    if several and (len(several) == 1 or several[0].startswith("test/")):
        return several[0]
    if several:
        raise ValueError(f"{key}: {short} may be {' or '.join(several)}: write the one that is meant")
    near = difflib.get_close_matches(short, [*known, *SHORT], n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    # Radii of the curve and losses are metrics too, but hardly what was meant.
    names = sorted(name for name in {*known, *SHORT, "attacks"} if name[0].isalpha() and not name.endswith("_loss"))
    raise ValueError(f"{key}: no run has the metric {short}{meant}; there are {', '.join(names)}")
