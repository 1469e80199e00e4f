"""Random perturbations, the control for every attack."""

from typing import Literal

import torch
from torch import Tensor

from temper.attacks.attack import Attack
from temper.attacks.threat import Threat, per_example
from temper.config.types import Positive, checked
from temper.data.batch import Batch
from temper.models.network import Network


class Noise(Attack):
    """Random perturbation, computed without gradients.

    Args:
        threat: the perturbation set.
        eps: overrides the radius of `threat`.
        distribution: "uniform" in the ball of radius eps, or "gaussian": isotropic normal, scaled to length eps.
    """

    @checked
    def __init__(
        self, *, threat: Threat, eps: Positive | None = None, distribution: Literal["uniform", "gaussian"] = "uniform"
    ) -> None:
        super().__init__()
        self.threat = threat.with_eps(eps)
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
        return self.threat.for_batch(batch).finish(z + delta, z)
