"""What accuracy hides where most examples are of one class: how well the other, class 1 of two, is found."""

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_average_precision,
    binary_matthews_corrcoef,
    binary_sensitivity_at_specificity,
)

from temper.evaluation.outcomes import Outcomes

FALSE_ALARMS = 0.01  # share of the examples of class 0 that may be taken for class 1


def detection(outcomes: Outcomes) -> dict[str, float]:
    """Average precision, recall at 1 % false alarms, and Matthews correlation, without an attack, under each, and in the worst
    case over all of them; none where there are more than two classes.

    An attack moves examples of both classes: those of class 1 to be missed, those of class 0 to raise an alarm. The score of an
    example is its probability of class 1 at the point that the attack returned, in the worst case at the point of highest loss.
    """
    if outcomes.probabilities.shape[1] != 2:
        return {}
    y, clean = outcomes.y, outcomes.loss
    metrics = _named("", y, clean, outcomes.clean)
    for name, right in outcomes.robust.items():
        metrics |= _named(f"{name}_", y, outcomes.adversarial_loss[name], right)
    highest = torch.stack([clean, *outcomes.adversarial_loss.values()]).amax(0)
    return metrics | _named("worst_case_", y, highest, outcomes.worst_case)


def _named(prefix: str, y: Tensor, loss: Tensor, right: Tensor) -> dict[str, float]:
    """The three of one attack, given each example's cross-entropy with its label and whether it is classified rightly, (N,)."""
    # Cross-entropy is minus the logarithm of the label's probability.
    loss = loss.double()
    score = torch.where(y == 1, torch.exp(-loss), -torch.expm1(-loss))
    predicted = torch.where(right, y, 1 - y)
    recall, _ = binary_sensitivity_at_specificity(score, y, min_specificity=1 - FALSE_ALARMS)
    return {
        f"{prefix}average_precision": float(binary_average_precision(score, y)),
        f"{prefix}recall": float(recall),
        f"{prefix}matthews": float(binary_matthews_corrcoef(predicted, y)),
    }
