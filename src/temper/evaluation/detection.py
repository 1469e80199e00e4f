"""What accuracy hides where most examples are of one class: how well the other, class 1 of two, is found."""

import torch
from sklearn.metrics import matthews_corrcoef
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision, binary_sensitivity_at_specificity

from temper.evaluation.outcomes import Outcomes

FALSE_ALARMS = 0.01  # share of the examples of class 0 that may be taken for class 1


def detection(outcomes: Outcomes) -> dict[str, float]:
    """Average precision, recall at 1 % false alarms, and Matthews correlation, without an attack, under each, and in the worst
    case over all of them; none where there are more than two classes.

    An attack moves examples of both classes: those of class 1 to be missed, those of class 0 to raise an alarm. They are ranked
    by their odds at the points that it returned, in the worst case by the worst odds of all.
    """
    if not outcomes.odds:
        return {}
    y, odds = outcomes.y, torch.stack(list(outcomes.odds.values()))
    metrics = _named("", y, outcomes.odds["clean"], outcomes.clean)
    for name, right in outcomes.robust.items():
        metrics |= _named(f"{name}_", y, outcomes.odds[name], right)
    worst = torch.where(y == 1, odds.amin(0), odds.amax(0))
    return metrics | _named("worst_case_", y, worst, outcomes.worst_case)


def _named(prefix: str, y: Tensor, odds: Tensor, right: Tensor) -> dict[str, float]:
    """The three of one attack, given each example's odds and whether it is classified rightly, (N,)."""
    # Ranks in [0, 1]: as probabilities the odds of a sure network would be rounded to ties.
    place = odds.unique(return_inverse=True)[1].double()
    score = place / place.max().clamp_min(1)
    # Not by torchmetrics, which gives no 0 where all are taken for one class.
    matthews = float(matthews_corrcoef(y, torch.where(right, y, 1 - y)))
    recall, _ = binary_sensitivity_at_specificity(score, y, min_specificity=1 - FALSE_ALARMS)
    return {
        f"{prefix}average_precision": float(binary_average_precision(score, y)),
        f"{prefix}recall": float(recall),
        f"{prefix}matthews": matthews,
    }
