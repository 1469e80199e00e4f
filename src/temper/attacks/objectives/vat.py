"""Virtual adversarial training: smoothness in the direction in which the prediction changes fastest."""

import torch.nn.functional as F
from torch import Tensor

from temper.attacks.attack import Attack, with_lift_gradient
from temper.attacks.gradient_step import input_gradient
from temper.attacks.losses import divergence, kl_divergence
from temper.attacks.network_state import Mode, probing
from temper.attacks.threat import Threat
from temper.config.types import Count, NonNegative, Positive, checked
from temper.data.batch import Batch
from temper.models.network import Network


class VAT(Attack):
    """Virtual adversarial training (Miyato et al. 2018, https://arxiv.org/abs/1704.03976), algorithm 1.

    risk = CE(f(x), y) + alpha * KL(p(x) || p(x')), with p(x) held constant. x' = x + eps * r, where r is the steepest direction
    of the divergence near x, found by power iteration. The attack uses no labels.

    Args:
        threat: the norm and the radius (l2 in the paper).
        eps: overrides the radius of `threat`.
        alpha: weight of the divergence (1 in the paper).
        iterations: power iterations (1 in the paper).
        xi: length of the finite-difference step, in eps. With the paper's 1e-6 the differences of probabilities would vanish in
            float32 rounding.
        mode: mode of the network during the attack.
    """

    @checked
    def __init__(
        self,
        *,
        threat: Threat,
        eps: Positive | None = None,
        alpha: NonNegative = 1.0,
        iterations: Count = 1,
        xi: Positive = 0.01,
        mode: Mode = "eval",
    ) -> None:
        super().__init__()
        self.threat = threat.with_eps(eps)
        self.alpha, self.iterations, self.xi, self.mode = alpha, iterations, xi, mode

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            mask = 1 if batch.mask is None else batch.mask
            loss_fn = divergence(net, net(z).detach())
            threat = self.threat.for_batch(batch)
            direction = threat.uniform(z) / threat.eps
            for _ in range(self.iterations):
                # The divergence is quadratic near x: its gradient there is its Hessian times the direction.
                gradient, _ = input_gradient(loss_fn, z + self.xi * threat.eps * direction * mask)
                direction = threat.direction(gradient * mask, z)
            return threat.finish(z + threat.eps * direction, z).detach()

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        clean = net(batch.x)
        adversarial = net(with_lift_gradient(net, batch.x, x_adv))
        natural = F.cross_entropy(clean.float(), batch.target, reduction="none")
        return natural + self.alpha * kl_divergence(clean.detach(), adversarial)
