"""Penalties that add layers to the network or reparametrize it: dropout, stochastic depth, norm layers, spectral norm."""

from collections.abc import Callable
from typing import ClassVar, TypeVar

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torchvision.ops import StochasticDepth as DropBranch

from temper.config.types import Count, Probability, checked
from temper.models.network import BranchSlot, DropoutSlot, Network, NormSlot
from temper.penalties.penalty import Penalty, Stage

S = TypeVar("S", bound=nn.Module)


class _Drop(Penalty):
    """Base of the penalties that drop random parts of the network in training.

    Args:
        p: probability that a part is dropped.
    """

    stage = Stage.ARCHITECTURE
    magnitude = "p"
    max_magnitude = 0.95
    neutral = ("p=0",)

    @checked
    def __init__(self, *, p: Probability) -> None:
        super().__init__()
        self.p = p


class _SlotDropout(_Drop):
    """Base of dropout on units and on whole channels.

    Attributes:
        description: name of the layer in error messages.
        spatial: drop whole channels of feature maps instead of single units.
    """

    description: ClassVar[str]
    spatial: ClassVar[bool]

    def prepare(self, net: Network) -> Network:
        kinds = {0: nn.Dropout, 1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}
        self.layers = _fill(
            net,
            DropoutSlot,
            self.description,
            lambda slot: kinds[slot.dims](self.p),
            accept=lambda slot: (slot.dims > 0) == self.spatial,
        )
        return net

    def begin(self, step: int, progress: float) -> None:
        _set_probabilities(self.layers, [self.p] * len(self.layers))


class Dropout(_SlotDropout):
    """Dropout of single hidden units.

    Zeroes hidden units with probability p in training (Srivastava et al. 2014,
    https://jmlr.org/papers/v15/srivastava14a.html).

    Args:
        p: probability that a unit is dropped.
    """

    description = "dropout"
    spatial = False


class SpatialDropout(_SlotDropout):
    """Dropout of whole channels of the feature maps.

    Zeroes channels with probability p in training (Tompson et al. 2015, https://arxiv.org/abs/1411.4280). Adjacent pixels are
    so strongly correlated that dropping single ones has little effect.

    Args:
        p: probability that a channel is dropped.
    """

    description = "spatial dropout"
    spatial = True


class StochasticDepth(_Drop):
    """Stochastic depth: random residual branches are skipped, independently for each example.

    Branch l of L is skipped with probability p * l / L in training (Huang et al. 2016, https://arxiv.org/abs/1603.09382, eq.
    4). A branch that is kept is divided by its probability of being kept, so evaluation needs no factor.

    Args:
        p: probability that the last branch is skipped (0.5 in the paper).
    """

    def prepare(self, net: Network) -> Network:
        self.layers = _fill(net, BranchSlot, "stochastic depth (it has no residual branches)", lambda _: DropBranch(0.0, "row"))
        self.begin(0, 0.0)
        return net

    def begin(self, step: int, progress: float) -> None:
        count = len(self.layers)
        _set_probabilities(self.layers, [self.p * (number + 1) / count for number in range(count)])


class BatchNorm(Penalty):
    """Batch normalization of every hidden layer (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167)."""

    stage = Stage.ARCHITECTURE

    def prepare(self, net: Network) -> Network:
        kinds = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
        _fill(net, NormSlot, "batch norm (it may have its own norm layers)", lambda slot: kinds[slot.dims](slot.features))
        return net


class GroupNorm(Penalty):
    """Group normalization of every hidden layer.

    Each example is normalized over groups of channels (Wu & He 2018, https://arxiv.org/abs/1803.08494).

    Args:
        groups: number of groups of channels. A layer whose channels it does not divide gets the next smaller number that does.
            In layers without spatial dimensions a group has at least two units, since one alone would be constant.
    """

    stage = Stage.ARCHITECTURE

    @checked
    def __init__(self, *, groups: Count) -> None:
        super().__init__()
        self.groups = groups

    def prepare(self, net: Network) -> Network:
        description = "group norm (it may have its own norm layers)"
        _fill(net, NormSlot, description, lambda slot: nn.GroupNorm(self._groups(slot), slot.features))
        return net

    def _groups(self, slot: NormSlot) -> int:
        min_size = 1 if slot.dims else 2
        possible = [n for n in range(1, self.groups + 1) if slot.features % n == 0 and slot.features // n >= min_size]
        if not possible:
            raise ValueError(
                f"a layer of {slot.features} unit(s) cannot be normalized within an example. Choose a wider model or "
                "penalty=batch_norm."
            )
        return possible[-1]


class SpectralNorm(Penalty):
    """Spectral normalization: every weight matrix is divided by its largest singular value.

    Uses PyTorch's parametrization (Miyato et al. 2018, https://arxiv.org/abs/1802.05957). A convolution kernel counts as a
    matrix with one row per output channel.

    Args:
        iterations: power iterations per forward pass in training.
    """

    stage = Stage.ARCHITECTURE

    @checked
    def __init__(self, *, iterations: Count = 1) -> None:
        super().__init__()
        self.iterations = iterations

    def prepare(self, net: Network) -> Network:
        layers = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
        if not layers:
            raise ValueError(
                f"{type(net).__name__} has no linear or convolutional layer, so this penalty would have no effect. Remove it "
                "or choose another model."
            )
        for layer in layers:
            spectral_norm(layer, n_power_iterations=self.iterations)
        return net


def _fill(
    net: Network,
    kind: type[S],
    description: str,
    layer: Callable[[S], nn.Module],
    accept: Callable[[S], bool] = lambda slot: True,
) -> list[nn.Module]:
    """Replace the slots of one kind by layers.

    Args:
        net: network, changed in place.
        kind: type of the slots.
        description: name of the layer in the error message.
        layer: function that creates the layer of a slot.
        accept: function that returns True for the slots to fill.

    Returns:
        The new layers, in the order of the network.

    Raises:
        ValueError: the network has no such slot.
    """
    slots = [(name, module) for name, module in net.named_modules() if isinstance(module, kind) and accept(module)]
    if not slots:
        raise ValueError(
            f"{type(net).__name__} has no place for {description}, so this penalty would have no effect. Remove it or choose "
            "another model."
        )
    layers = [layer(slot) for _, slot in slots]
    for (name, _), new in zip(slots, layers, strict=True):
        net.set_submodule(name, new)
    return layers


def _set_probabilities(layers: list[nn.Module], probabilities: list[float]) -> None:
    for layer, p in zip(layers, probabilities, strict=True):
        layer.p = p  # type: ignore[assignment]
