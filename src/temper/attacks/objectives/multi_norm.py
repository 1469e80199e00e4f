"""Training against several norms at once: max, average and MSD."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from temper.attacks.ascent import ascend, where_example
from temper.attacks.attack import Attack
from temper.attacks.gradient_step import at_valid_rows, input_gradient, step_length
from temper.attacks.losses import LossFn, cross_entropy
from temper.attacks.network_state import Mode, probing
from temper.attacks.threat import Start, Threat
from temper.config.types import Count, checked
from temper.data.batch import Batch
from temper.models.network import Network


class MultiNorm(Attack):
    """Attack in the union of several perturbation sets.

    "max" trains each example on its worst norm, "average" on all norms (Tramer & Boneh 2019, https://arxiv.org/abs/1904.13000,
    eq. 3 and 4). "msd" takes in every step the norm whose step raises the loss most (Maini et al. 2020,
    https://arxiv.org/abs/1909.04068, algorithm 1).

    Args:
        linf: the linf perturbation set; at least two sets are needed.
        l2: the l2 perturbation set.
        l1: the l1 perturbation set.
        strategy: "max", "average" or "msd". "average" returns the points of all norms, concatenated, (n * B, ...), so it is for
            training only.
        steps: steps of each ascent, with the default step size of `PGD`.
        start: "zero", "uniform" in the set, or "gaussian". MSD starts at x in the paper.
        mode: mode of the network during the attack.

    Raises:
        ValueError: Fewer than two sets are given.
    """

    @checked
    def __init__(
        self,
        *,
        linf: Threat | None = None,
        l2: Threat | None = None,
        l1: Threat | None = None,
        strategy: Literal["max", "average", "msd"] = "max",
        steps: Count = 10,
        start: Start = "uniform",
        mode: Mode = "eval",
    ) -> None:
        super().__init__()
        self.threats = [threat for threat in (linf, l2, l1) if threat is not None]
        if len(self.threats) < 2:
            raise ValueError("multi_norm needs two or three of linf, l2 and l1. For a single norm, use attack=pgd.")
        self.strategy, self.steps, self.start, self.mode = strategy, steps, start, mode

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            loss_fn = cross_entropy(net, batch.target)
            threats = [threat.for_batch(batch) for threat in self.threats]
            if self.strategy == "msd":
                return self._steepest_descent(threats, loss_fn, z, batch.mask)
            points = [self._ascend(threat, loss_fn, z, batch.mask) for threat in threats]
            if self.strategy == "average":
                return torch.cat(points)
            return self._worst(loss_fn, points)[0]

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return mean_over_points(super().risk, net, batch, x_adv)

    def _ascend(self, threat: Threat, loss_fn: LossFn, z: Tensor, mask: Tensor | None) -> Tensor:
        ball, loss_fn = threat.around(z), at_valid_rows(loss_fn, threat, z)
        size = step_length(None, threat, self.steps)
        start = ball.start(self.start, mask)
        return ball.finish(ascend(loss_fn, ball, start, steps=self.steps, step_size=size, mask=mask, step=self.step))

    def _steepest_descent(self, threats: list[Threat], loss_fn: LossFn, z: Tensor, mask: Tensor | None) -> Tensor:
        """Return the points of multi steepest descent (MSD), (B, ...)."""
        x_adv = z if self.start == "zero" else threats[0].start(z, self.start)
        x_adv = x_adv if mask is None else z + (x_adv - z) * mask
        for _ in range(self.steps):
            gradient, _ = input_gradient(loss_fn, x_adv)
            gradient = gradient if mask is None else gradient * mask
            steps = (t.project(x_adv + step_length(None, t, self.steps) * t.direction(gradient, x_adv), z) for t in threats)
            x_adv, norm = self._worst(loss_fn, list(steps))
        finished = x_adv
        for position, threat in enumerate(threats):
            finished = where_example(norm == position, threat.finish(x_adv, z), finished)
        return finished.detach()

    @staticmethod
    def _worst(loss_fn: LossFn, points: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the point of highest loss for each example, (B, ...), and its position in `points`, (B,)."""
        with torch.no_grad():
            losses = torch.stack([loss_fn(point).loss for point in points])
        worst = losses.argmax(0)
        return torch.stack(points)[worst, torch.arange(len(worst), device=worst.device)], worst


def mean_over_points(risk: Callable[[Network, Batch, Tensor], Tensor], net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
    """Return the mean risk of each example, (B,), over its points, in one forward pass so that batch norm sees them together.

    Args:
        risk: the risk of single points.
        net: the network.
        batch: B examples.
        x_adv: n points per example, concatenated, (n * B, ...).
    """
    if len(x_adv) == len(batch):
        return risk(net, batch, x_adv)
    count = len(x_adv) // len(batch)
    repeat = {name: getattr(batch, name).repeat(count, *[1] * (getattr(batch, name).ndim - 1)) for name in ("x", "target")}
    return risk(net, replace(batch, **repeat), x_adv).view(count, -1).mean(0)
