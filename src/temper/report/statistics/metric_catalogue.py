"""Catalogue of metrics: label, unit, direction, short names and resolution."""

import difflib
import math
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Unit = Literal["percent", "share"]


class Metric(NamedTuple):
    """Display of a metric.

    Attributes:
        label: heading, with the unit.
        factor: factor from the recorded value to the unit.
        precision: decimal places.
        better: direction of improvement; None if there is none.
    """

    label: str
    factor: float = 100.0
    precision: int = 1
    better: Literal["higher", "lower"] | None = "higher"

    def of_unit(self, unit: Unit) -> "Metric":
        """Return the display in a unit: "share" shows a percentage as a fraction in [0, 1] and changes no other metric."""
        if unit == "percent" or self.factor != 100:
            return self
        label = re.sub(r" %(?=$| \()", "", self.label)
        return self._replace(label=label, factor=1.0, precision=self.precision + 2)


# A metric that is not listed is the accuracy under an attack, in percent, labeled by the attack.
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
    "val/overfitting_to_fgsm": Metric("FGSM - PGD, maximum %", better="lower"),
    "gap/clean": Metric("gap %", better="lower"),
    "gap/robust": Metric("robust gap %", better="lower"),
    "gap/robust_overfitting": Metric("robust overfitting %", better="lower"),
    "val/loss_instability": Metric("loss instability %", better="lower"),
    "weights/near_zero": Metric("weights near zero %", better=None),
    "weights/norm": Metric("weight norm", 1, 2, None),
    "weights/lipschitz": Metric("Lipschitz bound", 1, 1, "lower"),
    "cost/gradient_evaluations": Metric("gradients per example", 1, 0, "lower"),
    "cost/seconds": Metric("training s", 1, 1, "lower"),
    "cost/peak_memory": Metric("peak memory MiB", 1, 0, "lower"),
}
# Detection of class 1 of two, by the end of a metric's name.
DETECTION = {
    "average_precision": Metric("average precision %"),
    "recall": Metric("TPR at 1 % FPR %"),
    "matthews": Metric("MCC", 1, 3),
}
ATTACK_NAMES = {
    "fgsm": "FGSM",
    "pgd": "PGD",
    "apgd_ce": "APGD-CE",
    "apgd_dlr": "APGD-DLR",
    "square": "Square",
    "autoattack": "AutoAttack",
    "worst_case": "worst case",
}
# Short names. The last part of a metric's name is one too; if several metrics share it, that of the test set is meant.
SHORT_NAMES = {
    "gap": "gap/clean",
    "robust": "test/worst_case",
    "robust_gap": "gap/robust",
    "area": "curve/area",
    "corruptions": "corruptions/mean",
}
COUNTS = {"cost/gradient_evaluations"}  # exact: every seed has the same value


class NumberFormat(NamedTuple):
    """Format of differences.

    Attributes:
        unit: accuracies in percent, or as fractions ("share").
        precision: decimal places; None: the default of each metric.
    """

    unit: Unit = "percent"
    precision: int | None = None

    def of(self, metric: str, scale: str) -> Metric:
        """Return the display of a metric on a scale: in log odds for "logit", in its own unit otherwise."""
        shown = describe_metric(metric)
        if scale == "logit":
            shown = shown._replace(label=shown.label.replace("%", "log odds"), factor=1.0, precision=2)
        shown = shown.of_unit(self.unit)
        return shown if self.precision is None else shown._replace(precision=self.precision)


def describe_metric(metric: str) -> Metric:
    """Return the display of a metric, at the chosen checkpoint or at another one ("best:test/clean")."""
    checkpoint, _, metric = metric.rpartition(":")
    if checkpoint:
        shown = describe_metric(metric)
        return shown._replace(label=f"{shown.label} ({checkpoint})")
    group, _, name = metric.rpartition("/")
    if group == "detection":
        suffix = next(suffix for suffix in DETECTION if name.endswith(suffix))
        attack, shown = name.removesuffix(suffix).rstrip("_"), DETECTION[suffix]
        return shown._replace(label=f"{ATTACK_NAMES.get(attack, attack)}: {shown.label}") if attack else shown
    if name == "loss" or name.endswith("_loss"):
        attack = name.removesuffix("loss").rstrip("_") or group
        return METRICS.get(metric) or Metric(f"{ATTACK_NAMES.get(attack, attack)} loss", 1, 3, "lower")
    return METRICS.get(metric) or Metric(f"{ATTACK_NAMES.get(name, name)} %")


def resolve_metric_name(short: str, available: Iterable[str], *, key: str = "table") -> str:
    """Return the full name of a metric.

    Args:
        short: a short name, or a full one, which is returned unchanged.
        available: metrics of the runs.
        key: config key of the setting, for error messages.

    Raises:
        ValueError: the name is unknown or ambiguous.
    """
    if "/" in short or short in SHORT_NAMES:
        return SHORT_NAMES.get(short, short)
    by_last_part: dict[str, list[str]] = {}
    for metric in sorted({*available, *METRICS}, key=lambda name: (not name.startswith("test/"), name)):
        by_last_part.setdefault(metric.rpartition("/")[2], []).append(metric)
    matches = by_last_part.get(short, [])
    if matches and (len(matches) == 1 or matches[0].startswith("test/")):
        return matches[0]
    if matches:
        raise ValueError(f"{key}: the metric {short} is ambiguous: {' or '.join(matches)}. Write the full name.")
    close = difflib.get_close_matches(short, [*by_last_part, *SHORT_NAMES], n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    # Radii of the eps curve and losses are metrics too, but are hardly ever meant here.
    names = sorted(
        name for name in {*by_last_part, *SHORT_NAMES, "attacks"} if name[0].isalpha() and not name.endswith("_loss")
    )
    raise ValueError(f"{key}: no run has the metric {short}.{hint} Available: {', '.join(names)}.")


def is_accuracy(metric: str) -> bool:
    """Return whether a metric is a fraction of correctly classified test images."""
    group, _, name = metric.rpartition(":")[2].partition("/")
    if group == "curve":
        return name != "area"
    listed = name in ("clean", "worst_case")
    return group == "test" and (listed or (f"test/{name}" not in METRICS and not name.endswith("_loss")))


def resolution(metric: str, examples: int | None = None) -> float:
    """Return the resolution of a metric: 1/N for an accuracy, or a metric made of accuracies, over N examples.

    Identical values over seeds are only known up to the resolution: three seeds without a single robust image show that robust
    images are rare, not that there are none.

    Args:
        metric: name of the metric.
        examples: N, the number of test images; None if unknown.

    Returns:
        The resolution; 0 for a count without randomness; NaN if unknown.
    """
    if metric in COUNTS:
        return 0.0
    group = metric.rpartition(":")[2].partition("/")[0]
    is_fraction = is_accuracy(metric) or group in ("curve", "corruptions", "gap")
    return 1 / examples if is_fraction and examples else math.nan
