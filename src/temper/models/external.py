"""A network that was made elsewhere."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from temper.config.types import checked
from temper.models.network import Network, Normalize


class External(Network):
    """Any module that maps inputs to logits, so that it can be attacked and evaluated like our own.

    Args:
        factory: where it comes from: "package.module:function" or ":Class", "timm:NAME", "torchvision:NAME", or the path of a
            TorchScript file.
        arguments: of the factory.
        weights: path of a state dict to load into it (`torch.save(net.state_dict())`), also one that stands under "state_dict"
            or "model" in its file.
        shape: of one input; classes: number of logits. Both are checked by a forward pass.
        mean, std: what the module expects its inputs, which come in [0, 1], to be normalized by; None: it takes them as they
            are.

    Raises:
        ValueError: it cannot be made, or does not fit the data.
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
            raise ValueError("mean and std: give both or neither")
        self.normalize = nn.Identity() if mean is None or std is None else Normalize(mean, std, dims=len(shape))
        self.module = _make(factory, dict(arguments or {}))
        if weights is not None:
            _load(self.module, Path(weights))
        check_logits(self, f"factory: {factory}", shape, classes)

    def logits(self, z: Tensor) -> Tensor:
        out: Tensor = self.module(self.normalize(z))
        return out


def check_logits(net: Network, named: str, shape: Sequence[int], classes: int, *, way_out: str = "") -> None:
    """Pass two inputs through a network that was made elsewhere.

    Raises:
        ValueError: it does not take inputs of this shape, or gives other logits; the message begins with `named`.
    """
    training = net.training
    net.eval()
    try:
        with torch.no_grad():
            found = net(torch.zeros(2, *shape)).shape
    except Exception as error:  # whatever a foreign module raises where the input does not fit
        hint = f"; {way_out}" if way_out else ""
        raise ValueError(f"{named} does not take inputs of shape {list(shape)}: {first_line(error)}{hint}") from error
    finally:
        net.train(training)
    if tuple(found) != (2, classes):
        raise ValueError(f"{named} gives {list(found[1:])} for each input, and the data have {classes} classes")


def _make(factory: str, arguments: dict[str, Any]) -> nn.Module:
    if Path(factory).is_file():
        if arguments:
            raise ValueError("arguments: a TorchScript file takes none")
        try:
            module = torch.jit.load(factory, map_location="cpu")
        except RuntimeError as error:
            raise ValueError(f"factory: {factory} is no TorchScript file ({first_line(error)})") from error
        return module
    source, colon, name = factory.partition(":")
    if not colon or not name:
        raise ValueError(
            f"factory: {factory!r} should be package.module:function, timm:NAME, torchvision:NAME, or the path of a "
            "TorchScript file that exists"
        )
    try:
        if source == "torchvision":
            from torchvision.models import get_model

            made = get_model(name, **arguments)
        elif source == "timm":
            import timm

            made = timm.create_model(name, **arguments)
        else:
            made = getattr(importlib.import_module(source), name)(**arguments)
    except Exception as error:  # whatever a foreign factory raises
        hint = "; pip install timm" if isinstance(error, ImportError) and source == "timm" else ""
        raise ValueError(f"factory: {factory} failed: {first_line(error)}{hint}") from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"factory: {factory} made a {type(made).__name__}, not a torch.nn.Module")
    return made


def _load(module: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"weights: there is no file {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):
            state = state[key] if isinstance(state.get(key), Mapping) else state
        module.load_state_dict(state)
    except Exception as error:  # a damaged file, or weights of another network
        raise ValueError(f"weights: {path} does not fit this network: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an error of a library says, in short."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
