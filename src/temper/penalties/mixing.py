"""Penalties that train on mixtures of two examples and of their labels.

`y`, which accuracy and margins are measured against, stays that of the example with the larger share; `target` is mixed. The
attack in training starts from the mixture and climbs the loss of the mixed target.
"""

from dataclasses import replace

import torch
from torch import Tensor

from temper.config.types import Count, NonNegative, checked
from temper.data.batch import Batch
from temper.penalties.augmentation import check_continuous, image_size
from temper.penalties.penalty import Penalty, Stage


class Mixup(Penalty):
    """share * (x, target) + (1 - share) * (x, target) of another example, share ~ Beta(alpha, alpha) for each batch (Zhang et
    al. 2018, https://arxiv.org/abs/1710.09412, eq. 2).

    Pairs are random, so that share and 1 - share are alike: the larger of both is taken.

    Args:
        alpha: the larger, the closer to halves (0.1 to 0.4 in the paper for ImageNet, 1 for CIFAR-10; Rice et al. 2020 chose
            1.4 against an attack).
        classes: C.
    """

    stage = Stage.MIXING
    magnitude = "alpha"
    neutral = ("alpha=0",)

    @checked
    def __init__(self, *, alpha: NonNegative, classes: Count) -> None:
        super().__init__()
        self.alpha, self.classes = alpha, classes

    def transform(self, batch: Batch) -> Batch:
        if not self.alpha:
            return batch
        check_continuous(batch.x)
        share, other = _partners(batch, self.alpha)
        share = max(share, 1 - share)
        x = batch.x.lerp(batch.x[other], 1 - share)
        return replace(batch, x=x, target=_mixed(batch, other, share, self.classes))


class CutMix(Penalty):
    """A box of each image comes from another one, and as large a share of its label (Yun et al. 2019,
    https://arxiv.org/abs/1905.04899, eq. 1 and 2).

    The box has a share 1 - s of the image, s ~ Beta(alpha, alpha) for each batch, around a uniform centre; what reaches over
    the edge is lost, and the label follows what is left of it. The larger part keeps `y`.

    Args:
        alpha: the larger, the closer to halves (1 in the paper).
        classes: C.
    """

    stage = Stage.MIXING
    magnitude = "alpha"
    neutral = ("alpha=0",)

    @checked
    def __init__(self, *, alpha: NonNegative, classes: Count) -> None:
        super().__init__()
        self.alpha, self.classes = alpha, classes

    def transform(self, batch: Batch) -> Batch:
        if not self.alpha:
            return batch
        rows, columns = image_size(batch.x)
        share, other = _partners(batch, self.alpha)
        box = _box(rows, columns, 1 - share)
        share = 1 - float(box.sum()) / (rows * columns)
        x = torch.where(box.to(batch.x.device, non_blocking=True), batch.x[other], batch.x)
        y = batch.y if share >= 0.5 else batch.y[other]
        return replace(batch, x=x, y=y, target=_mixed(batch, other, share, self.classes))


def _partners(batch: Batch, alpha: float) -> tuple[float, Tensor]:
    """The share that each example keeps, and the example that it is mixed with, (B,) int64."""
    # Drawn on the CPU, so that a GPU sees the same; the copy to it waits for nothing.
    return _beta(alpha), torch.randperm(len(batch)).to(batch.y.device, non_blocking=True)


def _beta(alpha: float) -> float:
    """A draw from Beta(alpha, alpha), for any alpha: torch's own underflows to 1/2 for a small one, where it should be 0 or 1.

    G1 / (G1 + G2) with G ~ Gamma(alpha), in logarithms: Gamma(alpha + 1) * U^(1 / alpha) is distributed as Gamma(alpha).
    """
    gamma = torch.distributions.Gamma(torch.full((2,), alpha + 1, dtype=torch.float64), 1.0).sample()
    logs = gamma.log() + (1 - torch.rand(2, dtype=torch.float64)).log() / alpha
    return float(torch.sigmoid(logs[0] - logs[1]))


def _mixed(batch: Batch, other: Tensor, share: float, classes: int) -> Tensor:
    """Targets of mixtures, (B, C)."""
    target = batch.probabilities(classes)
    return target.lerp(target[other], 1 - share)


def _box(rows: int, columns: int, area: float) -> Tensor:
    """A box with a share of the image around a uniform centre, (H, W) bool."""
    inside = []
    for size in (rows, columns):
        side = round(size * area**0.5)
        start = int(torch.randint(size, ())) - side // 2
        places = torch.arange(size)
        inside.append((places >= start) & (places < start + side))
    return inside[0][:, None] & inside[1]
