"""Penalties on how predictions depend on the input: input gradient, Jacobian, curvature, local linearity.

All are computed at the clean inputs. Each trains the weights through a gradient with respect to the input, which costs one
more forward pass and a second backward pass. In that forward pass batch norm uses the statistics of the batch and does not
update its running statistics.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks.ascent import ascend
from temper.attacks.gradient_step import step_length
from temper.attacks.losses import LossOutput, cross_entropy
from temper.attacks.network_state import probing
from temper.attacks.threat import Threat
from temper.config.types import Count, NonNegative, Positive, StepSize, checked
from temper.data.batch import Batch
from temper.models.network import Network
from temper.penalties.penalty import Penalty


class InputGradient(Penalty):
    """Squared norm of the input gradient of the loss (double backpropagation).

    ||grad_x CE(f(x), target)||^2, averaged over examples (Drucker & LeCun 1992, https://doi.org/10.1109/72.165600; as a
    defense Ross & Doshi-Velez 2018, https://arxiv.org/abs/1711.09404).

    Costs a second backward pass.
    """

    neutral = ("weight=0",)

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return _mean_squared_norm(loss_gradient(net, batch, net.lift(batch.x)))


class Jacobian(Penalty):
    """Squared Frobenius norm of the input-output Jacobian, estimated by random projections.

    1/2 ||df/dx||_F^2, averaged over examples. C * ||v^T df/dx||^2 has the expectation ||df/dx||_F^2 for v uniform on the unit
    sphere of the C logits (Hoffman et al. 2019, https://arxiv.org/abs/1908.02729, eq. 8).

    Costs a second backward pass for each projection.

    Args:
        projections: vectors v drawn for each example (1 in the paper).
    """

    neutral = ("weight=0",)

    @checked
    def __init__(self, *, projections: Count = 1) -> None:
        super().__init__()
        self.projections = projections

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        z = _differentiable(net.lift(batch.x))
        logits = net(z).float()
        classes, total = logits.shape[1], logits.new_zeros(())
        for _ in range(self.projections):
            v = F.normalize(torch.randn_like(logits), dim=1)
            (projected,) = torch.autograd.grad((v * logits).sum(), z, create_graph=True)
            total = total + classes * _mean_squared_norm(projected)
        return total / (2 * self.projections)


class Curvature(Penalty):
    """Curvature regularization (CURE): change of the input gradient along a direction that attacks follow.

    ||grad l(x + h r) - grad l(x)||^2, averaged over examples, where l is the cross-entropy and r the unit vector along
    sign(grad l(x)) (Moosavi-Dezfooli et al. 2019, https://arxiv.org/abs/1811.09716, eq. 5).

    Costs two more backward passes. Published as a defense without an attack with 41.4 % robust accuracy on CIFAR-10 at linf
    8/255; AutoAttack reduces this to 38.5 %.

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
        gradient = loss_gradient(net, batch, z)
        sign = gradient.detach().sign().flatten(1)
        step = self.h * F.normalize(sign, dim=1).view_as(z)
        return _mean_squared_norm(loss_gradient(net, batch, z + step) - gradient)


class LocalLinearity(Penalty):
    """Local linearity regularization (LLR: Qin et al. 2019, https://arxiv.org/abs/1907.02610, eq. 7).

        gamma + slope * |delta^T grad l(x)|,   gamma = |l(x + delta) - l(x) - delta^T grad l(x)|

    averaged over examples, where l is the cross-entropy and x + delta the point of the perturbation set with the largest gamma,
    found by projected gradient ascent on gamma. A small gamma makes the loss locally linear, so its maximum is at the end of a
    gradient step, and a small slope makes that maximum small.

    Costs `steps` attack steps, two forward passes and a second backward pass.

    Args:
        threat: perturbation set.
        slope: mu / lambda of the paper, whose CIFAR-10 values are 3 and 4; `weight` is lambda.
        steps: steps of the ascent (2 in the paper).
        step_size: step size of the ascent; None for 2.5 eps / steps, at most eps.
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
        delta = self._least_linear_point(net, batch, z.detach()) - z.detach()
        gradient = loss_gradient(net, batch, z)
        linear = (delta * gradient).flatten(1).sum(1)
        shifted, clean = (F.cross_entropy(net(point).float(), batch.target, reduction="none") for point in (z + delta, batch.x))
        return ((shifted - clean - linear).abs() + self.slope * linear.abs()).mean()

    def _least_linear_point(self, net: Network, batch: Batch, z: Tensor) -> Tensor:
        """Find the points of the perturbation set around z at which gamma is largest, (B, ...)."""
        with probing(net, "eval"):
            loss = cross_entropy(net, batch.target)
            leaf = z.clone().requires_grad_(True)
            clean = loss(leaf).loss
            (gradient,) = torch.autograd.grad(clean.sum(), leaf)
            clean = clean.detach()

            def gamma(point: Tensor) -> LossOutput:
                output = loss(point)
                linear = ((point - z) * gradient).flatten(1).sum(1)
                return LossOutput((output.loss - clean - linear).abs(), output.logits)

            step_size = step_length(self.step_size, self.threat, self.steps)
            ball = self.threat.for_batch(batch).around(z)
            start = ball.start("uniform", batch.mask)
            return ball.finish(ascend(gamma, ball, start, steps=self.steps, step_size=step_size, mask=batch.mask))


def loss_gradient(net: Network, batch: Batch, z: Tensor) -> Tensor:
    """Compute the gradient of each example's cross-entropy with respect to the points z, (B, ...), with its graph."""
    z = _differentiable(z)
    # A sum, since with a mean each gradient would be divided by B.
    loss = F.cross_entropy(net(z).float(), batch.target, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, z, create_graph=True)
    return gradient


def _differentiable(z: Tensor) -> Tensor:
    """Return the points z = lift(x) with a gradient. If `lift` has weights, z keeps its graph, so they are trained too."""
    return z if z.requires_grad else z.detach().requires_grad_(True)


def _mean_squared_norm(gradient: Tensor) -> Tensor:
    return gradient.square().flatten(1).sum(1).mean()
