"""Projected gradient descent, and FGSM as its single step."""

from typing import Any

from torch import Tensor

from temper.attacks.ascent import Ascent
from temper.attacks.losses import LossFn, LossName, loss_by_name
from temper.config.types import checked
from temper.data.batch import Batch
from temper.models.network import Network


class PGD(Ascent):
    """PGD (Madry et al. 2018, https://arxiv.org/abs/1706.06083): projected steepest ascent on the cross-entropy.

    One step from a zero start is FGSM (Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572). One step of 1.25 eps from a
    uniform start is FGSM-RS (Wong et al. 2020, https://arxiv.org/abs/2001.03994).

    Args:
        loss: "ce", or a margin loss ("margin", "dlr"), which does not saturate where the network is confident.
        ascent: settings of `Ascent`.
    """

    @checked
    def __init__(self, *, loss: LossName = "ce", **ascent: Any) -> None:
        super().__init__(**ascent)
        self.loss = loss

    def inner_loss(self, net: Network, batch: Batch, z: Tensor) -> LossFn:
        return loss_by_name(net, batch, self.loss)
