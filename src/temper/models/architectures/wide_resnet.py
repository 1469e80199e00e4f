"""The wide ResNets in which adversarial training is compared at full scale."""

from collections.abc import Sequence

from torch import nn

from temper.config.types import Count, checked
from temper.models.architectures.preact_resnet import preactivated
from temper.models.network import Chain


class WideResNet(Chain):
    """WRN-depth-width of Zagoruyko & Komodakis 2016 (https://arxiv.org/abs/1605.07146): 36.5 M parameters for WRN-28-10 and 10
    classes, 46.2 M for WRN-34-10. Convolutions start normal, scaled by their outputs, as there.

    Args:
        shape: of one input, (C, H, W).
        classes: number of logits.
        mean, std: of each input channel.
        depth: convolutions on the way, 6n + 4 for n blocks in each of the three stages.
        width: factor of the stages' 16, 32 and 64 channels.

    Raises:
        ValueError: no network has this depth.
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
            raise ValueError(f"depth: should be 6n + 4 (10, 16, 22, 28, 34, 40, …), not {depth}")
        widths = [16 * width, 32 * width, 64 * width]
        layers = preactivated(shape, classes, inputs=16, widths=widths, blocks=(depth - 4) // 6)
        super().__init__(*layers, mean=mean, std=std, dims=3)
        for layer in self.layers.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            elif isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
