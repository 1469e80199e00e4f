"""Penalties on predictions and targets: confidence, logit squeezing, self-distillation, label smoothing.

The first three are terms of the loss, computed at the points that are trained on. Label smoothing changes the targets.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from temper.config.types import Count, Positive, Probability, checked
from temper.data.batch import Batch
from temper.models.network import Network
from temper.penalties.penalty import Penalty, Stage


class Confidence(Penalty):
    """Confidence penalty: negative entropy of the prediction.

    sum_k p_k log p_k, averaged over examples (Pereyra et al. 2017, https://arxiv.org/abs/1701.06548, eq. 2). Uses the logits
    of the risk, so it costs almost nothing.
    """

    neutral = ("weight=0",)

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        log_p = net(x_adv).float().log_softmax(1)
        return (log_p.exp() * log_p).sum(1).mean()


class LogitSqueezing(Penalty):
    """Logit squeezing: squared norm of the logits.

    ||f(x)||^2, averaged over examples (Kannan et al. 2018, https://arxiv.org/abs/1803.06373; Shafahi et al. 2019,
    https://arxiv.org/abs/1910.11585, eq. 7). Uses the logits of the risk, so it costs almost nothing.

    Small logits flatten the gradient that attacks follow. Check with the audit that an increase in robust accuracy is not due
    to gradient masking.
    """

    neutral = ("weight=0",)

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return net(x_adv).float().square().sum(1).mean()


class SelfDistillation(Penalty):
    """Self-distillation from a moving average of the network's own weights.

    T^2 KL(p_teacher || p) at temperature T, averaged over examples. The teacher is the moving average (Tarvainen & Valpola
    2017, https://arxiv.org/abs/1703.01780; against robust overfitting Chen et al. 2021,
    https://openreview.net/forum?id=qZzy5urZw9, who train the teachers beforehand). It predicts in eval mode, which costs one
    more forward pass.

    Args:
        temperature: temperature T of both distributions (2 in Chen et al. 2021).
        memory: decay of the moving average per step; the running statistics of norm layers are copied.
    """

    neutral = ("weight=0",)

    @checked
    def __init__(self, *, temperature: Positive = 2.0, memory: Probability = 0.99) -> None:
        super().__init__()
        self.temperature, self.memory = temperature, memory

    def prepare(self, net: Network) -> Network:
        self.teacher = copy.deepcopy(net).requires_grad_(False)
        return net

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        with torch.no_grad():
            teacher = self.teacher.eval()(x_adv).float().div(self.temperature).log_softmax(1)
        student = net(x_adv).float().div(self.temperature).log_softmax(1)
        divergence = nn.functional.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
        return self.temperature**2 * divergence.mean()

    @torch.no_grad()
    def after_step(self, net: Network) -> None:
        torch._foreach_lerp_(list(self.teacher.parameters()), list(net.parameters()), 1 - self.memory)
        for buffer, current in zip(self.teacher.buffers(), net.buffers(), strict=True):
            buffer.copy_(current)


class LabelSmoothing(Penalty):
    """Label smoothing: part of the probability is spread over all classes.

    target = (1 - s) onehot(y) + s / C (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, sec. 7). The training attack
    maximizes the same loss and therefore uses the smoothed target too.

    Args:
        smoothing: probability s that is spread over all classes.
        classes: number of classes, C.
    """

    stage = Stage.LABELS
    magnitude = "smoothing"
    max_magnitude = 0.95
    neutral = ("smoothing=0",)

    @checked
    def __init__(self, *, smoothing: Probability, classes: Count) -> None:
        super().__init__()
        self.smoothing, self.classes = smoothing, classes

    def transform(self, batch: Batch) -> Batch:
        if not self.smoothing:
            return batch
        target = batch.probabilities(self.classes)
        return replace(batch, target=target.lerp(target.new_full((), 1 / self.classes), self.smoothing))
