"""What the metrics of a run are called in W&B, and which way is better."""

from typing import Literal

# By the last part of a name, without what stands before it: all else is a share of examples that are right.
LOWER = ("loss", "gap", "ece", "seconds", "gradient_evaluations", "peak_memory", "lipschitz", "risk", "loss_stability")
NEITHER = ("zero_gradients", "near_zero", "norm")


def direction(metric: str) -> Literal["max", "min"] | None:
    """Whether more of a metric is better, or less; None where neither can be said.

    Args:
        metric: as a curve or a summary names it: `val/pgd`, `last/test/clean`, `last/gap/robust`, `cost/seconds`, …
    """
    *groups, name = metric.split("/")
    group = groups[-1] if groups else ""
    if name in NEITHER or "penalty" in metric or group in ("ratio", "weight", "audit"):
        return None
    if name in LOWER or name.endswith("_loss") or name.startswith(("sensitivity", "overfitting")) or group in ("gap", "cost"):
        return "min"
    return "max" if group in ("test", "val", "curve", "corruptions") else None
