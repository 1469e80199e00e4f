"""A residual network for tables."""

from collections.abc import Sequence

from torch import Tensor, nn

from temper.config.types import Count, checked
from temper.models.network import BranchSlot, DropoutSlot, SequentialNetwork


class Block(nn.Module):
    """Residual block x + dropout(linear(dropout(ReLU(linear(norm(x)))))).

    Args:
        width: Input and output units.
        hidden: Hidden units.
    """

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


class ResNetTabular(SequentialNetwork):
    """ResNet for tabular data (Gorishniy et al. 2021, https://arxiv.org/abs/2106.11959, section 3.2).

    A linear layer, residual blocks, then batch norm, ReLU and a linear layer. The dropout of the paper is a penalty here.

    Args:
        shape: Shape of one row, (F,).
        classes: Number of logits.
        mean: Mean of each feature, or one number for all.
        std: Standard deviation of each feature, or one number for all.
        width: Units between the blocks.
        hidden: Units within a block.
        blocks: Number of blocks.

    Raises:
        ValueError: The inputs are not rows of features.
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
            raise ValueError(f"shape: this network takes rows of features (F,), not inputs of shape {list(shape)}.")
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
