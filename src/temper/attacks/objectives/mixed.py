"""Mixed training on clean and adversarial examples, and adversarial logit pairing."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from temper.attacks.ascent import Ascent
from temper.attacks.attack import with_lift_gradient
from temper.config.types import NonNegative, Probability, checked
from temper.data.batch import Batch
from temper.models.network import Network


class Mixed(Ascent):
    """Mixed training (Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572), section 6.

    risk = clean * CE(f(x), y) + (1 - clean) * CE(f(x'), y).

    With `pairing` it is adversarial logit pairing (Kannan et al. 2018, https://arxiv.org/abs/1803.06373), which adds
    pairing * mean over the logits of (f(x) - f(x'))^2.

    Args:
        clean: weight of the clean loss (0.5 in both papers).
        pairing: weight of the squared distance between the logits (0.5 for ImageNet in the paper; 0: none).
        ascent: settings of `Ascent`.
    """

    @checked
    def __init__(self, *, clean: Probability = 0.5, pairing: NonNegative = 0.0, **ascent: Any) -> None:
        super().__init__(**ascent)
        self.clean, self.pairing = clean, pairing

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        clean, adversarial = net(batch.x).float(), net(with_lift_gradient(net, batch.x, x_adv)).float()
        natural, robust = (F.cross_entropy(logits, batch.target, reduction="none") for logits in (clean, adversarial))
        risk = self.clean * natural + (1 - self.clean) * robust
        return risk + self.pairing * (clean - adversarial).square().mean(1) if self.pairing else risk
