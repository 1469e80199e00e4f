"""TRADES: clean loss plus the divergence between clean and adversarial predictions."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from temper.attacks.ascent import Ascent
from temper.attacks.attack import with_lift_gradient
from temper.attacks.losses import LossFn, divergence, kl_divergence
from temper.config.types import NonNegative, checked
from temper.data.batch import Batch
from temper.models.network import Network


class TRADES(Ascent):
    """TRADES (Zhang et al. 2019, https://arxiv.org/abs/1901.08573), eq. 5: risk = CE(f(x), y) + beta * max KL(f(x) || f(x')).

    Args:
        beta: weight of the robustness term (1 / lambda of the paper; 6 in its tables).
        ascent: settings of `Ascent`. The paper's start is "gaussian". A "zero" start has no gradient and is refused.

    Raises:
        ValueError: start is "zero".
    """

    @checked
    def __init__(self, *, beta: NonNegative = 6.0, **ascent: Any) -> None:
        super().__init__(**({"start": "gaussian"} | ascent))
        if self.start == "zero":
            raise ValueError("start: the KL divergence has no gradient at x itself. Set start=gaussian or start=uniform.")
        self.beta = beta

    def inner_loss(self, net: Network, batch: Batch, z: Tensor) -> LossFn:
        return divergence(net, net(z).detach())

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        clean = net(batch.x)
        adversarial = net(with_lift_gradient(net, batch.x, x_adv))
        natural = F.cross_entropy(clean.float(), batch.target, reduction="none")
        return natural + self.beta * kl_divergence(clean, adversarial)
