"""FreeLB."""

from typing import Any

import torch
from torch import Tensor

from temper.attacks.ascent import Ascent
from temper.attacks.gradient_step import at_rows, step_length
from temper.attacks.losses import Climb, cross_entropy
from temper.attacks.network_state import probing
from temper.attacks.objectives.multi_norm import mean_over_points
from temper.config.types import checked
from temper.data.batch import Batch
from temper.models.network import Network


class FreeLB(Ascent):
    """Zhu et al. 2020 (https://arxiv.org/abs/1909.11764), algorithm 1: the risk is the mean of CE(f(x'), y) over the points of
    an ascent, the start included, so that training sees the whole way to the adversary's point and not its end alone.

    The authors take the gradients of weights and input in one backward pass; here the points come first and are then passed
    forward together: the same gradient, at about twice the passes. Their dropout masks, kept over the ascent, are none in mode
    "eval".

    Args:
        ascent: settings of `Ascent`: `steps` is K of the paper, the number of points.
    """

    training_only = True

    @checked
    def __init__(self, **ascent: Any) -> None:
        super().__init__(**ascent)
        if self.restarts > 1 or self.keep == "worst" or self.stop_after is not None:
            raise ValueError("restarts, keep and stop_after do not go with the mean over a whole ascent; leave them out")

    def climb(self, net: Network, batch: Batch, z: Tensor) -> Climb:
        return cross_entropy(net, batch.target)

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        """All points one after another, (steps * B, ...)."""
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            ball = self.threat.on(batch).around(z)
            climb = at_rows(self.climb(net, batch, z), ball.threat, z)
            size = step_length(self.step_size, self.threat, self.steps)
            points = [ball.start(self.start, batch.mask)]
            while len(points) < self.steps:
                points.append(self.step(climb, ball, points[-1], size, batch.mask)[0])
            return torch.cat([ball.finish(point) for point in points])

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return mean_over_points(super().risk, net, batch, x_adv)
