"""Projected gradient descent, and FGSM as its single step."""

from typing import Any

from torch import Tensor

from temper.attacks.ascent import Ascent
from temper.attacks.losses import Climb, LossName, climb
from temper.config.types import checked
from temper.data.batch import Batch
from temper.models.network import Network


class PGD(Ascent):
    """Madry et al. 2018 (https://arxiv.org/abs/1706.06083): steepest ascent on the cross-entropy, projected onto the set.

    With one step from zero it is FGSM (Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572). With one step of 1.25 eps from
    a uniform start it is FGSM-RS (Wong et al. 2020, https://arxiv.org/abs/2001.03994).

    Args:
        loss: "ce", or a margin loss ("margin", "dlr"), which still has a gradient where the network is sure of itself.
        ascent: settings of `Ascent`.
    """

    @checked
    def __init__(self, *, loss: LossName = "ce", **ascent: Any) -> None:
        super().__init__(**ascent)
        self.loss = loss

    def climb(self, net: Network, batch: Batch, z: Tensor) -> Climb:
        return climb(net, batch, self.loss)
