"""The inner maximization: projected steepest ascent on a per-example loss."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from temper.arguments import Count, InEps, Positive, StepSize, checked
from temper.attacks.attack import Attack
from temper.attacks.losses import Climb, View
from temper.attacks.probing import Mode, probing
from temper.attacks.threat import Start, Threat, per_example
from temper.data.batch import Batch
from temper.models.network import Network

Keep = Literal["last", "worst"]


class Ascent(Attack, ABC):
    """What all attacks share that climb a loss step by step inside a threat set; a subclass says which loss.

    Args:
        threat: the set that x' stays in.
        eps: another radius than the threat's, to train at one and be evaluated at the other.
        steps: gradient steps per restart.
        step_size: length of a step in the threat's norm, or a multiple of the radius ("1.25 eps"); None: 2.5 eps / steps, at
            most eps.
        start: "zero", "uniform" in the set, or "gaussian" (0.001 * normal).
        restarts: independent runs; the worst one counts for each example.
        keep: "last" point of a run as in training, or "worst" on the way: then more steps and restarts never help the defender.
        mode: of the network while it is attacked.
    """

    @checked
    def __init__(
        self,
        *,
        threat: Threat,
        eps: Positive | None = None,
        steps: Count = 10,
        step_size: StepSize | None = None,
        start: Start = "uniform",
        restarts: Count = 1,
        keep: Keep = "last",
        mode: Mode = "eval",
    ) -> None:
        super().__init__()
        self.threat = threat.at(eps)
        self.steps, self.step_size, self.restarts = steps, step_size, restarts
        self.start, self.keep, self.mode = start, keep, mode
        if restarts > 1 and start == "zero":
            raise ValueError("restarts: every run from a zero start is the same; set start to uniform")

    @abstractmethod
    def climb(self, net: Network, batch: Batch, z: Tensor) -> Climb:
        """The loss that the adversary climbs from the inputs z = lift(x), (B, ...)."""

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            climb = self.climb(net, batch, z)
            # A single run that keeps its last point needs no bookkeeping, and no forward pass at its end.
            worst = Worst(z, batch.y) if self.keep == "worst" or self.restarts > 1 else None
            for _ in range(self.restarts):
                z_adv = ascend(
                    climb,
                    z,
                    self.threat.start(z, self.start),
                    self.threat,
                    steps=self.steps,
                    step_size=step_length(self.step_size, self.threat, self.steps),
                    mask=batch.mask,
                    worst=worst,
                )
            return self.threat.finish(z_adv if worst is None else worst.z, z).detach()


def step_length(step_size: float | InEps | None, threat: Threat, steps: int) -> float:
    """The length of a step. By default 2.5 eps / steps, so that every point of the set can be reached from any other, but never
    longer than eps."""
    if step_size is None:
        return min(threat.eps, 2.5 * threat.eps / steps)
    return step_size.factor * threat.eps if isinstance(step_size, InEps) else step_size


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
        self.z = where_example(better, z, self.z)


def where_example(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """`one` for the examples that are chosen, (B,) bool, else `other`, (B, ...)."""
    return torch.where(per_example(chosen, one), one, other)


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
        z_adv = threat.project(torch.add(z_adv, threat.direction(gradient, z_adv), alpha=step_size), z)
    if worst is not None:
        with torch.no_grad():
            worst.consider(z_adv, climb(z_adv))
    return z_adv
