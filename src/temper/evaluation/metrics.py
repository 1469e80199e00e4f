"""Metrics computed from per-example outcomes."""

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
    """Compute accuracies, losses and calibration over all examples of a split.

    Args:
        outcomes: of the split.

    Returns:
        `clean` and `loss` without an attack, `<attack>` and `<attack>_loss` by attack, `worst_case` over all attacks, and
        `ece`, the expected calibration error over 15 bins.
    """
    metrics = {"clean": fraction(outcomes.clean), "loss": float(outcomes.loss.mean())}
    for name in outcomes.robust:
        metrics[name] = fraction(outcomes.robust[name])
        metrics[f"{name}_loss"] = float(outcomes.adversarial_loss[name].mean())
    metrics["worst_case"] = fraction(outcomes.worst_case)
    metrics["ece"] = float(
        multiclass_calibration_error(outcomes.probabilities, outcomes.y, outcomes.probabilities.shape[1], n_bins=15)
    )
    return metrics


def fraction(correct: Tensor) -> float:
    """Return the fraction of True values, (N,) bool. Examples are counted; means of batches are never averaged."""
    return float(binary_accuracy(correct.int(), torch.ones_like(correct, dtype=torch.int)))


def sensitivity(net: Network, x: Tensor, x_adv: Tensor) -> Tensor:
    """Compute the change of the output per unit of input change, ||p(x') - p(x)||_2 / ||x' - x||_2 with p = softmax(net).

    Args:
        net: evaluated in eval mode.
        x: inputs, (B, ...).
        x_adv: perturbed inputs, (B, ...). An unchanged example has sensitivity 0.

    Returns:
        The sensitivity of each example, (B,).
    """
    with probing(net, "eval"), torch.no_grad():
        moved = (net(x_adv).float().softmax(1) - net(x).float().softmax(1)).norm(dim=1)
    distance = (x_adv - x).flatten(1).norm(dim=1)
    return torch.where(distance > 0, moved / distance.clamp_min(1e-12), torch.zeros_like(moved))


def sensitivities(net: Network, attack: Attack, threat: Threat, loader: Loader, *, seed: int) -> dict[str, float]:
    """Compute the mean `sensitivity` to uniform random perturbations in the perturbation set and to adversarial ones.

    Args:
        net: the network, on the loader's device.
        attack: makes the adversarial perturbations.
        threat: the perturbation set.
        loader: of a split.
        seed: of the run.
    """
    values: dict[str, list[Tensor]] = {"random": [], "adversarial": []}
    for number, batch in enumerate(loader):
        rekey(seed, "sensitivity", number)
        z = net.lift(batch.x).detach()
        values["random"].append(sensitivity(net, z, threat.for_batch(batch).around(z).start("uniform", batch.mask)))
        values["adversarial"].append(sensitivity(net, z, attack.perturb(net, batch)))
    return {f"sensitivity_{name}": float(torch.cat(parts).mean()) for name, parts in values.items()}


def weight_statistics(net: Network, shape: Sequence[int]) -> dict[str, float]:
    """Compute statistics of the weights, excluding biases and norm layers.

    Args:
        net: the network.
        shape: of one input.

    Returns:
        `norm`, the Euclidean norm of all weights; `near_zero`, the fraction of weights below 1e-3 in magnitude; and
        `lipschitz`, an upper bound on the Lipschitz constant, if there is one. Empty for a network without trainable weights.
    """
    weight_list = [w.detach().flatten() for w in effective_weights(net)]
    if not weight_list:  # a frozen external network
        return {}
    weights = torch.cat(weight_list)
    statistics = {"norm": float(weights.norm()), "near_zero": fraction(weights.abs() < NEAR_ZERO)}
    bound = lipschitz_bound(net, shape)
    return statistics if bound is None else statistics | {"lipschitz": bound}


def loss_instability(losses: Sequence[float]) -> float:
    """Compute the relative standard deviation of the validation loss over the last quarter of the epochs.

    Args:
        losses: validation loss by epoch.
    """
    tail = torch.tensor(losses[-max(2, len(losses) // 4) :], dtype=torch.float64)
    return float(tail.std() / tail.mean()) if len(tail) > 1 else 0.0


def gaps(train: Mapping[str, float], test: Mapping[str, float], robust: str) -> dict[str, float]:
    """Compute the generalization gaps: training accuracy minus test accuracy, clean and robust.

    Args:
        train: accuracies on training examples.
        test: accuracies on test examples.
        robust: name of the attack whose accuracy is the robust one.
    """
    return {"clean": train["clean"] - test["clean"], "robust": train[robust] - test[robust]}
