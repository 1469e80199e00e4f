"""How finely a metric tells apart: below that, no spread over seeds is no certainty."""

import math

from temper.report.factorial import is_accuracy

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
