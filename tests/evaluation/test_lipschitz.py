"""Lipschitz bound against explicit matrices and against difference quotients of networks."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from temper.data import DataModule
from temper.evaluation.lipschitz import lipschitz_bound, operator_norm
from temper.models import CNN, MLP, External, Network, Normalize, PreActResNet18
from tests.conftest import Linear, small_net

SHAPE = (1, 8, 8)
# Relative rounding error of a difference quotient in double precision.
ROUNDING = 1e-9


class Chain(Network):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def logits(self, z: Tensor) -> Tensor:
        return self.layers(z)


def bound(net: Network, *shape: int) -> float:
    value = lipschitz_bound(net, shape)
    assert value is not None
    return value


def slope(function: nn.Module, x: Tensor) -> float:
    """Return the spectral norm of the Jacobian at one point, from the explicit matrix."""
    jacobian = torch.func.jacrev(lambda flat: function(flat.reshape(1, *x.shape)).flatten())(x.flatten())
    return float(torch.linalg.svdvals(jacobian.detach())[0])


def scrambled(seed: int, *, norm: bool = False) -> CNN:
    """Return a network whose weights, biases and running statistics are far from their initial values."""
    net = small_net(seed)
    if norm:
        for name, module in list(net.named_modules()):
            if type(module).__name__ == "NormSlot":
                features, dims = module.features, module.dims
                net.set_submodule(name, nn.BatchNorm2d(features) if dims == 2 else nn.BatchNorm1d(features))
    for parameter in net.parameters():
        parameter.data.mul_(1 + torch.rand(parameter.shape)).add_(0.3 * torch.randn(parameter.shape))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean, module.running_var = torch.randn(module.num_features), 0.1 + torch.rand(module.num_features)
    return net.eval()


def norm(weight: Tensor) -> float:
    return float(torch.linalg.svdvals(weight.detach().double())[0])


def test_the_bound_of_one_linear_layer_is_its_largest_singular_value() -> None:
    layer = nn.Linear(12, 5)
    net = Chain(Normalize([0.3], [0.25], dims=1), layer)
    assert bound(net, 12) == pytest.approx(4 * norm(layer.weight), rel=1e-12)


def test_the_bound_of_linear_layers_is_a_product_and_tight_if_they_align() -> None:
    torch.manual_seed(0)
    first, other, aligned = nn.Linear(12, 7), nn.Linear(7, 12), nn.Linear(7, 12)
    aligned.weight.data = first.weight.detach().T
    for second, tight in ((other, False), (aligned, True)):
        net = Chain(first, second)
        limit, whole = bound(net, 12), norm(second.weight @ first.weight)
        assert limit == pytest.approx(norm(first.weight) * norm(second.weight), rel=1e-12)
        assert limit == pytest.approx(whole, rel=1e-6) if tight else limit > 1.05 * whole


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 5, 3, stride=2, padding=1), (2, 8, 8)),
        (nn.Conv2d(3, 2, 3, padding=1, bias=False), (3, 8, 8)),
        (nn.Conv2d(4, 4, 3, stride=2, groups=2, dilation=2), (4, 7, 9)),
        (nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular"), (1, 8, 8)),
        (nn.Conv2d(2, 1, 8), (2, 8, 8)),
        (nn.Conv2d(1, 6, 1), (1, 1, 1)),
        (nn.Conv1d(2, 3, 5, padding="same"), (2, 16)),
        (nn.AvgPool2d(3, 2, 1), (2, 8, 8)),
        (nn.AdaptiveAvgPool2d(1), (3, 8, 8)),
    ],
    ids=str,
)
def test_operator_norm_equals_that_of_the_explicit_matrix(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer = layer.double()
    x = torch.rand(shape, dtype=torch.float64)
    assert operator_norm(layer, x[None]) == pytest.approx(slope(layer, x), rel=1e-10)


def test_a_convolution_of_zeros_has_norm_zero() -> None:
    layer = nn.Conv2d(2, 4, 3).double()
    nn.init.zeros_(layer.weight)
    assert operator_norm(layer, torch.zeros(1, 2, 8, 8, dtype=torch.float64)) == 0


def test_the_norm_of_a_convolution_exceeds_that_of_its_reshaped_kernel() -> None:
    """With weights of one, the kernel as a matrix has norm 3, but the convolution scales a constant image by nearly 9."""
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(layer.weight)
    assert 8.5 < bound(Chain(layer, nn.Flatten()), 1, 28, 28) < 9


@pytest.mark.parametrize("affine", [True, False])
def test_the_bound_of_batch_norm_is_that_of_eval_mode(affine: bool) -> None:
    layer = nn.BatchNorm2d(3, affine=affine)
    layer.running_var = torch.tensor([0.5, 4.0, 1.0])
    if affine:
        layer.weight.data, layer.bias.data = torch.tensor([0.1, -6.0, 1.0]), torch.randn(3)
    assert bound(Chain(layer), 3, 4, 4) == pytest.approx(slope(layer.eval(), torch.rand(3, 4, 4)), rel=1e-5)


def test_the_bound_of_max_pooling_depends_on_the_windows_that_share_an_input() -> None:
    pool = nn.MaxPool2d(3, 2)
    x = torch.zeros(1, 1, 5, 5)
    x[..., 2, 2] = 1  # is in all four windows
    assert bound(Chain(nn.MaxPool2d(2)), 1, 4, 4) == 1
    assert bound(Chain(pool), 1, 5, 5) == float(pool(x).norm()) == 2


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch norm"])
@pytest.mark.parametrize("seed", range(3))
def test_no_difference_quotient_and_no_slope_exceeds_the_bound(seed: int, norm: bool) -> None:
    net = scrambled(seed, norm=norm)
    limit = bound(net, *SHAPE) * (1 + ROUNDING)
    net = net.double()
    x = torch.rand(64, *SHAPE, dtype=torch.float64)
    for scale in (1.0, 1e-3):
        y = x + scale * torch.randn(x.shape, dtype=torch.float64)
        with torch.no_grad():
            ratio = (net(x) - net(y)).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
        assert float(ratio.max()) <= limit
    slopes = [slope(net, point) for point in x[:8]]
    assert limit / 1000 < max(slopes) <= limit


def test_slopes_of_a_trained_network_are_below_the_bound(trained: CNN, digits: DataModule) -> None:
    x, _ = digits.split("test")
    assert max(slope(trained, point) for point in x[:8]) <= bound(trained, *SHAPE)


def test_the_network_is_not_modified(digits: DataModule) -> None:
    net = scrambled(0, norm=True).train()
    net(digits.split("test").x[:8]).sum().backward()
    frozen = net.layers[1]
    frozen.requires_grad_(False).eval()

    def state() -> list[Any]:
        gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
        flags = [p.requires_grad for p in net.parameters()] + [m.training for m in net.modules()]
        return [gradients, flags, {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()]

    before = state()
    bound(net, *SHAPE)
    torch.testing.assert_close(state(), before, rtol=0, atol=0)


def test_the_bound_is_deterministic_and_independent_of_the_mode() -> None:
    net = scrambled(0, norm=True)
    assert len({bound(net.train(mode), *SHAPE) for mode in (True, False, True)}) == 1


def test_the_bound_uses_parametrized_weights() -> None:
    net = MLP(shape=SHAPE, classes=10, mean=[0.0], std=[1.0], hidden=[32])
    for layer in net.layers:
        if isinstance(layer, nn.Linear):
            layer.weight.data *= 7
            spectral_norm(layer, n_power_iterations=50)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert bound(net, *SHAPE) == pytest.approx(1, rel=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 9 * super().forward(x)


class Detour(Chain):
    def logits(self, z: Tensor) -> Tensor:
        return 9 * self.layers(z)


class Lifted(Chain):
    def lift(self, x: Tensor) -> Tensor:
        return 9 * x


@pytest.mark.parametrize(
    "net",
    [
        PreActResNet18(shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.4], width=4),
        External(factory="torch.nn:Flatten", shape=[1, 8, 8], classes=64),
        Linear(torch.ones(1, 1, 8, 8)),
        Chain(nn.GroupNorm(1, 1)),
        Chain(nn.LayerNorm(8)),
        Chain(nn.BatchNorm2d(1, track_running_stats=False)),
        Chain(nn.GELU()),
        Chain(Scaled(8, 8)),
        Detour(nn.Linear(8, 8)),
        Lifted(nn.Linear(8, 8)),
    ],
    ids=lambda net: type(net).__name__ + (str(net.layers) if isinstance(net, Chain) else ""),
)
def test_unknown_layers_have_no_bound(net: Network) -> None:
    assert lipschitz_bound(net, SHAPE) is None


def test_weights_that_are_not_finite_have_no_bound() -> None:
    net = small_net()
    next(net.parameters()).data[0] = math.nan
    assert lipschitz_bound(net, SHAPE) is None
