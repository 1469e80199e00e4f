"""The columns of a table: what they are called, and what of a study stands in them."""

import difflib
import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

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
    "val/loss_instability": Metric("loss instability %", better="lower"),
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


def is_accuracy(metric: str) -> bool:
    """Whether a metric is a share of the test images that are classified rightly."""
    group, _, name = metric.rpartition(":")[2].partition("/")
    if group == "curve":
        return name != "area"
    listed = name in ("clean", "worst_case")
    return group == "test" and (listed or (f"test/{name}" not in METRICS and not name.endswith("_loss")))


EXACT = {"cost/gradient_evaluations"}  # counted: another seed has the same


def resolution(metric: str, examples: int | None = None) -> float:
    """The least step of a metric: one image of those that an accuracy, or what is made of accuracies, was measured on; 0 of a
    count that no chance enters; NaN where it is unknown.

    Three seeds without a single robust image say that there are few of them, not that there are none.

    Args:
        examples: images in the test set; None: unknown.
    """
    if metric in EXACT:
        return 0.0
    group = metric.rpartition(":")[2].partition("/")[0]
    shares = is_accuracy(metric) or group in ("curve", "corruptions", "gap")
    return 1 / examples if shares and examples else math.nan
