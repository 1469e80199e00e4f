import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from temper.config.instantiate import build
from temper.models import CNN, MLP, Normalize, PreActResNet18, ResNetTabular, WideResNet
from temper.models.network import BranchSlot, DropoutSlot
from temper.penalties import Penalty, SpatialDropout, StochasticDepth
from temper.training.modules import EXECUTION
from tests.conftest import composed

IMAGE = {"classes": 10, "mean": [0.5], "std": [0.25]}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (1, 7, 9)])
@pytest.mark.parametrize("model", [CNN, MLP, PreActResNet18, WideResNet])
def test_logits_for_any_image(model: type, shape: tuple[int, ...]) -> None:
    width = {} if model is MLP else {"width": 2}
    assert model(shape=shape, **IMAGE, **width)(torch.rand(3, *shape)).shape == (3, 10)


# As counted in Rice et al. 2020's code and, for wide ones, in that of TRADES and RobustBench.
@pytest.mark.parametrize(
    ("model", "classes", "parameters"),
    [
        ("preact_resnet18", 10, 11_172_170),
        ("wide_resnet_28_10", 10, 36_479_194),
        ("wide_resnet_28_10", 100, 36_536_884),
        ("wide_resnet_34_10", 10, 46_160_474),
    ],
)
def test_networks_have_the_parameters_of_the_literature(model: str, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        net = build(composed("data=cifar10", f"data.classes={classes}", f"model={model}"), "model", without=EXECUTION)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def as_published(net: WideResNet, x: Tensor, blocks: int) -> Tensor:
    """Logits of a WRN in training, as the authors' functional code takes them (szagoruyko/wide-residual-networks)."""
    taken = iter(net.parameters())

    def activate(z: Tensor) -> Tensor:
        return F.relu(F.batch_norm(z, None, None, next(taken), next(taken), training=True))

    z = F.conv2d((x - 0.5) / 0.25, next(taken), padding=1)
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            first = activate(z)
            second = F.conv2d(first, next(taken), padding=1, stride=stride)
            residual = F.conv2d(activate(second), next(taken), padding=1)
            z = residual + (F.conv2d(first, next(taken), stride=stride) if block == 0 else z)
    pooled = F.avg_pool2d(activate(z), z.shape[-1]).flatten(1)
    return F.linear(pooled, next(taken), next(taken))


def test_a_wide_resnet_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    net = WideResNet(shape=(3, 32, 32), classes=10, mean=[0.5] * 3, std=[0.25] * 3, depth=16, width=2)
    x = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(net(x), as_published(net, x, blocks=2))
    for parameter in net.parameters():
        if parameter.ndim == 4:
            outputs, _, rows, columns = parameter.shape
            assert float(parameter.detach().std()) == pytest.approx((2 / (outputs * rows * columns)) ** 0.5, rel=0.15)


@pytest.mark.parametrize("penalty", [SpatialDropout(p=0.5), StochasticDepth(p=0.5)])
def test_a_wide_resnet_has_a_place_for_penalties_in_every_block(penalty: Penalty) -> None:
    net = WideResNet(shape=(3, 8, 8), classes=10, mean=[0.5] * 3, std=[0.25] * 3, depth=16, width=1)
    assert len(penalty.prepare(net).train()(torch.rand(4, 3, 8, 8))) == 4
    assert len(penalty.layers) == 6  # type: ignore[arg-type]


@pytest.mark.parametrize("depth", [4, 30])
def test_depths_that_no_wide_resnet_has(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth: should be 6n .* not {depth}"):
        WideResNet(shape=(3, 8, 8), classes=10, mean=[0.5] * 3, std=[0.25] * 3, depth=depth, width=1)


def test_normalization_is_inside_and_not_trained() -> None:
    normalize = Normalize([0.5, 0.1], [0.25, 2.0], dims=3)
    x = torch.rand(4, 2, 3, 3)
    expected = torch.stack([(x[:, 0] - 0.5) / 0.25, (x[:, 1] - 0.1) / 2], dim=1)
    torch.testing.assert_close(normalize(x), expected)
    assert not list(normalize.parameters()) and not normalize.state_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"width": 0}, "width"), ({"width": "wide"}, "width"), ({"shape": (8,)}, "images"), ({"std": [0.0]}, "positive")],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=message):
        CNN(**({"shape": (1, 8, 8)} | IMAGE | arguments))  # type: ignore[arg-type]


def test_the_residual_network_for_tables_has_its_layers_and_its_slots() -> None:
    net = ResNetTabular(shape=(7,), classes=3, mean=[0.0], std=[1.0], width=16, hidden=32, blocks=2)
    assert net(torch.randn(5, 7)).shape == (5, 3)
    block = 2 * 16 + (16 * 32 + 32) + (32 * 16 + 16)
    assert sum(parameter.numel() for parameter in net.parameters()) == (7 * 16 + 16) + 2 * block + 2 * 16 + (16 * 3 + 3)
    assert [sum(isinstance(m, slot) for m in net.modules()) for slot in (DropoutSlot, BranchSlot)] == [4, 2]
    with pytest.raises(ValueError, match="rows of features"):
        ResNetTabular(shape=(1, 8, 8), classes=3, mean=[0.0], std=[1.0])
