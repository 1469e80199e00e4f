"""Penalties on how the network depends on its input, at the clean inputs and without any attack.

Each trains the weights through a gradient with respect to the input: that costs a second backward pass, and one more forward
pass, in which batch norm uses the batch's statistics and moves no running ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks.ascent import ascend
from temper.attacks.gradient_step import step_length
from temper.attacks.losses import View, cross_entropy
from temper.attacks.network_state import probing
from temper.attacks.threat import Threat
from temper.config.types import Count, NonNegative, Positive, StepSize, checked
from temper.data.batch import Batch
from temper.models.network import Network
from temper.penalties.penalty import Penalty


class InputGradient(Penalty):
    """||grad_x CE(f(x), target)||^2, a mean over examples: double backpropagation (Drucker & LeCun 1992,
    https://doi.org/10.1109/72.165600; as a defense Ross & Doshi-Velez 2018, https://arxiv.org/abs/1711.09404).

    Costs a second backward pass.
    """

    neutral = ("weight=0",)

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return loss_gradient(net, batch, net.lift(batch.x)).square().flatten(1).sum(1).mean()


class Jacobian(Penalty):
    """1/2 ||df/dx||_F^2, a mean over examples, by random projections (Hoffman et al. 2019, https://arxiv.org/abs/1908.02729,
    eq. 8): C * ||v^T df/dx||^2 has that expectation for v uniform on the unit sphere of the C logits.

    Costs a second backward pass for each projection.

    Args:
        projections: v drawn for each example (1 in the paper).
    """

    neutral = ("weight=0",)

    @checked
    def __init__(self, *, projections: Count = 1) -> None:
        super().__init__()
        self.projections = projections

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        z = to_differentiate(net.lift(batch.x))
        logits = net(z).float()
        classes, total = logits.shape[1], logits.new_zeros(())
        for _ in range(self.projections):
            v = F.normalize(torch.randn_like(logits), dim=1)
            (projected,) = torch.autograd.grad((v * logits).sum(), z, create_graph=True)
            total = total + classes * projected.square().flatten(1).sum(1).mean()
        return total / (2 * self.projections)


class Curvature(Penalty):
    """||grad l(x + h r) - grad l(x)||^2, a mean over examples, r the unit vector along sign(grad l(x)) (CURE: Moosavi-Dezfooli
    et al. 2019, https://arxiv.org/abs/1811.09716, eq. 5): l is the cross-entropy, and bends little where an attack would look.

    Costs two backward passes more. Published as a defense without attack at 41.4 % on CIFAR-10 with linf 8/255; AutoAttack
    leaves 38.5 %.

    Args:
        h: length of the step, in units of the inputs.
    """

    neutral = ("weight=0",)

    @checked
    def __init__(self, *, h: Positive) -> None:
        super().__init__()
        self.h = h

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        z = net.lift(batch.x)
        here = loss_gradient(net, batch, z)
        sign = here.detach().sign().flatten(1)
        step = self.h * F.normalize(sign, dim=1).view_as(z)
        there = loss_gradient(net, batch, z + step)
        return (there - here).square().flatten(1).sum(1).mean()


def loss_gradient(net: Network, batch: Batch, z: Tensor) -> Tensor:
    """Gradient of each example's cross-entropy with respect to the point z, (B, ...), through which weights can be trained."""
    z = to_differentiate(z)
    # A sum, so that each example's gradient is its own.
    loss = F.cross_entropy(net(z).float(), batch.target, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, z, create_graph=True)
    return gradient


def to_differentiate(z: Tensor) -> Tensor:
    """Points z = lift(x), (B, ...), to take a gradient by; where `lift` has weights, these are trained through it too."""
    return z if z.requires_grad else z.detach().requires_grad_(True)


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
