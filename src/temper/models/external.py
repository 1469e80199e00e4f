"""Networks that are built by other packages, or loaded from a file."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from temper.config.errors import first_line
from temper.config.types import checked
from temper.models.network import Network, Normalize


class External(Network):
    """Any module that maps inputs to logits, so that it can be attacked and evaluated like the built-in networks.

    Args:
        factory: Origin of the module: "package.module:function" or "package.module:Class", "timm:NAME", "torchvision:NAME", or
            the path of a TorchScript file.
        shape: Shape of one input.
        classes: Number of logits. A forward pass checks both.
        arguments: Arguments of the factory.
        weights: Path of a state dict to load (`torch.save(net.state_dict())`); it may be stored under the key "state_dict" or
            "model".
        mean: Mean with which the module expects its inputs, which are in [0, 1], to be normalized. None means no normalization.
        std: Standard deviation of that normalization.

    Raises:
        ValueError: The module cannot be built, or does not fit the data.
    """

    @checked
    def __init__(
        self,
        *,
        factory: str,
        shape: Sequence[int],
        classes: int,
        arguments: Mapping[str, Any] | None = None,
        weights: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise ValueError("mean: only one of mean and std is set. Set both or neither.")
        self.normalize = nn.Identity() if mean is None or std is None else Normalize(mean, std, dims=len(shape))
        self.module = _build_module(factory, dict(arguments or {}))
        if weights is not None:
            _load_weights(self.module, Path(weights))
        check_logits(self, f"factory: {factory}", shape, classes)

    def logits(self, z: Tensor) -> Tensor:
        out: Tensor = self.module(self.normalize(z))
        return out


def check_logits(net: Network, subject: str, shape: Sequence[int], classes: int, *, way_out: str = "") -> None:
    """Check a network of another package by a forward pass of two inputs.

    Args:
        net: The network.
        subject: Beginning of the error message: the config key and the name of the network.
        shape: Shape of one input.
        classes: Number of logits.
        way_out: End of the error message if the inputs do not fit: what to do.

    Raises:
        ValueError: The network does not accept inputs of this shape, or returns other logits.
    """
    training = net.training
    net.eval()
    try:
        with torch.no_grad():
            output = net(torch.zeros(2, *shape)).shape
    except Exception as error:  # other packages raise many types if the input does not fit
        raise ValueError(
            f"{subject} does not accept inputs of shape {list(shape)} ({first_line(error)}). {way_out}".rstrip()
        ) from error
    finally:
        net.train(training)
    if tuple(output) != (2, classes):
        raise ValueError(f"{subject} returns {list(output[1:])} for each input, but the data has {classes} classes.")


def _build_module(factory: str, arguments: dict[str, Any]) -> nn.Module:
    if Path(factory).is_file():
        if arguments:
            raise ValueError("arguments: a TorchScript file takes no arguments. Remove them.")
        try:
            module = torch.jit.load(factory, map_location="cpu")
        except RuntimeError as error:
            raise ValueError(f"factory: {factory} is not a TorchScript file ({first_line(error)}).") from error
        return module
    source, colon, name = factory.partition(":")
    if not colon or not name:
        raise ValueError(
            f"factory: {factory!r} should be package.module:function, timm:NAME, torchvision:NAME, or the path of an existing "
            "TorchScript file."
        )
    try:
        if source == "torchvision":
            from torchvision.models import get_model

            module = get_model(name, **arguments)
        elif source == "timm":
            import timm

            module = timm.create_model(name, **arguments)
        else:
            module = getattr(importlib.import_module(source), name)(**arguments)
    except Exception as error:  # other packages raise many types
        hint = " Run pip install timm." if isinstance(error, ImportError) and source == "timm" else ""
        raise ValueError(f"factory: {factory} failed ({first_line(error)}).{hint}") from error
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"factory: {factory} returned an object of type {type(module).__name__}. It should return a torch.nn.Module."
        )
    return module


def _load_weights(module: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"weights: file {path} does not exist.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):
            state = state[key] if isinstance(state.get(key), Mapping) else state
        module.load_state_dict(state)
    except Exception as error:  # a damaged file, or weights of another network
        raise ValueError(f"weights: {path} does not fit this network ({first_line(error)}).") from error
