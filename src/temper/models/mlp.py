"""A multilayer perceptron."""

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from temper.arguments import Count, checked
from temper.models.network import DropoutSlot, Network, Normalize, NormSlot


class MLP(Network):
    """Fully connected layers with ReLU on flattened inputs.

    Args:
        shape: of one input.
        classes: number of logits.
        mean, std: of each input channel (the first dimension of an input).
        hidden: units of each hidden layer.
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
        super().__init__()
        widths = [math.prod(shape), *hidden]
        layers: list[nn.Module] = [Normalize(mean, std, dims=len(shape)), nn.Flatten()]
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), NormSlot(outputs, dims=0), nn.ReLU(), DropoutSlot()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))

    def logits(self, z: Tensor) -> Tensor:
        return self.layers(z)
