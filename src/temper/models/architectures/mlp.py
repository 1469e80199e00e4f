"""A multilayer perceptron."""

import itertools
import math
from collections.abc import Sequence

from torch import nn

from temper.config.types import Count, checked
from temper.models.network import DropoutSlot, NormSlot, SequentialNetwork


class MLP(SequentialNetwork):
    """Fully connected layers with ReLU on flattened inputs.

    Args:
        shape: Shape of one input.
        classes: Number of logits.
        mean: Mean of each input channel (the first dimension of an input).
        std: Standard deviation of each input channel.
        hidden: Units of each hidden layer.
    """

    @checked
    def __init__(
        self,
        *,
        shape: Sequence[int],
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        hidden: Sequence[Count] = (256, 256),
    ) -> None:
        widths = [math.prod(shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), NormSlot(outputs, dims=0), nn.ReLU(), DropoutSlot()]
        super().__init__(*layers, nn.Linear(widths[-1], classes), mean=mean, std=std, dims=len(shape))
