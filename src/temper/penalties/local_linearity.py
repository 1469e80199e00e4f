"""A loss that is as good as linear in the neighbourhood of each input."""

import torch
import torch.nn.functional as F
from torch import Tensor

from temper.arguments import Count, NonNegative, StepSize, checked
from temper.attacks.ascent import ascend
from temper.attacks.losses import View, cross_entropy
from temper.attacks.probing import probing
from temper.attacks.steps import step_length
from temper.attacks.threat import Threat
from temper.data.batch import Batch
from temper.models.network import Network
from temper.penalties.inputs import loss_gradient
from temper.penalties.penalty import Penalty


class LocalLinearity(Penalty):
    """Local linearity regularization (LLR: Qin et al. 2019, https://arxiv.org/abs/1907.02610, eq. 7):

        gamma + slope * |delta^T grad l(x)|,   gamma = |l(x + delta) - l(x) - delta^T grad l(x)|

    a mean over examples, with l the cross-entropy and delta the point of the threat set where gamma is largest, found by
    projected ascent on gamma. What is linear cannot hide a maximum, and a small slope leaves little to find.

    Costs `steps` attack steps, two forward passes and a second backward pass.

    Args:
        threat: the neighbourhood.
        slope: mu / lambda of the paper, whose CIFAR-10 values are 3 and 4; `weight` is lambda.
        steps: of the ascent (2 in the paper).
        step_size: of the ascent; None: 2.5 eps / steps, at most eps.
    """

    neutral = ("weight=0",)

    @checked
    def __init__(
        self, *, threat: Threat, slope: NonNegative = 0.75, steps: Count = 2, step_size: StepSize | None = None
    ) -> None:
        super().__init__()
        self.threat, self.slope, self.steps, self.step_size = threat, slope, steps, step_size

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        z = net.lift(batch.x)
        delta = self._furthest(net, batch, z.detach()) - z.detach()
        gradient = loss_gradient(net, batch, z)
        linear = (delta * gradient).flatten(1).sum(1)
        there, here = (F.cross_entropy(net(point).float(), batch.target, reduction="none") for point in (z + delta, batch.x))
        return ((there - here - linear).abs() + self.slope * linear.abs()).mean()

    def _furthest(self, net: Network, batch: Batch, z: Tensor) -> Tensor:
        """Where in the threat set the loss is furthest from linear, (B, ...)."""
        with probing(net, "eval"):
            loss = cross_entropy(net, batch.target)
            leaf = z.clone().requires_grad_(True)
            here = loss(leaf).loss
            (gradient,) = torch.autograd.grad(here.sum(), leaf)
            here = here.detach()

            def gamma(point: Tensor) -> View:
                seen = loss(point)
                linear = ((point - z) * gradient).flatten(1).sum(1)
                return View((seen.loss - here - linear).abs(), seen.logits)

            step_size = step_length(self.step_size, self.threat, self.steps)
            ball = self.threat.on(batch).around(z)
            start = ball.start("uniform", batch.mask)
            return ball.finish(ascend(gamma, ball, start, steps=self.steps, step_size=step_size, mask=batch.mask))
