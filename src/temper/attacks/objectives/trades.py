"""TRADES."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from temper.attacks.ascent import Ascent
from temper.attacks.attack import land
from temper.attacks.losses import Climb, View, kl_divergence
from temper.config.types import NonNegative, checked
from temper.data.batch import Batch
from temper.models.network import Network


class TRADES(Ascent):
    """Zhang et al. 2019 (https://arxiv.org/abs/1901.08573), eq. 5: risk = CE(f(x), y) + beta * max KL(f(x) || f(x')).

    Args:
        beta: weight of the robustness term (1 / lambda of the paper; 6 in its tables).
        ascent: settings of `Ascent`. The paper's start is "gaussian"; "zero" would start where the gradient is zero and is
            refused.
    """

    @checked
    def __init__(self, *, beta: NonNegative = 6.0, **ascent: Any) -> None:
        super().__init__(**({"start": "gaussian"} | ascent))
        if self.start == "zero":
            raise ValueError("start: the KL divergence has no gradient at x itself; use gaussian or uniform")
        self.beta = beta

    def climb(self, net: Network, batch: Batch, z: Tensor) -> Climb:
        clean = net(z).detach()

        def view(z_adv: Tensor) -> View:
            logits = net(z_adv)
            return View(kl_divergence(clean, logits), logits)

        return view

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        clean = net(batch.x)
        adversarial = net(land(net, batch.x, x_adv))
        natural = F.cross_entropy(clean.float(), batch.target, reduction="none")
        return natural + self.beta * kl_divergence(clean, adversarial)
