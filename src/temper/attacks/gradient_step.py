"""One step of gradient ascent on the input."""

from collections.abc import Callable

import torch
from torch import Tensor

from temper.attacks.losses import LossFn, LossOutput
from temper.attacks.threat import Ball, Threat
from temper.config.types import InEps

Step = Callable[[LossFn, Ball, Tensor, float | Tensor, Tensor | None], tuple[Tensor, LossOutput]]


def step_length(step_size: float | InEps | None, threat: Threat, steps: int) -> float:
    """Return the absolute length of a step in the threat's norm.

    The default (None) is 2.5 eps / steps, so that every point of the set can be reached from any other, but at most eps.
    """
    if step_size is None:
        return min(threat.eps, 2.5 * threat.eps / steps)
    return step_size.factor * threat.eps if isinstance(step_size, InEps) else step_size


def input_gradient(loss_fn: LossFn, z: Tensor) -> tuple[Tensor, LossOutput]:
    """Return the gradient of each example's loss with respect to its own input, (B, ...), and the output at z.

    The loss is summed over the batch: a mean would divide gradients by B and underflow in half precision.
    """
    if torch.compiler.is_compiling():
        # Every version of torch traces this transform; none traces `torch.autograd.grad` by default.
        return torch.func.grad(lambda z: _loss_sum(loss_fn(z)), has_aux=True)(z.detach())
    z = z.detach().requires_grad_(True)
    output = loss_fn(z)
    (gradient,) = torch.autograd.grad(output.loss.sum(), z)
    return gradient, LossOutput(output.loss.detach(), output.logits.detach())


def _loss_sum(output: LossOutput) -> tuple[Tensor, LossOutput]:
    # Defined outside of the compiled function: torch 2.6 cannot trace the definition of a function with this type.
    return output.loss.sum(), output


def at_valid_rows(loss_fn: LossFn, threat: Threat, x: Tensor) -> LossFn:
    """Return the loss at the valid table rows that points around x, (B, F), are rounded to (`Threat.round_to_domain`).

    The gradient passes straight through the rounding, as in Athalye et al. 2018 (https://arxiv.org/abs/1802.00420), 4.1. For
    inputs other than table rows, return `loss_fn` unchanged.
    """
    if threat.domain is None or not threat.domain.discrete:
        return loss_fn
    return lambda z: loss_fn(z + (threat.round_to_domain(z.detach(), x) - z.detach()))


def take_step(loss_fn: LossFn, ball: Ball, z: Tensor, size: float | Tensor, mask: Tensor | None) -> tuple[Tensor, LossOutput]:
    """Return the point after one step of ascent, (B, ...), and the loss and logits at z, before the step."""
    gradient, output = input_gradient(loss_fn, z)
    return ball.step(z, gradient if mask is None else gradient * mask, size), output
