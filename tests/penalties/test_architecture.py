"""Tests of the penalties that are layers: their positions in the network and their outputs."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from temper.data import Batch
from temper.models import Network, PreActResNet18, named_weights
from temper.models.architectures.preact_resnet import Block
from temper.penalties import (
    BatchNorm,
    Dropout,
    Dynamic,
    GroupNorm,
    Penalties,
    Penalty,
    SpatialDropout,
    SpectralNorm,
    StochasticDepth,
    Weighted,
)
from tests.conftest import Linear, small_net
from tests.penalties.conftest import images, mlp


def resnet(width: int = 2) -> PreActResNet18:
    torch.manual_seed(0)
    return PreActResNet18(shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.4], width=width)


def outputs(net: nn.Module, kind: type[nn.Module], x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the inputs and outputs of every layer of one kind."""
    passed: list[tuple[Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda module, inputs, output: passed.append((inputs[0], output)))
        for module in net.modules()
        if isinstance(module, kind)
    ]
    net(x)
    for handle in handles:
        handle.remove()
    return passed


def test_layers_replace_their_slots() -> None:
    net = Dropout(p=0.3).prepare(BatchNorm().prepare(small_net()))
    kinds = [type(module) for module in net.modules()]
    assert kinds.count(nn.Dropout) == 2 and kinds.count(nn.BatchNorm2d) == 2 and kinds.count(nn.BatchNorm1d) == 1
    assert net(torch.rand(3, 1, 8, 8)).shape == (3, 10)


def test_dropout_and_spatial_dropout_fill_different_slots() -> None:
    net = SpatialDropout(p=0.3).prepare(Dropout(p=0.3).prepare(small_net()))
    kinds = [type(module) for module in net.modules()]
    assert kinds.count(nn.Dropout) == 2 and kinds.count(nn.Dropout2d) == 2
    wide = SpatialDropout(p=0.3).prepare(resnet())
    assert [type(module) for module in wide.modules()].count(nn.Dropout2d) == 8


@pytest.mark.parametrize(
    "penalties",
    [
        (Dropout(p=0.3), BatchNorm()),
        (SpatialDropout(p=0.3), GroupNorm(groups=4)),
    ],
)
def test_prepare_draws_no_randomness(penalties: tuple[Penalty, ...]) -> None:
    """Cells of one seed share their initial weights."""
    prepared: Network = small_net()
    for penalty in penalties:
        prepared = penalty.prepare(prepared)
    for (_, weight), (_, plain) in zip(named_weights(prepared), named_weights(small_net()), strict=True):
        assert torch.equal(weight, plain)


def test_dropout_scales_the_remaining_units() -> None:
    net = Dropout(p=0.25).prepare(mlp(hidden=(200,)))
    ((entered, left),) = outputs(net.train(), nn.Dropout, images(200).x)
    dropped = left == 0
    alive = entered != 0
    torch.testing.assert_close(left[~dropped], entered[~dropped] / 0.75)
    assert (dropped & alive).sum() / alive.sum() == pytest.approx(0.25, abs=0.02)
    x = images().x
    assert torch.equal(net.eval()(x), mlp(hidden=(200,)).eval()(x))


def test_spatial_dropout_drops_whole_channels() -> None:
    net = SpatialDropout(p=0.5).prepare(small_net())
    for entered, left in outputs(net.train(), nn.Dropout2d, images(64).x):
        gone = (left == 0).flatten(2).all(2)
        assert torch.equal(left[~gone], entered[~gone] / 0.5)
        alive = entered.flatten(2).amax(2) > 0
        assert (gone & alive).sum() / alive.sum() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("penalty", [SpatialDropout(p=0.1), StochasticDepth(p=0.5)])
def test_a_network_without_slots_is_refused(penalty: Penalty) -> None:
    with pytest.raises(ValueError, match=r"MLP has no place for .*, so this penalty would have no effect"):
        penalty.prepare(mlp())


def test_a_network_with_norm_layers_is_refused() -> None:
    for penalty in (BatchNorm(), GroupNorm(groups=2)):
        with pytest.raises(ValueError, match="may have its own norm layers"):
            penalty.prepare(resnet())


def test_stochastic_depth_increases_with_depth() -> None:
    penalty = StochasticDepth(p=0.4)
    penalty.prepare(resnet())
    assert [layer.p for layer in penalty.layers] == pytest.approx([0.4 * number / 8 for number in range(1, 9)])


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_a_branch_is_skipped_or_scaled_by_its_keep_probability(p: float) -> None:
    net = StochasticDepth(p=p).prepare(resnet()).train()
    block = [module for module in net.modules() if isinstance(module, Block)][-1]
    x = torch.rand(64, 16, 1, 1)
    with torch.no_grad():
        torch.manual_seed(0)
        out = block(x) - x_shortcut(block, x)
        branch = block.conv2(torch.relu(block.norm2(block.conv1(torch.relu(block.norm1(x))))))
    gone = (out.abs() < 1e-6).flatten(1).all(1)
    if p == 1:
        assert gone.all()
    else:
        assert 0.2 < gone.float().mean() < 0.8
        torch.testing.assert_close(out[~gone], branch[~gone] / (1 - p), atol=1e-5, rtol=1e-4)


def x_shortcut(block: Block, x: Tensor) -> Tensor:
    if block.shortcut is None:
        return x
    shortcut: Tensor = block.shortcut(torch.relu(block.norm1(x)))
    return shortcut


