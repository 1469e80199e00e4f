"""Tests of the networks for images and tables: shapes, parameters, initialization and slots."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from temper.models import CNN, MLP, Normalize, PreActResNet18, ResNetTabular, WideResNet
from temper.models.network import BranchSlot, DropoutSlot
from temper.penalties import Penalty, SpatialDropout, StochasticDepth
from tests.conftest import composed

IMAGE = {"classes": 10, "mean": [0.5], "std": [0.25]}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (1, 7, 9)])
@pytest.mark.parametrize("model", [CNN, MLP, PreActResNet18, WideResNet])
def test_logits_for_images_of_any_size(model: type, shape: tuple[int, ...]) -> None:
    width = {} if model is MLP else {"width": 2}
    assert model(shape=shape, **IMAGE, **width)(torch.rand(3, *shape)).shape == (3, 10)


# Counted in the code of Rice et al. 2020 and, for wide ResNets, in that of TRADES and RobustBench.
@pytest.mark.parametrize(
    ("model", "classes", "parameters"),
    [
        ("preact_resnet18", 10, 11_172_170),
        ("wide_resnet_28_10", 10, 36_479_194),
        ("wide_resnet_28_10", 100, 36_536_884),
        ("wide_resnet_34_10", 10, 46_160_474),
    ],
)
def test_networks_have_as_many_parameters_as_in_the_literature(model: str, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        net = composed("data=cifar10", f"data.classes={classes}", f"model={model}").model.build()
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def published_logits(net: WideResNet, x: Tensor, blocks: int) -> Tensor:
    """Compute the logits of a WRN in train mode as in the authors' functional code (szagoruyko/wide-residual-networks)."""
    parameters = iter(net.parameters())

    def activate(z: Tensor) -> Tensor:
        return F.relu(F.batch_norm(z, None, None, next(parameters), next(parameters), training=True))

    z = F.conv2d((x - 0.5) / 0.25, next(parameters), padding=1)
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            first = activate(z)
            second = F.conv2d(first, next(parameters), padding=1, stride=stride)
            residual = F.conv2d(activate(second), next(parameters), padding=1)
            z = residual + (F.conv2d(first, next(parameters), stride=stride) if block == 0 else z)
    pooled = F.avg_pool2d(activate(z), z.shape[-1]).flatten(1)
    return F.linear(pooled, next(parameters), next(parameters))


def test_a_wide_resnet_equals_the_published_code() -> None:
    torch.manual_seed(0)
    net = WideResNet(shape=(3, 32, 32), classes=10, mean=[0.5] * 3, std=[0.25] * 3, depth=16, width=2)
    x = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(net(x), published_logits(net, x, blocks=2))
    for parameter in net.parameters():
        if parameter.ndim == 4:
            outputs, _, rows, columns = parameter.shape
            assert float(parameter.detach().std()) == pytest.approx((2 / (outputs * rows * columns)) ** 0.5, rel=0.15)


@pytest.mark.parametrize("penalty", [SpatialDropout(p=0.5), StochasticDepth(p=0.5)])
def test_a_wide_resnet_has_slots_for_penalties_in_every_block(penalty: Penalty) -> None:
    net = WideResNet(shape=(3, 8, 8), classes=10, mean=[0.5] * 3, std=[0.25] * 3, depth=16, width=1)
    assert len(penalty.prepare(net).train()(torch.rand(4, 3, 8, 8))) == 4
    assert len(penalty.layers) == 6  # type: ignore[arg-type]


@pytest.mark.parametrize("depth", [4, 30])
def test_an_invalid_depth_of_a_wide_resnet_raises(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth: should be 6n .* not {depth}"):
        WideResNet(shape=(3, 8, 8), classes=10, mean=[0.5] * 3, std=[0.25] * 3, depth=depth, width=1)


def test_normalization_is_a_layer_without_parameters() -> None:
    normalize = Normalize([0.5, 0.1], [0.25, 2.0], dims=3)
    x = torch.rand(4, 2, 3, 3)
    expected = torch.stack([(x[:, 0] - 0.5) / 0.25, (x[:, 1] - 0.1) / 2], dim=1)
    torch.testing.assert_close(normalize(x), expected)
    assert not list(normalize.parameters()) and not normalize.state_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"width": 0}, "width"), ({"width": "wide"}, "width"), ({"shape": (8,)}, "images"), ({"std": [0.0]}, "positive")],
)
def test_errors_name_the_wrong_argument(arguments: dict[str, object], message: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=message):
        CNN(**({"shape": (1, 8, 8)} | IMAGE | arguments))  # type: ignore[arg-type]


def test_resnet_tabular_has_the_expected_parameters_and_slots() -> None:
    net = ResNetTabular(shape=(7,), classes=3, mean=[0.0], std=[1.0], width=16, hidden=32, blocks=2)
    assert net(torch.randn(5, 7)).shape == (5, 3)
    block = 2 * 16 + (16 * 32 + 32) + (32 * 16 + 16)
    assert sum(parameter.numel() for parameter in net.parameters()) == (7 * 16 + 16) + 2 * block + 2 * 16 + (16 * 3 + 3)
    assert [sum(isinstance(m, slot) for m in net.modules()) for slot in (DropoutSlot, BranchSlot)] == [4, 2]
    with pytest.raises(ValueError, match="rows of features"):
        ResNetTabular(shape=(1, 8, 8), classes=3, mean=[0.0], std=[1.0])
