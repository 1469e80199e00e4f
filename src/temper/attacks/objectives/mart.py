"""MART: training that weights misclassified examples more."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks.ascent import Ascent
from temper.attacks.attack import with_lift_gradient
from temper.attacks.losses import kl_divergence, other_logits
from temper.config.types import NonNegative, checked
from temper.data.batch import Batch
from temper.models.network import Network


class MART(Ascent):
    """MART (Wang et al. 2020, https://openreview.net/forum?id=rklOg6EFwS), eq. 11: misclassified examples weigh more.

    risk = BCE(p(x'), y) + beta * KL(p(x) || p(x')) * (1 - p_y(x)), with BCE = -log p_y(x') - log(1 - max over k != y of
    p_k(x')). With soft targets, p_y is the expectation over the target.

    Args:
        beta: weight of the consistency term (lambda of the paper; 5 in its tables).
        ascent: settings of `Ascent`. The authors' code takes 10 steps on the cross-entropy from a gaussian start.
    """

    @checked
    def __init__(self, *, beta: NonNegative = 5.0, **ascent: Any) -> None:
        super().__init__(**({"start": "gaussian"} | ascent))
        self.beta = beta

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        clean, adversarial = net(batch.x).float(), net(with_lift_gradient(net, batch.x, x_adv)).float()
        bce = F.cross_entropy(adversarial, batch.target, reduction="none") - _log_without_runner_up(adversarial, batch.y)
        probabilities = clean.softmax(1)
        if batch.target.ndim == 1:
            target_probability = probabilities.gather(1, batch.target[:, None]).squeeze(1)
        else:
            target_probability = (probabilities * batch.target).sum(1)
        return bce + self.beta * kl_divergence(clean, adversarial) * (1 - target_probability)


def _log_without_runner_up(logits: Tensor, y: Tensor) -> Tensor:
    """Return log(1 - max over k != y of p_k), (B,), without cancellation.

    It is the log-probability of all classes but the runner-up.
    """
    runner_up = other_logits(logits, y).argmax(1, keepdim=True)
    return logits.log_softmax(1).scatter(1, runner_up, -torch.inf).logsumexp(1)
