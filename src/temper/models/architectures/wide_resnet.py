"""Wide ResNets, the standard networks for full-scale comparisons of adversarial training."""

from collections.abc import Sequence

from torch import nn

from temper.config.types import Count, checked
from temper.models.architectures.preact_resnet import preact_layers
from temper.models.network import SequentialNetwork


class WideResNet(SequentialNetwork):
    """WRN-depth-width (Zagoruyko & Komodakis 2016, https://arxiv.org/abs/1605.07146).

    36.5 M parameters for WRN-28-10 and 10 classes, 46.2 M for WRN-34-10. As in the paper's code, convolutions are initialized
    from a normal distribution scaled by their fan-out.

    Args:
        shape: Shape of one input, (C, H, W).
        classes: Number of logits.
        mean: Mean of each input channel.
        std: Standard deviation of each input channel.
        depth: Number of convolutional layers, 6n + 4 for n blocks in each of the three stages.
        width: Factor for the 16, 32 and 64 channels of the stages.

    Raises:
        ValueError: `depth` is not 6n + 4, or the inputs are not images.
    """

    @checked
    def __init__(
        self,
        *,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        depth: Count = 28,
        width: Count = 10,
    ) -> None:
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f"depth: should be 6n + 4 (10, 16, 22, 28, 34, 40, …), not {depth}.")
        widths = [16 * width, 32 * width, 64 * width]
        layers = preact_layers(shape, classes, inputs=16, widths=widths, blocks=(depth - 4) // 6)
        super().__init__(*layers, mean=mean, std=std, dims=3)
        for layer in self.layers.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            elif isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
