"""The inner maximization: projected steepest ascent on a per-example loss."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.attacks.threat import Threat

Keep = Literal["last", "worst"]


class View(NamedTuple):
    """What one forward pass shows the adversary: the loss it climbs, (B,), and the logits, (B, C)."""

    loss: Tensor
    logits: Tensor


Climb = Callable[[Tensor], View]


def cross_entropy(net: nn.Module, target: Tensor) -> Climb:
    """The adversary's usual view: cross-entropy with `target`, hard (B,) or soft (B, C), in float32 whatever the logits are."""

    def view(z: Tensor) -> View:
        logits = net(z).float()
        return View(F.cross_entropy(logits, target, reduction="none"), logits)

    return view


def input_gradient(climb: Climb, z: Tensor) -> tuple[Tensor, View]:
    """Gradient of each example's loss with respect to its own input, (B, ...).

    The loss is summed over the batch: a mean would divide gradients by B and underflow in half precision.
    """
    z = z.detach().requires_grad_(True)
    view = climb(z)
    (gradient,) = torch.autograd.grad(view.loss.sum(), z)
    return gradient, View(view.loss.detach(), view.logits.detach())


class Worst:
    """The worst point seen so far for each example: a misclassified one before any other, then the higher loss."""

    def __init__(self, z: Tensor, y: Tensor) -> None:
        self.z, self.y = z.clone(), y
        self.wrong = torch.zeros_like(y, dtype=torch.bool)
        self.loss = torch.full(y.shape, -torch.inf, device=y.device)

    def consider(self, z: Tensor, view: View) -> None:
        wrong = view.logits.argmax(1) != self.y
        better = (wrong & ~self.wrong) | ((wrong == self.wrong) & (view.loss > self.loss))
        self.wrong = wrong | self.wrong
        self.loss = torch.where(better, view.loss, self.loss)
        self.z = torch.where(better.reshape(-1, *[1] * (z.ndim - 1)), z, self.z)


def ascend(
    climb: Climb,
    z: Tensor,
    start: Tensor,
    threat: Threat,
    *,
    steps: int,
    step_size: float,
    mask: Tensor | None = None,
    worst: Worst | None = None,
) -> Tensor:
    """Climb `steps` times from `start` inside the threat set around z; returns the last point.

    Every point on the way, the start and the end included, is shown to `worst` where one is given: with the same start,
    more steps or more restarts then never leave an example better off. That costs one forward pass more.

    Args:
        climb: the loss, given points.
        z: the inputs, (B, ...), detached; the centre of the set.
        start: where to begin, (B, ...).
        step_size: length of a step in the threat's norm.
        mask: 1 where the adversary may change z.
    """
    z_adv = start if mask is None else z + (start - z) * mask
    for _ in range(steps):
        gradient, view = input_gradient(climb, z_adv)
        if worst is not None:
            worst.consider(z_adv, view)
        if mask is not None:
            gradient = gradient * mask
        z_adv = threat.project(z_adv + step_size * threat.direction(gradient), z)
    if worst is not None:
        with torch.no_grad():
            worst.consider(z_adv, climb(z_adv))
    return z_adv
