"""One step of an ascent: the gradient of a loss with respect to the input alone, and the move that it asks for."""

from collections.abc import Callable

import torch
from torch import Tensor

from temper.attacks.losses import Climb, View
from temper.attacks.threat import Ball, Threat
from temper.config.types import InEps

Step = Callable[[Climb, Ball, Tensor, float | Tensor, Tensor | None], tuple[Tensor, View]]


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
    if torch.compiler.is_compiling():
        # Every version of torch traces this transform, and by default none `torch.autograd.grad`.
        return torch.func.grad(lambda z: _summed(climb(z)), has_aux=True)(z.detach())
    z = z.detach().requires_grad_(True)
    view = climb(z)
    (gradient,) = torch.autograd.grad(view.loss.sum(), z)
    return gradient, View(view.loss.detach(), view.logits.detach())


def _summed(view: View) -> tuple[Tensor, View]:
    # Not within what is compiled: torch 2.6 cannot trace the making of a function with such a type.
    return view.loss.sum(), view


def at_rows(climb: Climb, threat: Threat, x: Tensor) -> Climb:
    """The loss at the rows of a table that points around x, (B, F), stand for (`Threat.settle`); of other inputs the same.

    The gradient passes straight through the rounding, as in Athalye et al. 2018 (https://arxiv.org/abs/1802.00420), 4.1.
    """
    if threat.domain is None or not threat.domain.discrete:
        return climb
    return lambda z: climb(z + (threat.settle(z.detach(), x) - z.detach()))


def take_step(climb: Climb, ball: Ball, z: Tensor, size: float | Tensor, mask: Tensor | None) -> tuple[Tensor, View]:
    """One step of the ascent: the next point, (B, ...), and what the network shows at this one."""
    gradient, view = input_gradient(climb, z)
    return ball.step(z, gradient if mask is None else gradient * mask, size), view
