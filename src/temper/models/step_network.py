"""The network during one training step, with cached logits and displaced weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from temper.models.network import Network


class StepNetwork(Network):
    """Wrapper of a network for one training step: logits are cached per point, and weights may be displaced.

    A penalty that needs the logits of points at which the risk was computed gets the cached ones, with their graph. This saves
    a forward pass and uses the same dropout masks. Gradients accumulate in the network's own parameters in any case.

    Args:
        net: The network.
        shift: Displacement of parameters, by their names.
    """

    def __init__(self, net: Network, shift: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.net = net
        self.shift = dict(shift or {})
        self._training = net.training
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}

    def lift(self, x: Tensor) -> Tensor:
        return self._call_displaced(_Lift(self.net), "net.", x) if self.shift else self.net.lift(x)

    def logits(self, z: Tensor) -> Tensor:
        return self.forward(z)

    def forward(self, x: Tensor) -> Tensor:
        leaf = x.requires_grad and x.is_leaf  # the caller differentiates at this point, which needs a separate graph
        if leaf or not torch.is_grad_enabled() or self.net.training != self._training:
            return self._call(x)
        cached = self._cache.get(id(x))
        # The cache keeps x alive, so that its id is not used again; the comparison is a safeguard.
        if cached is None or cached[0] is not x:
            cached = self._cache[id(x)] = (x, self._call(x))
        return cached[1]

    def _call(self, x: Tensor) -> Tensor:
        out: Tensor = self._call_displaced(self.net, "", x) if self.shift else self.net(x)
        return out

    def _call_displaced(self, module: nn.Module, prefix: str, x: Tensor) -> Tensor:
        """Call a module with displaced parameters.

        Args:
            module: Module whose parameters are the network's.
            prefix: Prefix of the parameters' names in the module.
            x: Input of the module.
        """
        parameters = dict(self.net.named_parameters())
        return functional_call(module, {prefix + name: parameters[name] + by for name, by in self.shift.items()}, (x,))


class _Lift(nn.Module):
    """`Network.lift` as a module, for `functional_call`."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.lift(x)


@contextmanager
def still_statistics(net: nn.Module) -> Iterator[None]:
    """Freeze the running statistics of batch norm. In train mode, passes still normalize by their own batch.

    Running statistics describe the points that are trained on; the additional passes of a penalty should not change them.
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
