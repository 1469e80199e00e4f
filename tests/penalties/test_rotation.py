"""The second task: its loss by hand, and the attack that climbs both losses."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks import L2, MART, PGD, TRADES, Linf, MultiNorm
from temper.data import Batch
from temper.models import StepNetwork, last_linear
from temper.penalties import Penalties, Rotation, Weighted
from temper.penalties.rotation import features
from temper.training.modules import build_module
from tests.conftest import small_net
from tests.penalties.conftest import TINY, composed, images, mlp, normed_net

THREAT = Linf(eps=0.1)


def prepared(net: torch.nn.Module, batch: Batch, seed: int = 0) -> Rotation:
    rotation = Rotation()
    rotation.prepare(net)  # type: ignore[arg-type]
    torch.manual_seed(seed)
    assert rotation.transform(batch) is batch
    return rotation


def turns(rotation: Rotation) -> Tensor:
    assert rotation._turns is not None
    return rotation._turns


def by_hand(rotation: Rotation, net: torch.nn.Module, x: Tensor) -> Tensor:
    """Example by example."""
    losses = []
    for image, turn in zip(x, turns(rotation), strict=True):
        turned = image
        for _ in range(int(turn)):
            turned = turned.transpose(1, 2).flip(1)  # a quarter turn against the clock
        entered: list[Tensor] = []
        handle = last_linear(net).register_forward_pre_hook(lambda module, inputs, entered=entered: entered.append(inputs[0]))
        net(turned[None])
        handle.remove()
        losses.append(F.cross_entropy(rotation.head(entered[0]), turn[None]))
    return torch.stack(losses)


@pytest.mark.parametrize("net", [small_net(), mlp(hidden=(7, 6))], ids=["cnn", "mlp"])
def test_the_loss_of_each_image(net: torch.nn.Module) -> None:
    batch = images(12)
    rotation = prepared(net, batch)
    expected = by_hand(rotation, net, batch.x)
    torch.testing.assert_close(rotation.losses(net, batch.x), expected)  # type: ignore[arg-type]
    torch.testing.assert_close(rotation.term(net, batch, batch.x), expected.mean())  # type: ignore[arg-type]


def test_four_quarter_turns_give_the_image_back() -> None:
    net, batch = small_net(), images(12)
    rotation = prepared(net, batch)
    seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = batch.x
    for _ in range(4):
        rotation.losses(net, x)
        x = seen[-1]
    # Whatever it was turned by, four times that is nothing.
    assert torch.equal(x, batch.x) and not torch.equal(seen[0], batch.x)


def test_all_turns_are_as_likely() -> None:
    rotation = prepared(small_net(), images(2000))
    shares = turns(rotation).bincount(minlength=4) / 2000
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.04, rtol=0)


def test_features_are_what_enters_the_last_layer() -> None:
    net, batch = small_net(), images()
    entered = features(net, batch.x)
    torch.testing.assert_close(last_linear(net)(entered), net(batch.x))
    assert not last_linear(net)._forward_pre_hooks


@pytest.mark.parametrize("soft", [False, True])
def test_the_attack_climbs_the_sum_of_both_losses(soft: bool) -> None:
    net, batch = small_net(), images(8)
    if soft:
        batch = replace(batch, target=torch.full((8, 10), 0.1))
    rotation = prepared(net, batch)
    joint = rotation.exposed(net, batch, 0.7)
    z = batch.x.clone().requires_grad_(True)
    logits = joint(z)
    assert torch.equal(logits, net(batch.x))
    (found,) = torch.autograd.grad(F.cross_entropy(logits, batch.target, reduction="sum"), z)
    both = F.cross_entropy(net(z), batch.target, reduction="sum") + 0.7 * rotation.losses(net, z).sum()
    (expected,) = torch.autograd.grad(both, z)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        assert torch.equal(joint(z), logits)


def test_one_step_of_an_attack_goes_up_both() -> None:
    net, batch = small_net(), images(8)
    rotation = prepared(net, batch)
    attack = PGD(threat=THREAT, steps=1, start="zero", step_size="1 eps")
    found = attack.perturb(rotation.exposed(net, batch, 0.7), batch)
    z = batch.x.clone().requires_grad_(True)
    both = F.cross_entropy(net(z), batch.target, reduction="sum") + 0.7 * rotation.losses(net, z).sum()
    (gradient,) = torch.autograd.grad(both, z)
    expected = (batch.x + 0.1 * gradient.sign()).clamp(0, 1)
    sure = gradient.abs() > 1e-5
    torch.testing.assert_close(found[sure], expected[sure], atol=1e-6, rtol=1e-5)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in rotation.parameters())


@pytest.mark.parametrize(
    "attack", [TRADES(threat=THREAT, steps=2), MART(threat=THREAT, steps=2), PGD(threat=THREAT, steps=3, keep="worst")]
)
def test_any_loss_of_an_attack_is_joined(attack: PGD | TRADES | MART) -> None:
    net, batch = small_net(), images(8)
    rotation = prepared(net, batch)
    torch.manual_seed(0)
    joined = attack.perturb(rotation.exposed(net, batch, 100.0), batch)
    torch.manual_seed(0)
    alone = attack.perturb(net, batch)
    assert (joined - batch.x).abs().max() <= 0.1
    assert rotation.losses(net, joined).mean() > rotation.losses(net, alone).mean()


def test_several_points_for_each_example() -> None:
    net, batch = small_net(), images(6)
    rotation = prepared(net, batch)
    attack = MultiNorm(linf=THREAT, l2=L2(eps=0.5), strategy="average", steps=1)
    x_adv = attack.perturb(rotation.exposed(net, batch, 0.5), batch)
    parts = [by_hand(rotation, net, part) for part in x_adv.split(6)]
    assert len(parts) == 2
    torch.testing.assert_close(rotation.losses(net, x_adv), torch.cat(parts))


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 8 x 6 do not fit themselves after a quarter turn"):
        Rotation().transform(images(4, (1, 8, 6)))


def test_a_network_without_a_linear_layer_is_refused() -> None:
    penalties = Penalties({"rotation": Weighted(Rotation(), 1)})
    net = small_net()
    net.layers = torch.nn.Sequential(torch.nn.Flatten())
    with pytest.raises(ValueError, match=r"penalty\.rotation: CNN has no linear layer"):
        penalties.prepare(net)


@pytest.mark.usefixtures("_outside_of_a_trainer")
@pytest.mark.parametrize("attack", ["none", "pgd"])
def test_the_head_is_trained_with_the_network(attack: str, batch: Batch) -> None:
    module = build_module(composed("penalty=[rotation]", f"attack={attack}", *TINY))
    rotation = module.penalties.members[0]
    assert isinstance(rotation, Rotation)
    hand = copy.deepcopy(module.net)
    found: list[Tensor] = []
    perturb = module.attack.perturb
    module.attack.perturb = lambda net, batch: found.append(perturb(net, batch)) or found[-1]  # type: ignore[method-assign,func-returns-value]
    loss = module.training_step(batch, 0)
    x_adv = found[0]
    expected = F.cross_entropy(hand(x_adv), batch.y) + 0.5 * by_hand(rotation, hand, x_adv).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    (gradient,) = torch.autograd.grad(expected, [rotation.head.weight])
    assert rotation.head.weight.grad is not None
    torch.testing.assert_close(rotation.head.weight.grad, gradient, atol=1e-6, rtol=1e-4)
    assert {id(p) for p in rotation.head.parameters()} <= {id(p) for p in module.parameters()}


def test_at_displaced_weights_the_features_are_those_of_the_displaced_network() -> None:
    net, batch = small_net(), images(6)
    rotation = prepared(net, batch)
    shift = {name: 0.1 * torch.randn_like(parameter) for name, parameter in net.named_parameters()}
    there = copy.deepcopy(net)
    with torch.no_grad():
        for name, parameter in there.named_parameters():
            parameter.add_(shift[name])
    torch.testing.assert_close(rotation.losses(StepNetwork(net, shift), batch.x), rotation.losses(there, batch.x))


def test_the_attack_moves_no_statistics() -> None:
    net, batch = normed_net().train(), images(8)
    rotation = prepared(net, batch)
    before = {name: value.clone() for name, value in net.named_buffers()}
    for mode in ("eval", "train"):
        PGD(threat=THREAT, steps=1, mode=mode).perturb(rotation.exposed(net, batch, 0.5), batch)
        assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())


def test_points_that_a_step_has_seen_have_features_too() -> None:
    net, batch = small_net(), images(6)
    step = StepNetwork(net)
    step(batch.x)
    torch.testing.assert_close(features(step, batch.x), features(net, batch.x))
