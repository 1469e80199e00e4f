"""The network as one training step sees it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from temper.models.network import Network


class StepNetwork(Network):
    """A network for the length of one step: each point is passed forward once, at weights that may be displaced.

    A penalty that asks for the logits of points which the risk was taken at gets those, with their graph: it costs no second
    pass, and sees the same dropout masks. Gradients land in the network's own parameters, displaced or not.

    Args:
        net: whose step it is.
        shift: by the name of a parameter, what is added to it.
    """

    def __init__(self, net: Network, shift: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.net = net
        self.shift = dict(shift or {})
        self._training = net.training
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    def lift(self, x: Tensor) -> Tensor:
        return self._displaced(_Lift(self.net), "net.", x) if self.shift else self.net.lift(x)

    def logits(self, z: Tensor) -> Tensor:
        return self.forward(z)

    def forward(self, x: Tensor) -> Tensor:
        own = x.requires_grad and x.is_leaf  # somebody wants a gradient of his own at this point
        if own or not torch.is_grad_enabled() or self.net.training != self._training:
            return self._passed(x)
        known = self._seen.get(id(x))
        if known is None or known[0] is not x:
            known = self._seen[id(x)] = (x, self._passed(x))
        return known[1]

    def _passed(self, x: Tensor) -> Tensor:
        out: Tensor = self._displaced(self.net, "", x) if self.shift else self.net(x)
        return out

    def _displaced(self, module: nn.Module, prefix: str, x: Tensor) -> Tensor:
        """What a module gives for x whose parameters are the network's, displaced, behind a prefix."""
        parameters = dict(self.net.named_parameters())
        return functional_call(module, {prefix + name: parameters[name] + by for name, by in self.shift.items()}, (x,))


class _Lift(nn.Module):
    """The first half of a network as a module of its own, for `functional_call`."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.lift(x)


@contextmanager
def still_statistics(net: nn.Module) -> Iterator[None]:
    """Within it forward passes in training mode normalize by their own batch and move no running statistics.

    Those belong to the points that are trained on; what a penalty passes forward besides should not shift them.
    """
    layers = [module for module in net.modules() if isinstance(module, _BatchNorm) or module.training]
    tracking = [layer for layer in layers if isinstance(layer, _NormBase) and layer.track_running_stats]
    try:
        for module in tracking:
            module.track_running_stats = False
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True
