"""Final evaluation: attack suites, per-example outcomes, the metrics computed from them, and the audit."""

from temper.evaluation.audit import Audit, Finding
from temper.evaluation.corruptions import Corruptions
from temper.evaluation.eps_curve import Curve
from temper.evaluation.ledger import Ledger, fingerprint
from temper.evaluation.metrics import loss_instability, sensitivity
from temper.evaluation.minimal_norm import MinimalNorm
from temper.evaluation.outcomes import Outcomes, attack_all
from temper.evaluation.suite import Suite, evaluate

__all__ = [
    "Audit",
    "Corruptions",
    "Curve",
    "Finding",
    "Ledger",
    "MinimalNorm",
    "Outcomes",
    "Suite",
    "attack_all",
    "evaluate",
    "fingerprint",
    "loss_instability",
    "sensitivity",
]
