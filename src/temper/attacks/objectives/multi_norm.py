"""Training against several norms at once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from temper.attacks.ascent import ascend, where_example
from temper.attacks.attack import Attack
from temper.attacks.gradient_step import at_rows, input_gradient, step_length
from temper.attacks.losses import Climb, cross_entropy
from temper.attacks.network_state import Mode, probing
from temper.attacks.threat import Start, Threat
from temper.config.types import Count, checked
from temper.data.batch import Batch
from temper.models.network import Network


class MultiNorm(Attack):
    """The union of several threat sets.

    "max" trains each example on the worst norm, "average" on all of them (Tramer & Boneh 2019, https://arxiv.org/abs/1904.13000,
    eq. 3 and 4); "msd" takes in every step the norm whose step raises the loss most (Maini et al. 2020,
    https://arxiv.org/abs/1909.04068, algorithm 1).

    Args:
        linf, l2, l1: the sets, at least two of them.
        strategy: "max", "average" or "msd". "average" returns the points of all norms one after another, (n * B, ...): it is
            for training alone.
        steps: of each ascent; steps are as long as `PGD`'s default.
        start: "zero", "uniform" in the set, or "gaussian"; msd starts at x in the paper.
        mode: of the network while it is attacked.
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
            raise ValueError("multi_norm needs two or three of linf, l2 and l1; for one there is pgd")
        self.strategy, self.steps, self.start, self.mode = strategy, steps, start, mode

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            climb = cross_entropy(net, batch.target)
            threats = [threat.on(batch) for threat in self.threats]
            if self.strategy == "msd":
                return self._steepest(threats, climb, z, batch.mask)
            points = [self._ascend(threat, climb, z, batch.mask) for threat in threats]
            if self.strategy == "average":
                return torch.cat(points)
            return self._worst(climb, points)[0]

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return mean_over_points(super().risk, net, batch, x_adv)

    def _ascend(self, threat: Threat, climb: Climb, z: Tensor, mask: Tensor | None) -> Tensor:
        ball, climb = threat.around(z), at_rows(climb, threat, z)
        size = step_length(None, threat, self.steps)
        start = ball.start(self.start, mask)
        return ball.finish(ascend(climb, ball, start, steps=self.steps, step_size=size, mask=mask, step=self.step))

    def _steepest(self, threats: list[Threat], climb: Climb, z: Tensor, mask: Tensor | None) -> Tensor:
        x_adv = z if self.start == "zero" else threats[0].start(z, self.start)
        x_adv = x_adv if mask is None else z + (x_adv - z) * mask
        for _ in range(self.steps):
            gradient, _ = input_gradient(climb, x_adv)
            gradient = gradient if mask is None else gradient * mask
            steps = (t.project(x_adv + step_length(None, t, self.steps) * t.direction(gradient, x_adv), z) for t in threats)
            x_adv, norm = self._worst(climb, list(steps))
        finished = x_adv
        for position, threat in enumerate(threats):
            finished = where_example(norm == position, threat.finish(x_adv, z), finished)
        return finished.detach()

    @staticmethod
    def _worst(climb: Climb, points: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The point of highest loss for each example, (B, ...), and which of the points it is, (B,)."""
        with torch.no_grad():
            losses = torch.stack([climb(point).loss for point in points])
        best = losses.argmax(0)
        return torch.stack(points)[best, torch.arange(len(best), device=best.device)], best


def mean_over_points(risk: Callable[[Network, Batch, Tensor], Tensor], net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
    """The mean risk of each example, (B,), over its points, which come one after another, (n * B, ...).

    In one forward pass, so that batch norm sees them together.
    """
    if len(x_adv) == len(batch):
        return risk(net, batch, x_adv)
    count = len(x_adv) // len(batch)
    repeat = {name: getattr(batch, name).repeat(count, *[1] * (getattr(batch, name).ndim - 1)) for name in ("x", "target")}
    return risk(net, replace(batch, **repeat), x_adv).view(count, -1).mean(0)
