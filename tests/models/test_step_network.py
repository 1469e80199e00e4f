"""The network as one step sees it: one pass for each point, gradients in its own parameters, statistics that stay."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from temper.models import CNN, Network, StepNetwork, still_statistics
from temper.training.modules import build_module
from tests.conftest import small_net
from tests.penalties.conftest import TERMS, TINY, composed, flat, images, normed_net


class Counted(Network):
    """A network that counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.passes = small_net(), 0

    def logits(self, z: Tensor) -> Tensor:
        self.passes += 1
        logits: Tensor = self.net(z)
        return logits


def displaced(net: CNN, names: tuple[str, ...]) -> tuple[dict[str, Tensor], CNN]:
    """A displacement of some parameters, and a copy of the network that is there."""
    torch.manual_seed(0)
    shift = {name: 0.1 * torch.randn_like(parameter) for name, parameter in net.named_parameters() if name.endswith(names)}
    there = copy.deepcopy(net)
    with torch.no_grad():
        for name, parameter in there.named_parameters():
            parameter.add_(shift.get(name, torch.zeros(())))
    return shift, there


def test_a_point_is_passed_forward_once() -> None:
    counted, x = Counted(), images().x
    step = StepNetwork(counted)
    assert step(x) is step(x) and step.logits(x) is step(x)
    assert counted.passes == 1
    step(x.clone())
    assert counted.passes == 2, "another point, if of the same values"
    moved = x + torch.zeros_like(x, requires_grad=True)
    assert step(moved) is step(moved)
    assert counted.passes == 3


def test_points_that_are_gone_are_not_mistaken_for_others() -> None:
    """Memory that is free again gets the same address."""
    net, x = small_net(), images().x
    step = StepNetwork(net)
    for scale in range(1, 30):
        torch.testing.assert_close(step(x / scale), net(x / scale))


def test_what_was_seen_in_another_mode_is_passed_anew() -> None:
    counted, x = Counted(), images().x
    step = StepNetwork(counted.train())
    step(x)
    with torch.no_grad():
        assert not step(x).requires_grad
    assert counted.passes == 2
    counted.eval()
    step(x)
    assert counted.passes == 3
    counted.train()
    assert step(x).requires_grad and counted.passes == 3


def test_a_leaf_that_wants_a_gradient_is_passed_anew() -> None:
    counted = Counted()
    step = StepNetwork(counted)
    leaf = images().x.requires_grad_(True)
    first, second = step(leaf), step(leaf)
    assert counted.passes == 2 and first is not second
    torch.autograd.grad(first.sum(), leaf)
    torch.autograd.grad(second.sum(), leaf)


@pytest.mark.parametrize("names", [("weight",), ("weight", "bias"), ("layers.1.weight",)])
def test_displaced_weights_give_the_logits_of_a_displaced_copy(names: tuple[str, ...]) -> None:
    net, batch = small_net(), images()
    shift, there = displaced(net, names)
    before = flat(net).clone()
    step = StepNetwork(net, shift)
    torch.testing.assert_close(step(batch.x), there(batch.x))
    F.cross_entropy(step(batch.x), batch.y).backward()
    F.cross_entropy(there(batch.x), batch.y).backward()
    for own, other in zip(net.parameters(), there.parameters(), strict=True):
        assert own.grad is not None and other.grad is not None
        torch.testing.assert_close(own.grad, other.grad)
    assert torch.equal(flat(net), before)


def test_gradients_land_in_its_own_parameters() -> None:
    net, plain, batch = small_net(), small_net(), images()
    F.cross_entropy(StepNetwork(net)(batch.x), batch.y).backward()
    F.cross_entropy(plain(batch.x), batch.y).backward()
    for own, other in zip(net.parameters(), plain.parameters(), strict=True):
        assert own.grad is not None and other.grad is not None and torch.equal(own.grad, other.grad)


def test_gradients_of_gradients_pass_through_a_displacement() -> None:
    net, batch = small_net(), images()
    shift, there = displaced(net, ("weight",))

    def squared(each: Network) -> Tensor:
        z = batch.x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(each(z), batch.y), z, create_graph=True)
        return gradient.square().sum()

    ours = torch.autograd.grad(squared(StepNetwork(net, shift)), list(net.parameters()), allow_unused=True)
    theirs = torch.autograd.grad(squared(there), list(there.parameters()), allow_unused=True)
    for own, other in zip(ours, theirs, strict=True):
        assert (own is None) == (other is None)
        if own is not None:
            torch.testing.assert_close(own, other)


def test_running_statistics_of_a_displaced_pass_are_the_networks_own() -> None:
    net, batch = normed_net().train(), images()
    shift, there = displaced(net, ("weight",))
    StepNetwork(net, shift)(batch.x)
    there.train()(batch.x)
    for (name, own), (_, other) in zip(net.named_buffers(), there.named_buffers(), strict=True):
        torch.testing.assert_close(own, other, msg=name)


def test_within_still_statistics_none_move_and_the_batch_normalizes() -> None:
    net, batch = normed_net().train(), images(16)
    moving = copy.deepcopy(net)
    before = {name: value.clone() for name, value in net.named_buffers()}
    with still_statistics(net):
        still = net(batch.x)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    torch.testing.assert_close(still, moving(batch.x))
    assert not torch.equal(dict(moving.named_buffers())["layers.2.running_mean"], before["layers.2.running_mean"])
    # Behind it they move as before, an exception inside or not.
    with pytest.raises(RuntimeError), still_statistics(net):
        raise RuntimeError
    net(batch.x)
    for (_, own), (_, other) in zip(net.named_buffers(), moving.named_buffers(), strict=True):
        assert torch.equal(own, other)


@pytest.mark.usefixtures("_outside_of_a_trainer")
@pytest.mark.parametrize("attack", ["none", "pgd"])
@pytest.mark.parametrize("option", [*TERMS, "meta"])
def test_statistics_are_those_of_a_run_without_the_penalty(option: str, attack: str) -> None:
    if option == "rotation" and attack == "pgd":
        pytest.skip("its adversary finds other points")
    batch = images(16)
    buffers = []
    for penalties in ("batch_norm", f"batch_norm,{option}" + (",l2" if option == "meta" else "")):
        module = build_module(composed(f"penalty=[{penalties}]", f"attack={attack}", *TINY)).train()
        module.training_step(batch, 0)
        buffers.append({name: value for name, value in module.net.named_buffers()})
    assert all(torch.equal(value, buffers[1][name]) for name, value in buffers[0].items())
    assert buffers[0]["layers.2.num_batches_tracked"] == 1


@pytest.mark.usefixtures("_outside_of_a_trainer")
@pytest.mark.parametrize(
    ("attack", "option", "passes"),
    [
        ("none", "l2", 1),
        ("none", "confidence", 1),
        ("none", "confidence,logit_squeezing,self_distillation", 1),
        ("none", "input_gradient", 2),
        ("none", "jacobian", 2),
        ("none", "curvature", 3),
        ("none", "awp", 2),
        ("pgd", "confidence,logit_squeezing,self_distillation", 1 + 2),
        ("pgd", "awp", 2 + 2),
    ],
)
def test_what_a_step_costs(attack: str, option: str, passes: int) -> None:
    """PGD takes two steps here, one forward pass each."""
    more = ["attack.steps=2"] if attack == "pgd" else []
    module = build_module(composed(f"penalty=[{option}]", f"attack={attack}", *more, *TINY)).train()
    seen: list[int] = []
    module.net.layers.register_forward_hook(lambda *arguments: seen.append(1))  # type: ignore[union-attr]
    module.training_step(images(16), 0)
    assert len(seen) == passes
