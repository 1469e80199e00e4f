"""A small convolutional network for 8x8 and 28x28 images."""

from collections.abc import Sequence

from torch import nn

from temper.config.types import Count, checked
from temper.models.network import DropoutSlot, NormSlot, SequentialNetwork


class CNN(SequentialNetwork):
    """Two 3x3 convolutions of stride 2 and a fully connected hidden layer.

    It is as small as the MNIST network of Wong & Kolter 2018 (https://arxiv.org/abs/1711.00851), with kernels that are fast on
    a CPU.

    Args:
        shape: Shape of one input, (C, H, W).
        classes: Number of logits.
        mean: Mean of each input channel.
        std: Standard deviation of each input channel.
        width: Channels of the first convolution; the second has twice as many.
        hidden: Units of the fully connected layer.

    Raises:
        ValueError: The inputs are not images.
    """

    @checked
    def __init__(
        self,
        *,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        width: Count = 16,
        hidden: Count = 100,
    ) -> None:
        if len(shape) != 3:
            raise ValueError(
                f"shape: this network takes images (C, H, W), not inputs of shape {list(shape)}. Use model=mlp for "
                "other inputs."
            )
        channels, rows, columns = shape
        super().__init__(
            *_convolution(channels, width),
            *_convolution(width, 2 * width),
            nn.Flatten(),
            DropoutSlot(),
            nn.Linear(2 * width * -(-rows // 4) * -(-columns // 4), hidden),
            NormSlot(hidden, dims=0),
            nn.ReLU(),
            DropoutSlot(),
            nn.Linear(hidden, classes),
            mean=mean,
            std=std,
            dims=3,
        )


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
    return [convolution, NormSlot(outputs, dims=2), nn.ReLU(), DropoutSlot(dims=2)]
