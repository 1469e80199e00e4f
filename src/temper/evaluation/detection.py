"""Metrics for two imbalanced classes: detection of the positive class 1, which accuracy hides where it is rare."""

import torch
from sklearn.metrics import matthews_corrcoef
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision, binary_sensitivity_at_specificity

from temper.evaluation.outcomes import Outcomes

MAX_FPR = 0.01  # false positive rate at which recall is reported


def detection(outcomes: Outcomes) -> dict[str, float]:
    """Compute detection metrics on clean examples, under each attack, and in the worst case over all attacks.

    An attack moves examples of both classes: it makes positives be missed and negatives be detected. Examples are ranked by
    their log-odds at the points that the attack returned; in the worst case, by the worst log-odds over all attacks.

    Args:
        outcomes: of one split.

    Returns:
        `average_precision`, `recall` (TPR at 1 % FPR) and `matthews` (MCC), with the attack's name as a prefix; empty if
        there are more than two classes.
    """
    if not outcomes.odds:
        return {}
    y, odds = outcomes.y, torch.stack(list(outcomes.odds.values()))
    metrics = _metrics("", y, outcomes.odds["clean"], outcomes.clean)
    for name, correct in outcomes.robust.items():
        metrics |= _metrics(f"{name}_", y, outcomes.odds[name], correct)
    worst = torch.where(y == 1, odds.amin(0), odds.amax(0))
    return metrics | _metrics("worst_case_", y, worst, outcomes.worst_case)


def _metrics(prefix: str, y: Tensor, odds: Tensor, correct: Tensor) -> dict[str, float]:
    """Compute the three metrics of one attack from log-odds and correctness of each example, (N,) each."""
    # Scores are ranks in [0, 1]: as probabilities, the log-odds of a confident network would round to ties.
    rank = odds.unique(return_inverse=True)[1].double()
    score = rank / rank.max().clamp_min(1)
    # scikit-learn returns 0 where all predictions are one class; torchmetrics does not.
    matthews = float(matthews_corrcoef(y, torch.where(correct, y, 1 - y)))
    recall, _ = binary_sensitivity_at_specificity(score, y, min_specificity=1 - MAX_FPR)
    return {
        f"{prefix}average_precision": float(binary_average_precision(score, y)),
        f"{prefix}recall": float(recall),
        f"{prefix}matthews": matthews,
    }
