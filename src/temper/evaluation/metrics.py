"""From outcomes per example to the numbers of a table."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_accuracy, multiclass_calibration_error

from temper.attacks import Attack, Threat, probing
from temper.data import Loader
from temper.evaluation.lipschitz import lipschitz_bound
from temper.evaluation.outcomes import Outcomes
from temper.models import Network, effective_weights
from temper.runs.seeding import rekey

NEAR_ZERO = 1e-3


def accuracies(outcomes: Outcomes) -> dict[str, float]:
    """Clean and robust accuracy, worst case over all attacks, losses, and calibration, over all examples of a split."""
    metrics = {"clean": share(outcomes.clean), "loss": float(outcomes.loss.mean())}
    for name in outcomes.robust:
        metrics[name] = share(outcomes.robust[name])
        metrics[f"{name}_loss"] = float(outcomes.adversarial_loss[name].mean())
    metrics["worst_case"] = share(outcomes.worst_case)
    metrics["ece"] = float(
        multiclass_calibration_error(outcomes.probabilities, outcomes.y, outcomes.probabilities.shape[1], n_bins=15)
    )
    return metrics


def share(right: Tensor) -> float:
    """Accuracy, given which examples are right, (N,) bool: examples are counted, never means of batches averaged."""
    return float(binary_accuracy(right.int(), torch.ones_like(right, dtype=torch.int)))


def sensitivity(net: Network, x: Tensor, x_adv: Tensor) -> Tensor:
    """How much the output moves per unit of input, ||p(x') - p(x)||_2 / ||x' - x||_2 with p = softmax(net), example by example.

    Args:
        x, x_adv: points, (B, ...). Examples that did not move have sensitivity 0.

    Returns:
        (B,)
    """
    with probing(net, "eval"), torch.no_grad():
        moved = (net(x_adv).float().softmax(1) - net(x).float().softmax(1)).norm(dim=1)
    distance = (x_adv - x).flatten(1).norm(dim=1)
    return torch.where(distance > 0, moved / distance.clamp_min(1e-12), torch.zeros_like(moved))


def sensitivities(net: Network, attack: Attack, threat: Threat, loader: Loader, *, seed: int) -> dict[str, float]:
    """Mean `sensitivity` under perturbations drawn uniformly from the threat set, and under adversarial ones."""
    values: dict[str, list[Tensor]] = {"random": [], "adversarial": []}
    for number, batch in enumerate(loader):
        rekey(seed, "sensitivity", number)
        z = net.lift(batch.x).detach()
        values["random"].append(sensitivity(net, z, threat.on(batch).around(z).start("uniform", batch.mask)))
        values["adversarial"].append(sensitivity(net, z, attack.perturb(net, batch)))
    return {f"sensitivity_{name}": float(torch.cat(parts).mean()) for name, parts in values.items()}


def weight_statistics(net: Network, shape: Sequence[int]) -> dict[str, float]:
    """Euclidean norm of all weights, and the share of them below 1e-3 in magnitude; biases and norm layers apart.
    And a bound on how far the network stretches its inputs, of this shape, where there is one."""
    found = [w.detach().flatten() for w in effective_weights(net)]
    if not found:  # a frozen network from elsewhere
        return {}
    weights = torch.cat(found)
    statistics = {"norm": float(weights.norm()), "near_zero": share(weights.abs() < NEAR_ZERO)}
    bound = lipschitz_bound(net, shape)
    return statistics if bound is None else statistics | {"lipschitz": bound}


def loss_instability(losses: Sequence[float]) -> float:
    """Standard deviation of the validation loss over the last quarter of the epochs, relative to its mean: low is stable."""
    tail = torch.tensor(losses[-max(2, len(losses) // 4) :], dtype=torch.float64)
    return float(tail.std() / tail.mean()) if len(tail) > 1 else 0.0


def gaps(train: Mapping[str, float], test: Mapping[str, float], robust: str) -> dict[str, float]:
    """Accuracy on training examples minus accuracy on test examples, clean and under the attack `robust`."""
    return {"clean": train["clean"] - test["clean"], "robust": train[robust] - test[robust]}
