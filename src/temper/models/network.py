"""What a network must offer to be attacked and penalized."""

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
    """Inputs to logits, by way of the space in which the adversary moves.

    `forward(x) = logits(lift(x))`. For pixels and features `lift` is the identity; a text network embeds its tokens
    there. What is lifted already passes through unchanged, so that an adversarial point can be handed to `forward`.

    Attributes:
        normalized: names of parameters of its own that it normalizes, so that their size means nothing.
    """

    normalized: ClassVar[tuple[str, ...]] = ()

    def lift(self, x: Tensor) -> Tensor:
        """(B, ...) inputs -> (B, ...) points in the adversary's space."""
        return x

    def observe(self, x: Tensor) -> None:
        """Before training: note what of the training split's inputs, (N, ...), the network needs to know."""

    @abstractmethod
    def logits(self, z: Tensor) -> Tensor:
        """(B, ...) points in the adversary's space -> (B, C) logits."""

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.lift(x))


class Normalize(nn.Module):
    """(x - mean) / std by channel: the first layer, so that attacks and data stay in the inputs' own range."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, dims: int) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean ({list(mean)}) and std ({list(std)}) should be of one length, and std positive")
        shape = (1, -1, *[1] * (dims - 1))
        self.register_buffer("mean", torch.tensor(mean).float().reshape(shape), persistent=False)
        self.register_buffer("std", torch.tensor(std).float().reshape(shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Chain(Network):
    """Layers one after another, behind the normalization of inputs.

    Args:
        layers: what comes behind it.
        mean, std: of each input channel (the first dimension of an input).
        dims: of one input.
    """

    def __init__(self, *layers: nn.Module, mean: Sequence[float], std: Sequence[float], dims: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Normalize(mean, std, dims=dims), *layers)

    def logits(self, z: Tensor) -> Tensor:
        out: Tensor = self.layers(z)
        return out


class NormSlot(nn.Identity):
    """Where a norm layer goes if a penalty asks for one. `dims` is the number of spatial dimensions."""

    def __init__(self, features: int, *, dims: int) -> None:
        super().__init__()
        self.features, self.dims = features, dims


class DropoutSlot(nn.Identity):
    """Where dropout goes if a penalty asks for it: of units (`dims` 0), or of whole channels of maps with so many `dims`."""

    p = 0.0  # what attention asks of a layer whose place this is

    def __init__(self, *, dims: int = 0) -> None:
        super().__init__()
        self.dims = dims


class BranchSlot(nn.Identity):
    """The end of a residual branch, where a penalty may leave out the whole branch."""


def last_linear(net: nn.Module) -> nn.Linear:
    """The layer that gives the logits; what enters it are the features.

    Raises:
        ValueError: the network has no linear layer.
    """
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(net).__name__} has no linear layer at its end, whose inputs are its features")
    return linear[-1]


def named_weights(module: nn.Module, *, normalized: bool = False) -> Iterator[tuple[str, nn.Parameter]]:
    """The weights that a penalty acts on: every trained parameter but biases and those of norm layers, told apart by type.

    Args:
        normalized: whether those that a network normalizes are among them (`Network.normalized`).
    """
    for prefix, child in module.named_modules():
        if isinstance(child, NORM_LAYERS):
            continue
        left_out = child.normalized if isinstance(child, Network) and not normalized else ()
        for name, parameter in child.named_parameters(recurse=False):
            # Recurrent and attention layers have several.
            is_bias = name == "bias" or name.startswith("bias_") or name.endswith("_bias")
            if not is_bias and name not in left_out and parameter.requires_grad:
                yield f"{prefix}.{name}" if prefix else name, parameter


def effective_weights(module: nn.Module) -> Iterator[Tensor]:
    """The same weights as the network uses them: where a layer's is parametrized, what comes out of that."""
    for child in module.modules():
        if parametrize.is_parametrized(child, "weight"):
            yield cast(Tensor, child.weight)
    for name, weight in named_weights(module):
        if "parametrizations." not in name:
            yield weight
