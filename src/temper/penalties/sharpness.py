"""Penalties on sharp minima: the loss is taken where a displacement of the weights makes it worse.

Each costs one more forward and backward pass: the gradient that the displacement follows. No running statistics move in it.
What is logged as `train/risk` is the risk at the displaced weights, above that of other cells; validation is at the weights
themselves.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from temper.config.types import NonNegative, Probability, checked
from temper.models.network import Network, named_weights
from temper.models.step_network import still_statistics
from temper.penalties.penalty import Penalty, Place


class AWP(Penalty):
    """Adversarial weight perturbation (Wu et al. 2020, https://arxiv.org/abs/2004.05884): every weight tensor of two dimensions
    or more is moved up the risk by gamma of its own length, gamma * ||w|| * g / ||g||, layer by layer.

    That is the variant of the authors' repository (csdongxian/AWP): one step, relative to each layer, biases and norm layers
    left alone, at the adversarial points that the attack found for the weights before they were moved. With an attack the risk
    is its own, that of TRADES for TRADES. Without one it is an adversary of the weights alone.

    Args:
        gamma: length of the move relative to the layer's (0.01 in the paper for adversarial training, 0.005 for TRADES).
        warmup: share of training before which weights are not moved.
    """

    magnitude = "gamma"
    neutral = ("gamma=0",)
    place = Place.DISPLACES

    @checked
    def __init__(self, *, gamma: NonNegative, warmup: Probability = 0.0) -> None:
        super().__init__()
        self.gamma, self.warmup = gamma, warmup
        self._done = 0.0

    def begin(self, step: int, done: float) -> None:
        self._done = done

    def shift(self, net: Network, risk: Callable[[Network], Tensor]) -> dict[str, Tensor]:
        if not self.gamma or self._done < self.warmup:
            return {}
        weights = {name: weight for name, weight in named_weights(net, normalized=True) if weight.ndim > 1}
        gradients = _gradients(net, risk, weights)
        return {
            name: (self.gamma * weights[name].detach().norm() / gradient.norm().clamp_min(1e-12)) * gradient
            for name, gradient in gradients.items()
        }


class SAM(Penalty):
    """Sharpness-aware minimization (Foret et al. 2021, https://arxiv.org/abs/2010.01412, eq. 2): all parameters together are
    moved up the risk by the length rho, rho * g / ||g||.

    Args:
        rho: length of the move, of all parameters as one vector (0.05 in the paper).
    """

    magnitude = "rho"
    neutral = ("rho=0",)
    place = Place.DISPLACES

    @checked
    def __init__(self, *, rho: NonNegative) -> None:
        super().__init__()
        self.rho = rho

    def shift(self, net: Network, risk: Callable[[Network], Tensor]) -> dict[str, Tensor]:
        if not self.rho:
            return {}
        parameters = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
        gradients = _gradients(net, risk, parameters)
        length = torch.stack(torch._foreach_norm(list(gradients.values()))).norm().clamp_min(1e-12)
        return {name: (self.rho / length) * gradient for name, gradient in gradients.items()}


def _gradients(net: Network, risk: Callable[[Network], Tensor], parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Gradient of the risk by the names of those parameters that it depends on."""
    with still_statistics(net):
        found = torch.autograd.grad(risk(net), list(parameters.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(parameters, found, strict=True) if gradient is not None}
