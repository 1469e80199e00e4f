"""Each penalty against its closed form, and all of them together."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from temper.data import Batch
from temper.models import MLP, Network, PreActResNet18, named_weights
from temper.penalties import L1, L2, BatchNorm, Dropout, LabelSmoothing, Penalties, Penalty, WeightDecay, Weighted
from tests.conftest import Linear, small_net


def total(penalties: Penalties, net: Network, batch: Batch) -> Tensor:
    found = penalties.weighted(penalties.terms(net, batch, batch.x))
    assert found is not None
    return found


MLP_SETTINGS = {"shape": (1, 8, 8), "classes": 10, "mean": [0.3], "std": [0.4]}


def test_l1_and_l2_on_a_linear_model(batch: Batch) -> None:
    net = Linear(torch.tensor([[[1.0, -2.0], [3.0, 0.0]]]), bias=7.0)
    assert L1().term(net, batch, batch.x).item() == 6
    assert L2().term(net, batch, batch.x).item() == 14 / 2


def test_weights_are_told_from_norm_layers_and_biases_by_type() -> None:
    net = BatchNorm().prepare(MLP(**MLP_SETTINGS, hidden=(5,)))  # type: ignore[arg-type]
    assert [name for name, _ in named_weights(net)] == ["layers.2.weight", "layers.6.weight"]
    # Norm layers in a shortcut or a Sequential have no "norm" or "bn" in their name.
    resnet = PreActResNet18(shape=(3, 32, 32), classes=10, mean=[0.5] * 3, std=[0.5] * 3, width=4)
    assert all(weight.ndim > 1 for _, weight in named_weights(resnet))
    assert len(list(named_weights(resnet))) == 1 + 16 + 3 + 1


def test_the_l2_weight_is_the_decay_of_sgd(batch: Batch) -> None:
    nets = [small_net(), small_net()]
    decayed = torch.optim.SGD(nets[0].parameters(), lr=0.1, momentum=0.9)
    weights = {id(weight) for _, weight in named_weights(nets[1])}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in nets[1].parameters() if id(p) in weights], "weight_decay": 0.01},
        {"params": [p for p in nets[1].parameters() if id(p) not in weights]},
    ]
    torchs = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    for _ in range(5):
        for net, optimizer, weight in zip(nets, (decayed, torchs), (0.01, 0.0), strict=True):
            optimizer.zero_grad()
            (nn.functional.cross_entropy(net(batch.x), batch.y) + weight * L2().term(net, batch, batch.x)).backward()
            optimizer.step()
    for ours, theirs in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_decoupled_decay_with_adam_is_adamw(batch: Batch) -> None:
    nets = [small_net(), small_net()]
    adam = torch.optim.Adam(nets[0].parameters(), lr=0.01)
    weights = {id(weight) for _, weight in named_weights(nets[1])}
    groups = [
        {"params": [p for p in nets[1].parameters() if id(p) in weights], "weight_decay": 0.1},
        {"params": [p for p in nets[1].parameters() if id(p) not in weights], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.01)
    penalty = WeightDecay(decay=0.1)
    for _ in range(5):
        for net, optimizer in zip(nets, (adam, adamw), strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(batch.x), batch.y).backward()
            if optimizer is adam:
                penalty.before_step(net, lr=0.01)
            optimizer.step()
    for ours, theirs in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_smoothed_labels_are_those_of_torch(batch: Batch) -> None:
    logits = torch.randn(32, 10, generator=torch.Generator().manual_seed(0))
    smoothed = LabelSmoothing(smoothing=0.2, classes=10).transform(batch)
    torch.testing.assert_close(
        nn.functional.cross_entropy(logits, smoothed.target),
        nn.functional.cross_entropy(logits, batch.y, label_smoothing=0.2),
    )
    torch.testing.assert_close(smoothed.target.sum(1), torch.ones(32))
    assert torch.equal(smoothed.y, batch.y), "accuracy is still measured against hard labels"
    assert LabelSmoothing(smoothing=0, classes=10).transform(batch) is batch


def test_layers_go_into_their_slots() -> None:
    net = Dropout(p=0.3).prepare(BatchNorm().prepare(small_net()))
    kinds = [type(module) for module in net.modules()]
    assert kinds.count(nn.Dropout) == 2 and kinds.count(nn.BatchNorm2d) == 2 and kinds.count(nn.BatchNorm1d) == 1
    assert net(torch.rand(3, 1, 8, 8)).shape == (3, 10)


def test_preparing_draws_no_randomness() -> None:
    """Cells of one seed share their initial weights."""
    prepared = Dropout(p=0.3).prepare(BatchNorm().prepare(small_net()))
    for (_, ours), (_, plain) in zip(named_weights(prepared), named_weights(small_net()), strict=True):
        assert torch.equal(ours, plain)


def test_a_penalty_that_finds_no_place_says_so() -> None:
    resnet = PreActResNet18(shape=(3, 32, 32), classes=10, mean=[0.5] * 3, std=[0.5] * 3, width=2)
    with pytest.raises(ValueError, match=r"penalty.batch_norm: PreActResNet18 has no place .* no effect"):
        Penalties({"batch_norm": Weighted(BatchNorm(), 1)}).prepare(resnet)


def test_typed_in_another_order_they_act_the_same(batch: Batch) -> None:
    members = {
        "l2": Weighted(L2(), 0.3),
        "label_smoothing": Weighted(LabelSmoothing(smoothing=0.1, classes=10), 1),
        "l1": Weighted(L1(), 0.1),
        "dropout": Weighted(Dropout(p=0.5), 1),
    }
    one, other = Penalties(members), Penalties(dict(reversed(members.items())))
    assert one.names == other.names == ["dropout", "label_smoothing", "l1", "l2"]
    net = small_net()
    assert torch.equal(total(one, net, batch), total(other, net, batch))
    expected = 0.1 * L1().term(net, batch, batch.x) + 0.3 * L2().term(net, batch, batch.x)
    assert torch.equal(total(one, net, batch), expected)


def test_weight_zero_is_not_even_evaluated(batch: Batch) -> None:
    class Costly(Penalty):
        def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
            raise AssertionError("evaluated")

    assert Penalties({"costly": Weighted(Costly(), 0)}).terms(small_net(), batch, batch.x) == {}


def test_a_penalty_with_weights_of_its_own_is_part_of_the_module() -> None:
    class Head(Penalty):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 3)

    penalties = Penalties({"head": Weighted(Head(), 1)})
    assert len(list(penalties.parameters())) == 2
    assert copy.deepcopy(penalties).state_dict().keys() == penalties.state_dict().keys()
