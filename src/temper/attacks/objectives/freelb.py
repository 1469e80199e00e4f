"""FreeLB: training on all points of an ascent."""

from typing import Any

import torch
from torch import Tensor

from temper.attacks.ascent import Ascent
from temper.attacks.gradient_step import at_valid_rows, step_length
from temper.attacks.network_state import probing
from temper.attacks.objectives.multi_norm import mean_over_points
from temper.config.types import checked
from temper.data.batch import Batch
from temper.models.network import Network


class FreeLB(Ascent):
    """FreeLB (Zhu et al. 2020, https://arxiv.org/abs/1909.11764), algorithm 1: train on every point of an ascent.

    The risk is the mean of CE(f(x'), y) over the points of the ascent, including the start.

    The authors take the gradients of weights and input in one backward pass. Here all points are computed first and then passed
    forward together: the gradient is the same, at about twice the passes. The authors' dropout masks, which stay the same
    during the ascent, do not apply in mode "eval".

    Args:
        ascent: settings of `Ascent`; `steps` is K of the paper, the number of points.

    Raises:
        ValueError: restarts, keep or stop_after is set.
    """

    training_only = True

    @checked
    def __init__(self, **ascent: Any) -> None:
        super().__init__(**ascent)
        if self.restarts > 1 or self.keep == "worst" or self.stop_after is not None:
            raise ValueError("restarts, keep and stop_after do not apply to the mean over all points of an ascent. Omit them.")

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        """Return the points of all steps, concatenated, (steps * B, ...)."""
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            ball = self.threat.for_batch(batch).around(z)
            loss_fn = at_valid_rows(self.inner_loss(net, batch, z), ball.threat, z)
            size = step_length(self.step_size, self.threat, self.steps)
            points = [ball.start(self.start, batch.mask)]
            while len(points) < self.steps:
                points.append(self.step(loss_fn, ball, points[-1], size, batch.mask)[0])
            return torch.cat([ball.finish(point) for point in points])

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return mean_over_points(super().risk, net, batch, x_adv)
