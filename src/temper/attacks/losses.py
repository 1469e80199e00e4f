"""What an adversary climbs: losses of logits, per example."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.data.batch import Batch

LossName = Literal["ce", "margin", "dlr"]


class View(NamedTuple):
    """What one forward pass shows the adversary: the loss it climbs, (B,), and the logits, (B, C)."""

    loss: Tensor
    logits: Tensor


Climb = Callable[[Tensor], View]


def cross_entropy(net: nn.Module, target: Tensor) -> Climb:
    """The adversary's usual view: cross-entropy with `target`, hard (B,) or soft (B, C), in float32 whatever the logits are."""

    def view(z: Tensor) -> View:
        logits = net(z).float()
        return View(F.cross_entropy(logits, target, reduction="none"), logits)

    return view


def climb(net: nn.Module, batch: Batch, loss: LossName) -> Climb:
    """A loss by its name; margins compare with the hard label."""
    if loss == "ce":
        return cross_entropy(net, batch.target)
    measure = margin if loss == "margin" else dlr

    def view(z: Tensor) -> View:
        logits = net(z).float()
        return View(measure(logits, batch.y), logits)

    return view


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """The best other logit minus the label's, (B,): positive where the example is misclassified.

    Carlini & Wagner 2017 (https://arxiv.org/abs/1608.04644). Unlike the cross-entropy it does not flatten out where the network
    is sure of itself.
    """
    own = logits.gather(1, y[:, None]).squeeze(1)
    return others(logits, y).amax(1) - own


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio, (B,): the margin over the gap between the first and the third logit.

    Croce & Hein 2020 (https://arxiv.org/abs/2003.01690), eq. 6; unchanged by shifting and scaling the logits. With two classes
    there is no third, and it is the margin.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The same towards one other class `target`, (B,) int64 (Croce & Hein 2020, eq. 7); needs at least four classes."""
    top = logits.topk(4, dim=1).values
    difference = logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])
    return difference.squeeze(1) / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12)


def kl_divergence(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(softmax(p) || softmax(q)) of each example, (B,).

    In log space throughout: a probability that rounds to 0 would give NaN gradients with respect to p otherwise.
    """
    log_p, log_q = p_logits.float().log_softmax(1), q_logits.float().log_softmax(1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def others(logits: Tensor, y: Tensor) -> Tensor:
    """The logits with the label's own at minus infinity, (B, C)."""
    return logits.scatter(1, y[:, None], -torch.inf)
