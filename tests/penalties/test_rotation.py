"""Tests of rotation prediction: its loss, and attacks that maximize both losses."""

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


def example_losses(rotation: Rotation, net: torch.nn.Module, x: Tensor) -> Tensor:
    """Compute the loss example by example."""
    losses = []
    for image, turn in zip(x, turns(rotation), strict=True):
        turned = image
        for _ in range(int(turn)):
            turned = turned.transpose(1, 2).flip(1)  # a counterclockwise quarter turn
        entered: list[Tensor] = []
        handle = last_linear(net).register_forward_pre_hook(lambda module, inputs, entered=entered: entered.append(inputs[0]))
        net(turned[None])
        handle.remove()
        losses.append(F.cross_entropy(rotation.head(entered[0]), turn[None]))
    return torch.stack(losses)


@pytest.mark.parametrize("net", [small_net(), mlp(hidden=(7, 6))], ids=["cnn", "mlp"])
def test_rotation_losses_match_a_reference_loop(net: torch.nn.Module) -> None:
    batch = images(12)
    rotation = prepared(net, batch)
    expected = example_losses(rotation, net, batch.x)
    torch.testing.assert_close(rotation.losses(net, batch.x), expected)  # type: ignore[arg-type]
    torch.testing.assert_close(rotation.term(net, batch, batch.x), expected.mean())  # type: ignore[arg-type]


def test_rotations_applied_four_times_are_the_identity() -> None:
    net, batch = small_net(), images(12)
    rotation = prepared(net, batch)
    inputs_seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda module, inputs: inputs_seen.append(inputs[0]))
    x = batch.x
    for _ in range(4):
        rotation.losses(net, x)
        x = inputs_seen[-1]
    # Four times any number of quarter turns is the identity.
    assert torch.equal(x, batch.x) and not torch.equal(inputs_seen[0], batch.x)


def test_all_rotations_are_equally_likely() -> None:
    rotation = prepared(small_net(), images(2000))
    fractions = turns(rotation).bincount(minlength=4) / 2000
    torch.testing.assert_close(fractions, torch.full((4,), 0.25), atol=0.04, rtol=0)


def test_features_are_the_inputs_of_the_last_layer() -> None:
    net, batch = small_net(), images()
    entered = features(net, batch.x)
    torch.testing.assert_close(last_linear(net)(entered), net(batch.x))
    assert not last_linear(net)._forward_pre_hooks


@pytest.mark.parametrize("soft", [False, True])
def test_the_attack_follows_the_gradient_of_both_losses(soft: bool) -> None:
    net, batch = small_net(), images(8)
    if soft:
        batch = replace(batch, target=torch.full((8, 10), 0.1))
    rotation = prepared(net, batch)
    joint = rotation.attacked_network(net, batch, 0.7)
    z = batch.x.clone().requires_grad_(True)
    logits = joint(z)
    assert torch.equal(logits, net(batch.x))
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, batch.target, reduction="sum"), z)
    both = F.cross_entropy(net(z), batch.target, reduction="sum") + 0.7 * rotation.losses(net, z).sum()
    (expected,) = torch.autograd.grad(both, z)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        assert torch.equal(joint(z), logits)


def test_one_step_of_an_attack_increases_the_sum_of_both_losses() -> None:
    net, batch = small_net(), images(8)
    rotation = prepared(net, batch)
    attack = PGD(threat=THREAT, steps=1, start="zero", step_size="1 eps")
    x_adv = attack.perturb(rotation.attacked_network(net, batch, 0.7), batch)
    z = batch.x.clone().requires_grad_(True)
    both = F.cross_entropy(net(z), batch.target, reduction="sum") + 0.7 * rotation.losses(net, z).sum()
    (gradient,) = torch.autograd.grad(both, z)
    expected = (batch.x + 0.1 * gradient.sign()).clamp(0, 1)
    clear_sign = gradient.abs() > 1e-5
    torch.testing.assert_close(x_adv[clear_sign], expected[clear_sign], atol=1e-6, rtol=1e-5)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in rotation.parameters())


@pytest.mark.parametrize(
    "attack", [TRADES(threat=THREAT, steps=2), MART(threat=THREAT, steps=2), PGD(threat=THREAT, steps=3, keep="worst")]
)
def test_the_rotation_loss_is_added_to_any_attack_loss(attack: PGD | TRADES | MART) -> None:
    net, batch = small_net(), images(8)
    rotation = prepared(net, batch)
    torch.manual_seed(0)
    joined = attack.perturb(rotation.attacked_network(net, batch, 100.0), batch)
    torch.manual_seed(0)
    alone = attack.perturb(net, batch)
    assert (joined - batch.x).abs().max() <= 0.1
    assert rotation.losses(net, joined).mean() > rotation.losses(net, alone).mean()


def test_rotation_losses_of_several_points_per_example() -> None:
    net, batch = small_net(), images(6)
    rotation = prepared(net, batch)
    attack = MultiNorm(linf=THREAT, l2=L2(eps=0.5), strategy="average", steps=1)
    x_adv = attack.perturb(rotation.attacked_network(net, batch, 0.5), batch)
    parts = [example_losses(rotation, net, part) for part in x_adv.split(6)]
    assert len(parts) == 2
    torch.testing.assert_close(rotation.losses(net, x_adv), torch.cat(parts))


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 8 x 6 change their shape by a quarter turn"):
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
    reference = copy.deepcopy(module.net)
    points: list[Tensor] = []
    perturb = module.attack.perturb
    module.attack.perturb = lambda net, batch: points.append(perturb(net, batch)) or points[-1]  # type: ignore[method-assign,func-returns-value]
    loss = module.training_step(batch, 0)
    x_adv = points[0]
    expected = F.cross_entropy(reference(x_adv), batch.y) + 0.5 * example_losses(rotation, reference, x_adv).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    (gradient,) = torch.autograd.grad(expected, [rotation.head.weight])
    assert rotation.head.weight.grad is not None
    torch.testing.assert_close(rotation.head.weight.grad, gradient, atol=1e-6, rtol=1e-4)
    assert {id(p) for p in rotation.head.parameters()} <= {id(p) for p in module.parameters()}


def test_rotation_losses_at_perturbed_weights() -> None:
    net, batch = small_net(), images(6)
    rotation = prepared(net, batch)
    shift = {name: 0.1 * torch.randn_like(parameter) for name, parameter in net.named_parameters()}
    shifted = copy.deepcopy(net)
    with torch.no_grad():
        for name, parameter in shifted.named_parameters():
            parameter.add_(shift[name])
    torch.testing.assert_close(rotation.losses(StepNetwork(net, shift), batch.x), rotation.losses(shifted, batch.x))


def test_the_attack_does_not_update_running_statistics() -> None:
    net, batch = normed_net().train(), images(8)
    rotation = prepared(net, batch)
    before = {name: value.clone() for name, value in net.named_buffers()}
    for mode in ("eval", "train"):
        PGD(threat=THREAT, steps=1, mode=mode).perturb(rotation.attacked_network(net, batch, 0.5), batch)
        assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())


def test_features_of_cached_points() -> None:
    net, batch = small_net(), images(6)
    step = StepNetwork(net)
    step(batch.x)
    torch.testing.assert_close(features(step, batch.x), features(net, batch.x))
