"""Per-example losses of logits that an adversary maximizes."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.data.batch import Batch

LossName = Literal["ce", "margin", "dlr"]


class LossOutput(NamedTuple):
    """Result of one forward pass: the loss to maximize, (B,), and the logits, (B, C)."""

    loss: Tensor
    logits: Tensor


LossFn = Callable[[Tensor], LossOutput]


def loss_of_logits(net: nn.Module, loss: Callable[[Tensor], Tensor]) -> LossFn:
    """Return a loss of points, (B, ...), given a loss of their logits, (B, C) -> (B,), which are cast to float32."""

    def loss_fn(z: Tensor) -> LossOutput:
        logits = net(z).float()
        return LossOutput(loss(logits), logits)

    return loss_fn


def cross_entropy(net: nn.Module, target: Tensor) -> LossFn:
    """Return the cross-entropy with `target`, hard (B,) or soft (B, C)."""
    return loss_of_logits(net, lambda logits: F.cross_entropy(logits, target, reduction="none"))


def divergence(net: nn.Module, clean: Tensor) -> LossFn:
    """Return KL(softmax(clean) || softmax(net(z))), given the clean logits, (B, C)."""
    return loss_of_logits(net, lambda logits: kl_divergence(clean, logits))


def loss_by_name(net: nn.Module, batch: Batch, loss: LossName) -> LossFn:
    """Return a loss by its name; the margin losses compare with the hard label."""
    if loss == "ce":
        return cross_entropy(net, batch.target)
    measure = margin if loss == "margin" else dlr
    return loss_of_logits(net, lambda logits: measure(logits, batch.y))


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return the largest other logit minus the label's, (B,): positive for a misclassified example.

    Carlini & Wagner 2017 (https://arxiv.org/abs/1608.04644). Unlike the cross-entropy it does not saturate where the network is
    confident.
    """
    label_logit = logits.gather(1, y[:, None]).squeeze(1)
    return other_logits(logits, y).amax(1) - label_logit


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Return the difference of logits ratio, (B,): the margin over the gap between the largest and the third largest logit.

    Croce & Hein 2020 (https://arxiv.org/abs/2003.01690), eq. 6; invariant to shifting and scaling the logits. With two classes
    there is no third logit, and it is the margin.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return the targeted difference of logits ratio, (B,), towards other classes `target`, (B,) int64.

    Croce & Hein 2020 (https://arxiv.org/abs/2003.01690), eq. 7; needs at least four classes.
    """
    top = logits.topk(4, dim=1).values
    difference = logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])
    return difference.squeeze(1) / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12)


def kl_divergence(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Return KL(softmax(p) || softmax(q)) of each example, (B,).

    It is computed in log space throughout: otherwise a probability that rounds to 0 would give NaN gradients with respect to p.
    """
    log_p, log_q = p_logits.float().log_softmax(1), q_logits.float().log_softmax(1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def other_logits(logits: Tensor, y: Tensor) -> Tensor:
    """Return the logits with the label's set to minus infinity, (B, C)."""
    return logits.scatter(1, y[:, None], -torch.inf)
