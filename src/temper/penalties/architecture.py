"""Penalties that are layers of the network."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torchvision.ops import StochasticDepth as DropBranch

from temper.config.types import Count, Probability, checked
from temper.models.network import BranchSlot, DropoutSlot, Network, NormSlot
from temper.penalties.penalty import Penalty, Stage

S = TypeVar("S", bound=nn.Module)


class Dropout(Penalty):
    """Zeroes hidden units with probability p in training (Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html).

    Args:
        p: probability that a unit is dropped.
    """

    stage = Stage.ARCHITECTURE
    magnitude = "p"
    largest = 0.95
    neutral = ("p=0",)

    @checked
    def __init__(self, *, p: Probability) -> None:
        super().__init__()
        self.p = p

    def prepare(self, net: Network) -> Network:
        self.layers = _fill(net, DropoutSlot, "dropout", lambda slot: nn.Dropout(self.p), where=lambda slot: slot.dims == 0)
        return net

    def begin(self, step: int, done: float) -> None:
        _set_probabilities(self.layers, [self.p] * len(self.layers))


class SpatialDropout(Penalty):
    """Zeroes whole channels of the feature maps with probability p in training (Tompson et al. 2015,
    https://arxiv.org/abs/1411.4280): neighbouring pixels are too alike for dropping single ones to matter.

    Args:
        p: probability that a channel is dropped.
    """

    stage = Stage.ARCHITECTURE
    magnitude = "p"
    largest = 0.95
    neutral = ("p=0",)

    @checked
    def __init__(self, *, p: Probability) -> None:
        super().__init__()
        self.p = p

    def prepare(self, net: Network) -> Network:
        layers = {1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}
        self.layers = _fill(
            net, DropoutSlot, "spatial dropout", lambda slot: layers[slot.dims](self.p), where=lambda slot: slot.dims > 0
        )
        return net

    def begin(self, step: int, done: float) -> None:
        _set_probabilities(self.layers, [self.p] * len(self.layers))


class StochasticDepth(Penalty):
    """Leaves out whole residual branches, example by example, the deeper the likelier: branch l of L with probability p * l / L
    (Huang et al. 2016, https://arxiv.org/abs/1603.09382, eq. 4).

    In training a branch that stays is scaled by the inverse of its chance to stay, so that evaluation needs no factor.

    Args:
        p: probability that the last branch is left out (0.5 in the paper).
    """

    stage = Stage.ARCHITECTURE
    magnitude = "p"
    largest = 0.95
    neutral = ("p=0",)

    @checked
    def __init__(self, *, p: Probability) -> None:
        super().__init__()
        self.p = p

    def prepare(self, net: Network) -> Network:
        self.layers = _fill(net, BranchSlot, "stochastic depth (it has no residual branches)", lambda _: DropBranch(0.0, "row"))
        self.begin(0, 0.0)
        return net

    def begin(self, step: int, done: float) -> None:
        count = len(self.layers)
        _set_probabilities(self.layers, [self.p * (number + 1) / count for number in range(count)])


class BatchNorm(Penalty):
    """Normalizes every hidden layer over the batch (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167)."""

    stage = Stage.ARCHITECTURE

    def prepare(self, net: Network) -> Network:
        layers = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
        _fill(net, NormSlot, "batch norm (it may have its own norm layers)", lambda slot: layers[slot.dims](slot.features))
        return net


class GroupNorm(Penalty):
    """Normalizes every hidden layer within each example, over groups of channels (Wu & He 2018, https://arxiv.org/abs/1803.08494).

    Args:
        groups: of channels; in layers that they do not divide, the next smaller number that does. Units without a map get two
            to a group at least: one alone would be constant.
    """

    stage = Stage.ARCHITECTURE

    @checked
    def __init__(self, *, groups: Count) -> None:
        super().__init__()
        self.groups = groups

    def prepare(self, net: Network) -> Network:
        what = "group norm (it may have its own norm layers)"
        _fill(net, NormSlot, what, lambda slot: nn.GroupNorm(self._groups(slot), slot.features))
        return net

    def _groups(self, slot: NormSlot) -> int:
        least = 1 if slot.dims else 2
        possible = [n for n in range(1, self.groups + 1) if slot.features % n == 0 and slot.features // n >= least]
        if not possible:
            raise ValueError(f"a layer of {slot.features} unit(s) cannot be normalized within an example")
        return possible[-1]


class SpectralNorm(Penalty):
    """Every weight matrix is divided by its largest singular value (Miyato et al. 2018, https://arxiv.org/abs/1802.05957), as
    PyTorch's own parametrization does it. A convolution's kernel is taken as a matrix of one row an output channel.

    Args:
        iterations: of the power method at each forward pass in training.
    """

    stage = Stage.ARCHITECTURE

    @checked
    def __init__(self, *, iterations: Count = 1) -> None:
        super().__init__()
        self.iterations = iterations

    def prepare(self, net: Network) -> Network:
        kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
        found = [module for module in net.modules() if isinstance(module, kinds)]
        if not found:
            raise ValueError(f"{type(net).__name__} has no linear or convolutional layer: this penalty would have no effect")
        for module in found:
            spectral_norm(module, n_power_iterations=self.iterations)
        return net


def _fill(
    net: Network, kind: type[S], what: str, layer: Callable[[S], nn.Module], where: Callable[[S], bool] = lambda slot: True
) -> list[nn.Module]:
    """Put a layer into every slot of one kind; the layers."""
    slots = [(name, module) for name, module in net.named_modules() if isinstance(module, kind) and where(module)]
    if not slots:
        raise ValueError(f"{type(net).__name__} has no place for {what}: this penalty would have no effect")
    layers = [layer(slot) for _, slot in slots]
    for (name, _), new in zip(slots, layers, strict=True):
        net.set_submodule(name, new)
    return layers


def _set_probabilities(layers: list[nn.Module], probabilities: list[float]) -> None:
    for layer, p in zip(layers, probabilities, strict=True):
        layer.p = p  # type: ignore[assignment]
