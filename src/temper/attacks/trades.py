"""TRADES."""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from temper.arguments import Count, NonNegative, Positive, checked
from temper.attacks.ascent import View, ascend
from temper.attacks.attack import Attack, land
from temper.attacks.pgd import default_step_size
from temper.attacks.probing import Mode, probing
from temper.attacks.threat import Start, Threat
from temper.data.batch import Batch
from temper.models.network import Network


class TRADES(Attack):
    """Zhang et al. 2019 (https://arxiv.org/abs/1901.08573), eq. 5: risk = CE(f(x), y) + beta * max KL(f(x) || f(x')).

    Args:
        threat: the set that x' stays in.
        beta: weight of the robustness term (1 / lambda of the paper; 6 in its tables).
        eps: another radius than the threat's.
        steps, step_size: of the ascent on the KL divergence; None: 2.5 eps / steps, at most eps.
        start: the paper's is "gaussian"; "zero" would start where the gradient is zero and is refused.
        mode: of the network while it is attacked.
    """

    @checked
    def __init__(
        self,
        *,
        threat: Threat,
        beta: NonNegative = 6.0,
        eps: Positive | None = None,
        steps: Count = 10,
        step_size: Positive | None = None,
        start: Start = "gaussian",
        mode: Mode = "eval",
    ) -> None:
        super().__init__()
        if start == "zero":
            raise ValueError("start: the KL divergence has no gradient at x itself; use gaussian or uniform")
        self.threat = threat if eps is None else replace(threat, eps=eps)
        self.beta, self.steps, self.start, self.mode = beta, steps, start, mode
        self.step_size = default_step_size(self.threat, steps) if step_size is None else step_size

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            clean = net(z).detach()

            def climb(z_adv: Tensor) -> View:
                logits = net(z_adv)
                return View(kl_divergence(clean, logits), logits)

            start = self.threat.start(z, self.start)
            z_adv = ascend(climb, z, start, self.threat, steps=self.steps, step_size=self.step_size, mask=batch.mask)
            return self.threat.finish(z_adv, z).detach()

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        clean = net(batch.x)
        adversarial = net(land(net, batch.x, x_adv))
        natural = F.cross_entropy(clean.float(), batch.target, reduction="none")
        return natural + self.beta * kl_divergence(clean, adversarial)


def kl_divergence(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(softmax(p) || softmax(q)) of each example, (B,).

    In log space throughout: a probability that rounds to 0 would give NaN gradients with respect to p otherwise.
    """
    log_p, log_q = p_logits.float().log_softmax(1), q_logits.float().log_softmax(1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
