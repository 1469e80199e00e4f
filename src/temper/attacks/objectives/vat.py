"""Virtual adversarial training."""

import torch.nn.functional as F
from torch import Tensor

from temper.attacks.attack import Attack, land
from temper.attacks.gradient_step import input_gradient
from temper.attacks.losses import View, kl_divergence
from temper.attacks.network_state import Mode, probing
from temper.attacks.threat import Threat
from temper.config.types import Count, NonNegative, Positive, checked
from temper.data.batch import Batch
from temper.models.network import Network


class VAT(Attack):
    """Miyato et al. 2018 (https://arxiv.org/abs/1704.03976), algorithm 1: smooth where the prediction changes fastest.

    risk = CE(f(x), y) + alpha * KL(p(x) || p(x')), p(x) held constant. x' = x + eps * r with r the steepest direction of the
    divergence near x, by power iteration: no label is asked for.

    Args:
        threat: its norm and eps (l2 in the paper).
        eps: another radius than the threat's.
        alpha: weight of the smoothness (1 in the paper).
        iterations: of the power method (1 in the paper).
        xi: length of the probing step, in eps. The paper's 1e-6 leaves differences of probabilities in the rounding of float32.
        mode: of the network while it is attacked.
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
        self.threat = threat.at(eps)
        self.alpha, self.iterations, self.xi, self.mode = alpha, iterations, xi, mode

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            mask = 1 if batch.mask is None else batch.mask
            clean = net(z).detach()

            def divergence(point: Tensor) -> View:
                logits = net(point)
                return View(kl_divergence(clean, logits), logits)

            threat = self.threat.on(batch)
            direction = threat.uniform(z) / threat.eps
            for _ in range(self.iterations):
                # Near x the divergence is quadratic, so that its gradient there is its Hessian times the direction.
                gradient, _ = input_gradient(divergence, z + self.xi * threat.eps * direction * mask)
                direction = threat.direction(gradient * mask, z)
            return threat.finish(z + threat.eps * direction, z).detach()

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        clean = net(batch.x)
        natural = F.cross_entropy(clean.float(), batch.target, reduction="none")
        return natural + self.alpha * kl_divergence(clean.detach(), net(land(net, batch.x, x_adv)))
