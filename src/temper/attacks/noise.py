"""Random perturbations: the control that every attack must beat."""

from typing import Literal

import torch
from torch import Tensor

from temper.attacks.attack import Attack
from temper.attacks.threat import Threat, per_example
from temper.config.types import Positive, checked
from temper.data.batch import Batch
from temper.models.network import Network


class Noise(Attack):
    """A perturbation that asks no gradient.

    Args:
        threat: the set that x' stays in.
        eps: another radius than the threat's.
        distribution: "uniform" in the ball of radius eps, or "gaussian": isotropic normal, scaled to length eps.
    """

    @checked
    def __init__(
        self, *, threat: Threat, eps: Positive | None = None, distribution: Literal["uniform", "gaussian"] = "uniform"
    ) -> None:
        super().__init__()
        self.threat = threat.at(eps)
        self.distribution = distribution

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        z = net.lift(batch.x).detach()
        if self.distribution == "uniform":
            delta = self.threat.uniform(z)
        else:
            delta = torch.randn_like(z)
            delta = delta * per_example(self.threat.eps / self.threat.length(delta), z)
        if batch.mask is not None:
            delta = delta * batch.mask
        return self.threat.on(batch).finish(z + delta, z)
