"""The residual network for tables."""

from collections.abc import Sequence

from torch import Tensor, nn

from temper.config.types import Count, checked
from temper.models.network import BranchSlot, Chain, DropoutSlot


class Block(nn.Module):
    """x + linear(dropout(ReLU(linear(norm(x))))), dropout at the end of the branch too."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm1d(width),
            nn.Linear(width, hidden),
            nn.ReLU(),
            DropoutSlot(),
            nn.Linear(hidden, width),
            DropoutSlot(),
            BranchSlot(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.residual(x)
        return out


class ResNetTabular(Chain):
    """Gorishniy et al. 2021 (https://arxiv.org/abs/2106.11959), section 3.2: a linear layer, residual blocks, then batch norm,
    ReLU and a linear layer. Its dropout is a penalty here.

    Args:
        shape: of one row, (F,).
        classes: number of logits.
        mean, std: of each feature, or one number for all.
        width: units between the blocks.
        hidden: units within a block.
        blocks: how many.
    """

    @checked
    def __init__(
        self,
        *,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        width: Count = 128,
        hidden: Count = 256,
        blocks: Count = 2,
    ) -> None:
        if len(shape) != 1:
            raise ValueError(f"shape: this network takes rows of features (F,), not inputs of shape {list(shape)}")
        super().__init__(
            nn.Linear(shape[0], width),
            *(Block(width, hidden) for _ in range(blocks)),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, classes),
            mean=mean,
            std=std,
            dims=1,
        )
