"""The final evaluation: attack suites, outcomes per example, and the metrics that follow from them."""

from temper.evaluation.metrics import loss_stability, sensitivity
from temper.evaluation.outcomes import Outcomes, attack_all
from temper.evaluation.suite import Suite, evaluate

__all__ = ["Outcomes", "Suite", "attack_all", "evaluate", "loss_stability", "sensitivity"]
