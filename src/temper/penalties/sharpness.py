"""Penalties on sharp minima: the loss is computed at weights that are perturbed in the direction of a larger risk.

Each costs one more forward and backward pass for the gradient of that direction, which does not update running statistics. The
metric `train/risk` is the risk at the perturbed weights and therefore higher than in other cells; validation uses the weights
themselves.
"""

from collections.abc import Callable

from torch import Tensor, nn

from temper.config.types import NonNegative, Probability, checked
from temper.models.network import Network, named_weights
from temper.models.step_network import still_statistics
from temper.penalties.gradient_ratios import named_gradients, total_norm
from temper.penalties.penalty import Exclusive, Penalty


class AWP(Penalty):
    """Adversarial weight perturbation, relative to the norm of each layer.

    Every weight tensor w with two or more dimensions is moved along the gradient g of the risk by gamma * ||w|| * g / ||g||,
    layer by layer (Wu et al. 2020, https://arxiv.org/abs/2004.05884).

    This is the variant of the authors' repository (csdongxian/AWP): one step, relative to each layer, without biases and norm
    layers, at the adversarial points that the attack found for the unperturbed weights. With an attack the risk is that of
    the attack, e.g. that of TRADES. Without one only the weights are perturbed adversarially.

    Args:
        gamma: norm of the perturbation relative to that of the layer (0.01 in the paper for adversarial training, 0.005 for
            TRADES).
        warmup: fraction of the training before which weights are not perturbed.
    """

    magnitude = "gamma"
    neutral = ("gamma=0",)
    exclusive = Exclusive.PERTURBS_WEIGHTS

    @checked
    def __init__(self, *, gamma: NonNegative, warmup: Probability = 0.0) -> None:
        super().__init__()
        self.gamma, self.warmup = gamma, warmup
        self._progress = 0.0

    def begin(self, step: int, progress: float) -> None:
        self._progress = progress

    def shift(self, net: Network, risk: Callable[[Network], Tensor]) -> dict[str, Tensor]:
        if not self.gamma or self._progress < self.warmup:
            return {}
        weights = {name: weight for name, weight in named_weights(net, normalized=True) if weight.ndim > 1}
        return {
            name: (self.gamma * weights[name].detach().norm() / gradient.norm().clamp_min(1e-12)) * gradient
            for name, gradient in _risk_gradients(net, risk, weights).items()
        }


class SAM(Penalty):
    """Sharpness-aware minimization.

    All parameters together are moved along the gradient g of the risk by rho * g / ||g|| (Foret et al. 2021,
    https://arxiv.org/abs/2010.01412, eq. 2).

    Args:
        rho: norm of the perturbation of all parameters as one vector (0.05 in the paper).
    """

    magnitude = "rho"
    neutral = ("rho=0",)
    exclusive = Exclusive.PERTURBS_WEIGHTS

    @checked
    def __init__(self, *, rho: NonNegative) -> None:
        super().__init__()
        self.rho = rho

    def shift(self, net: Network, risk: Callable[[Network], Tensor]) -> dict[str, Tensor]:
        if not self.rho:
            return {}
        parameters = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
        gradients = _risk_gradients(net, risk, parameters)
        norm = total_norm(gradients.values()).clamp_min(1e-12)
        return {name: (self.rho / norm) * gradient for name, gradient in gradients.items()}


def _risk_gradients(net: Network, risk: Callable[[Network], Tensor], parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the gradient of the risk by parameter name, without updating running statistics."""
    with still_statistics(net):
        return named_gradients(risk(net), parameters)
