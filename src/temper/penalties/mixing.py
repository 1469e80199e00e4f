"""Mixup and CutMix: training on mixtures of two examples and of their labels.

`y`, against which accuracy and margins are measured, is the label of the example with the larger fraction; `target` is mixed.
The training attack starts from the mixture and maximizes the loss with respect to the mixed target.
"""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from temper.config.types import Count, NonNegative, checked
from temper.data.batch import Batch
from temper.penalties.augmentation import check_continuous, image_size, random_segments
from temper.penalties.penalty import Penalty, Stage


class _Mixing(Penalty, ABC):
    """Base of the penalties that mix each example with a random other one of its batch.

    Args:
        alpha: parameter of Beta(alpha, alpha), from which the fraction is drawn for each batch.
        classes: number of classes, C.
    """

    stage = Stage.MIXING
    magnitude = "alpha"
    neutral = ("alpha=0",)

    @checked
    def __init__(self, *, alpha: NonNegative, classes: Count) -> None:
        super().__init__()
        self.alpha, self.classes = alpha, classes

    @abstractmethod
    def mix(self, x: Tensor, partner: Tensor, fraction: float) -> tuple[Tensor, float]:
        """Mix inputs.

        Args:
            x: inputs, (B, ...).
            partner: index of the example that each one is mixed with, (B,) int64.
            fraction: fraction of itself that each example should keep.

        Returns:
            The mixtures, (B, ...), and the fraction of itself that each example kept.
        """

    def transform(self, batch: Batch) -> Batch:
        if not self.alpha:
            return batch
        fraction = _symmetric_beta(self.alpha)
        # Drawn on the CPU, so all devices get the same numbers; the asynchronous copy does not wait for the device.
        partner = torch.randperm(len(batch)).to(batch.y.device, non_blocking=True)
        x, fraction = self.mix(batch.x, partner, fraction)
        target = batch.probabilities(self.classes)
        return replace(
            batch,
            x=x,
            y=batch.y if fraction >= 0.5 else batch.y[partner],
            target=target.lerp(target[partner], 1 - fraction),
        )


class Mixup(_Mixing):
    """Mixup: convex combinations of two examples and of their targets.

    fraction * (x, target) + (1 - fraction) * (x, target) of another example, with fraction ~ Beta(alpha, alpha) drawn for
    each batch (Zhang et al. 2018, https://arxiv.org/abs/1710.09412, eq. 2). Since pairs are random, fraction and 1 - fraction
    are equivalent; the larger of the two is used.

    Args:
        alpha: parameter of the Beta distribution: the larger, the closer the fractions are to 1/2 (0.1 to 0.4 in the paper for
            ImageNet, 1 for CIFAR-10; Rice et al. 2020 chose 1.4 for adversarial training).
        classes: number of classes, C.
    """

    def mix(self, x: Tensor, partner: Tensor, fraction: float) -> tuple[Tensor, float]:
        check_continuous(x)
        fraction = max(fraction, 1 - fraction)
        return x.lerp(x[partner], 1 - fraction), fraction


class CutMix(_Mixing):
    """CutMix: a box of each image is replaced by that of another one, and targets are mixed in proportion to the areas.

    The box covers a fraction 1 - s of the image, s ~ Beta(alpha, alpha) drawn for each batch, around a uniformly drawn center
    (Yun et al. 2019, https://arxiv.org/abs/1905.04899, eq. 1 and 2). The part beyond the edge is lost, and the target follows
    the area that remains. `y` is the label of the larger part.

    Args:
        alpha: parameter of the Beta distribution: the larger, the closer the fractions are to 1/2 (1 in the paper).
        classes: number of classes, C.
    """

    def mix(self, x: Tensor, partner: Tensor, fraction: float) -> tuple[Tensor, float]:
        height, width = image_size(x)
        # On the CPU: its area is needed as a number.
        rows, columns = (
            random_segments(size, round(size * (1 - fraction) ** 0.5), 1, torch.device("cpu"))[0] for size in (height, width)
        )
        box = rows[:, None] & columns
        fraction = 1 - float(box.sum()) / (height * width)
        return torch.where(box.to(x.device, non_blocking=True), x[partner], x), fraction


def _symmetric_beta(alpha: float) -> float:
    """Draw from Beta(alpha, alpha). For small alpha torch's own sampler underflows to 1/2, where the draw should be 0 or 1.

    G1 / (G1 + G2) with G ~ Gamma(alpha), in logarithms: Gamma(alpha + 1) * U^(1 / alpha) is distributed as Gamma(alpha).
    """
    gamma = torch.distributions.Gamma(torch.full((2,), alpha + 1, dtype=torch.float64), 1.0).sample()
    logs = gamma.log() + (1 - torch.rand(2, dtype=torch.float64)).log() / alpha
    return float(torch.sigmoid(logs[0] - logs[1]))
