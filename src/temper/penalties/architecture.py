"""Penalties that are layers of the network."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from temper.arguments import Probability, checked
from temper.models.network import DropoutSlot, Network, NormSlot
from temper.penalties.penalty import Penalty, Stage

S = TypeVar("S", bound=nn.Module)


class Dropout(Penalty):
    """Zeroes hidden units with probability p in training (Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html).

    Args:
        p: probability that a unit is dropped.
    """

    stage = Stage.ARCHITECTURE
    magnitude = "p"

    @checked
    def __init__(self, *, p: Probability) -> None:
        super().__init__()
        self.p = p

    def prepare(self, net: Network) -> Network:
        return _fill(net, DropoutSlot, lambda slot: nn.Dropout(self.p))


class BatchNorm(Penalty):
    """Normalizes every hidden layer over the batch (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167)."""

    stage = Stage.ARCHITECTURE

    def prepare(self, net: Network) -> Network:
        layers = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
        return _fill(net, NormSlot, lambda slot: layers[slot.dims](slot.features))


def _fill(net: Network, kind: type[S], layer: Callable[[S], nn.Module]) -> Network:
    """Put a layer into every slot of one kind."""
    slots = [(name, module) for name, module in net.named_modules() if isinstance(module, kind)]
    if not slots:
        what = {DropoutSlot: "dropout", NormSlot: "batch norm (it may have its own norm layers)"}[kind]
        raise ValueError(f"{type(net).__name__} has no place for {what}: this penalty would have no effect")
    for name, slot in slots:
        net.set_submodule(name, layer(slot))
    return net
