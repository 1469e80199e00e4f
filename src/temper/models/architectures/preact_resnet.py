"""Pre-activation ResNet-18 for 32x32 images, as in the robustness literature, and layers that wide ResNets share."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from temper.config.types import Count, checked
from temper.models.network import BranchSlot, DropoutSlot, SequentialNetwork


class Block(nn.Module):
    """Residual block of two 3x3 convolutions, each preceded by batch norm and ReLU.

    The shortcut starts after the first activation. The slot for dropout is between the convolutions (Zagoruyko & Komodakis
    2016, https://arxiv.org/abs/1605.07146).

    Args:
        inputs: Input channels.
        outputs: Output channels.
        stride: Stride of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.dropout, self.branch = DropoutSlot(dims=2), BranchSlot()
        reshapes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if reshapes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norm1(x))
        residual = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(activated)))))
        return self.branch(residual) + (x if self.shortcut is None else self.shortcut(activated))


class PreActResNet18(SequentialNetwork):
    """Pre-activation ResNet-18 (He et al. 2016, https://arxiv.org/abs/1603.05027) in the 32x32 form of Rice et al. 2020.

    It has a final batch norm before the pooling, and 11.17 M parameters for width 64 and 10 classes.

    Args:
        shape: Shape of one input, (C, H, W).
        classes: Number of logits.
        mean: Mean of each input channel.
        std: Standard deviation of each input channel.
        width: Channels of the first stage; the others have 2, 4 and 8 times as many.
    """

    @checked
    def __init__(
        self, *, shape: Sequence[int], classes: int, mean: Sequence[float], std: Sequence[float], width: Count = 64
    ) -> None:
        widths = [width, 2 * width, 4 * width, 8 * width]
        super().__init__(*preact_layers(shape, classes, inputs=width, widths=widths, blocks=2), mean=mean, std=std, dims=3)


def preact_layers(shape: Sequence[int], classes: int, *, inputs: int, widths: Sequence[int], blocks: int) -> list[nn.Module]:
    """Build the layers of a pre-activation ResNet: a convolution, stages of blocks, pooling and a linear layer.

    Every stage except the first halves rows and columns in its first block.

    Args:
        shape: Shape of one input, (C, H, W).
        classes: Number of logits.
        inputs: Channels of the first convolution.
        widths: Channels of each stage.
        blocks: Blocks per stage.

    Raises:
        ValueError: The inputs are not images.
    """
    if len(shape) != 3:
        raise ValueError(
            f"shape: a ResNet takes images (C, H, W), not inputs of shape {list(shape)}. Use model=mlp for other inputs."
        )
    first, stages = inputs, []
    for stage, outputs in enumerate(widths):
        for block in range(blocks):
            stages.append(Block(inputs, outputs, stride=2 if stage > 0 and block == 0 else 1))
            inputs = outputs
    return [
        nn.Conv2d(shape[0], first, 3, 1, 1, bias=False),
        *stages,
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        DropoutSlot(),
        nn.Linear(inputs, classes),
    ]
