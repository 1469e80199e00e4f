"""Base classes of networks, slots for penalties, and access to the weights that penalties act on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

NORM_LAYERS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)


class Network(nn.Module, ABC):
    """Base class of all networks: inputs to logits, through the space in which the adversary moves.

    `forward(x) = logits(lift(x))`. For pixels and features, `lift` is the identity; a text network embeds its tokens. Points
    that are already lifted pass through `lift` unchanged, so that `forward` accepts adversarial points.

    Attributes:
        normalized: Names of the network's own parameters that it normalizes, so that their scale has no effect.
    """

    normalized: ClassVar[tuple[str, ...]] = ()

    def lift(self, x: Tensor) -> Tensor:
        """Map inputs (B, ...) to points (B, ...) in the adversary's space."""
        return x

    def observe(self, x: Tensor) -> None:
        """Store statistics of the training inputs (N, ...). Called once before training; does nothing by default."""

    @abstractmethod
    def logits(self, z: Tensor) -> Tensor:
        """Map points (B, ...) in the adversary's space to logits (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.lift(x))


class Normalize(nn.Module):
    """First layer of a network: (x - mean) / std per channel. Attacks and data keep the inputs' own range.

    Args:
        mean: Mean of each channel.
        std: Standard deviation of each channel.
        dims: Number of dimensions of one input.

    Raises:
        ValueError: `mean` and `std` differ in length, or a standard deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, dims: int) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean {list(mean)} and std {list(std)} should have the same length, and std should be positive.")
        shape = (1, -1, *[1] * (dims - 1))
        self.register_buffer("mean", torch.tensor(mean).float().reshape(shape), persistent=False)
        self.register_buffer("std", torch.tensor(std).float().reshape(shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class SequentialNetwork(Network):
    """Normalization of the inputs, followed by a sequence of layers.

    Args:
        layers: Layers after the normalization.
        mean: Mean of each input channel (the first dimension of an input).
        std: Standard deviation of each input channel.
        dims: Number of dimensions of one input.
    """

    def __init__(self, *layers: nn.Module, mean: Sequence[float], std: Sequence[float], dims: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Normalize(mean, std, dims=dims), *layers)

    def logits(self, z: Tensor) -> Tensor:
        out: Tensor = self.layers(z)
        return out


class NormSlot(nn.Identity):
    """Place for a norm layer that a penalty may insert.

    Args:
        features: Number of channels.
        dims: Number of spatial dimensions.
    """

    def __init__(self, features: int, *, dims: int) -> None:
        super().__init__()
        self.features, self.dims = features, dims


class DropoutSlot(nn.Identity):
    """Place for a dropout layer that a penalty may insert.

    Args:
        dims: Number of spatial dimensions of the feature maps, whose whole channels are dropped; 0 drops single units.
    """

    p = 0.0  # attention layers of transformers read it from the layer that this one replaces

    def __init__(self, *, dims: int = 0) -> None:
        super().__init__()
        self.dims = dims


class BranchSlot(nn.Identity):
    """End of a residual branch, where a penalty may drop the whole branch."""


def last_linear(net: nn.Module) -> nn.Linear:
    """Return the layer that computes the logits; its inputs are the features.

    Raises:
        ValueError: The network has no linear layer.
    """
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(net).__name__} has no linear layer, whose inputs would be the features. Use another model.")
    return linear[-1]


def named_weights(module: nn.Module, *, normalized: bool = False) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the weights that a penalty acts on: all trained parameters except biases and parameters of norm layers.

    Norm layers are recognized by type, not by name.

    Args:
        module: Network or layer.
        normalized: Include parameters that the network normalizes (`Network.normalized`).
    """
    for prefix, child in module.named_modules():
        if isinstance(child, NORM_LAYERS):
            continue
        excluded = child.normalized if isinstance(child, Network) and not normalized else ()
        for name, parameter in child.named_parameters(recurse=False):
            # Recurrent and attention layers have several biases.
            is_bias = name == "bias" or name.startswith("bias_") or name.endswith("_bias")
            if not is_bias and name not in excluded and parameter.requires_grad:
                yield f"{prefix}.{name}" if prefix else name, parameter


def effective_weights(module: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of `named_weights` as the network uses them: parametrized ones after their parametrization."""
    for child in module.modules():
        if parametrize.is_parametrized(child, "weight"):
            yield cast(Tensor, child.weight)
    for name, weight in named_weights(module):
        if "parametrizations." not in name:
            yield weight