def test_no_branch_is_skipped_in_evaluation() -> None:
    x = images().x
    assert torch.equal(StochasticDepth(p=0.9).prepare(resnet()).eval()(x), resnet().eval()(x))


@pytest.mark.parametrize(
    ("penalty", "net"), [(Dropout(p=0.4), mlp), (SpatialDropout(p=0.4), small_net), (StochasticDepth(p=0.4), resnet)]
)
def test_probabilities_follow_a_schedule(penalty: Penalty, net: Callable[[], Network]) -> None:
    penalties = Penalties({"layer": Weighted(penalty, 1), "dynamic": Weighted(Dynamic(first=0, last=1), 1)})
    penalties.prepare(net())
    layers: list[nn.Module] = penalty.layers  # type: ignore[assignment]
    for step, (done, factor) in enumerate([(0.0, 0.0), (0.5, 0.5), (0.5, 0.5), (1.0, 1.0), (0.25, 0.25)]):
        # The factor is computed at the beginning of a step; layers apply it in the same step or in the next one.
        for again in (0, 1):
            penalties.begin(step, done, (0, step, again))
        depths = [(number + 1) / len(layers) for number in range(len(layers))]
        scales = depths if isinstance(penalty, StochasticDepth) else [1.0] * len(layers)
        assert [layer.p for layer in layers] == pytest.approx([0.4 * factor * scale for scale in scales])


@pytest.mark.parametrize("penalty", [Dropout(p=0.4), SpatialDropout(p=0.4), StochasticDepth(p=0.4)])
def test_a_schedule_acts_in_the_same_step(penalty: Penalty) -> None:
    penalties = Penalties({"layer": Weighted(penalty, 1), "dynamic": Weighted(Dynamic(first=0, last=1), 1)})
    penalties.prepare(resnet())
    penalties.begin(0, 0.0, (0, 0))
    layers: list[nn.Module] = penalty.layers  # type: ignore[assignment]
    assert [layer.p for layer in layers] == [0.0] * len(layers)


def test_steering_is_limited_to_the_largest_magnitude() -> None:
    penalty = Dropout(p=0.5)
    penalties = Penalties({"dropout": Weighted(penalty, 1)})
    penalties.prepare(mlp())
    penalties.steer("dropout", 10)
    assert penalty.p == 0.95


def test_batch_norm_normalizes_every_hidden_layer() -> None:
    net = BatchNorm().prepare(small_net()).train()
    for kind, dims in ((nn.BatchNorm2d, (0, 2, 3)), (nn.BatchNorm1d, (0,))):
        layers = outputs(net, kind, images(64).x)
        assert len(layers) == len(dims) // 3 + 1
        for entered, left in layers:
            mean, variance = entered.mean(dims, keepdim=True), entered.var(dims, unbiased=False, keepdim=True)
            torch.testing.assert_close(left, (entered - mean) / (variance + 1e-5).sqrt(), atol=1e-4, rtol=1e-4)


def test_group_norm_is_independent_of_other_examples() -> None:
    net = GroupNorm(groups=8).prepare(small_net()).train()
    groups = [module.num_groups for module in net.modules() if isinstance(module, nn.GroupNorm)]
    assert groups == [4, 8, 8]  # 4, 8 and 16 features
    x = images(6).x
    together, alone = net(x), torch.cat([net(row[None]) for row in x])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(net.eval()(x), together, atol=1e-6, rtol=1e-6)


def test_spectral_norm_of_every_layer_is_1(batch: Batch) -> None:
    net = SpectralNorm(iterations=50).prepare(small_net()).train()
    for _ in range(5):
        net(batch.x)
    layers = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert len(layers) == 4
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)
    # Divided by a number, and otherwise unchanged.
    for layer, plain in zip(layers, (m for m in small_net().modules() if isinstance(m, nn.Linear | nn.Conv2d)), strict=True):
        ratio = plain.weight / layer.weight
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), atol=1e-4, rtol=1e-4)


def test_spectral_norm_needs_layers() -> None:
    with pytest.raises(ValueError, match="no linear or convolutional layer"):
        SpectralNorm().prepare(Linear(torch.ones(3)))


def test_combined_layers_have_finite_gradients() -> None:
    batch = images()
    penalties = Penalties(
        {
            "batch_norm": Weighted(BatchNorm(), 1),
            "dropout": Weighted(Dropout(p=0.1), 1),
            "spatial_dropout": Weighted(SpatialDropout(p=0.1), 1),
            "spectral_norm": Weighted(SpectralNorm(), 1),
        }
    )
    net = penalties.prepare(small_net()).train()
    nn.functional.cross_entropy(net(batch.x), batch.y).backward()
    for parameter in itertools.chain(net.parameters()):
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all()


def test_group_norm_reduces_groups_that_do_not_divide_the_channels() -> None:
    net = GroupNorm(groups=6).prepare(small_net())
    assert [module.num_groups for module in net.modules() if isinstance(module, nn.GroupNorm)] == [4, 4, 4]
    net = GroupNorm(groups=64).prepare(small_net())
    assert [module.num_groups for module in net.modules() if isinstance(module, nn.GroupNorm)] == [4, 8, 8]


def test_group_norm_of_a_single_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be normalized within an example"):
        GroupNorm(groups=4).prepare(mlp(hidden=(1,)))
