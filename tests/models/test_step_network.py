"""Tests of the step network: one pass per point, displaced weights, gradients and frozen statistics."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from temper.models import CNN, Network, StepNetwork, still_statistics
from temper.training.modules import build_module
from tests.conftest import small_net
from tests.penalties.conftest import TERMS, TINY, composed, flat, images, normed_net


class CountingNetwork(Network):
    """Network that counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.passes = small_net(), 0

    def logits(self, z: Tensor) -> Tensor:
        self.passes += 1
        logits: Tensor = self.net(z)
        return logits


def displaced(net: CNN, names: tuple[str, ...]) -> tuple[dict[str, Tensor], CNN]:
    """Return a displacement of some parameters, and a copy of the network at the displaced parameters."""
    torch.manual_seed(0)
    shift = {name: 0.1 * torch.randn_like(parameter) for name, parameter in net.named_parameters() if name.endswith(names)}
    displaced_net = copy.deepcopy(net)
    with torch.no_grad():
        for name, parameter in displaced_net.named_parameters():
            parameter.add_(shift.get(name, torch.zeros(())))
    return shift, displaced_net


def test_each_point_takes_one_forward_pass() -> None:
    counting, x = CountingNetwork(), images().x
    step = StepNetwork(counting)
    assert step(x) is step(x) and step.logits(x) is step(x)
    assert counting.passes == 1
    step(x.clone())
    assert counting.passes == 2, "an equal copy is another point"
    moved = x + torch.zeros_like(x, requires_grad=True)
    assert step(moved) is step(moved)
    assert counting.passes == 3


def test_deleted_points_are_not_confused_with_new_ones() -> None:
    """A new tensor may get the address of a deleted one."""
    net, x = small_net(), images().x
    step = StepNetwork(net)
    for scale in range(1, 30):
        torch.testing.assert_close(step(x / scale), net(x / scale))


def test_another_mode_takes_another_pass() -> None:
    counting, x = CountingNetwork(), images().x
    step = StepNetwork(counting.train())
    step(x)
    with torch.no_grad():
        assert not step(x).requires_grad
    assert counting.passes == 2
    counting.eval()
    step(x)
    assert counting.passes == 3
    counting.train()
    assert step(x).requires_grad and counting.passes == 3


def test_a_leaf_that_requires_a_gradient_takes_another_pass() -> None:
    counting = CountingNetwork()
    step = StepNetwork(counting)
    leaf = images().x.requires_grad_(True)
    first, second = step(leaf), step(leaf)
    assert counting.passes == 2 and first is not second
    torch.autograd.grad(first.sum(), leaf)
    torch.autograd.grad(second.sum(), leaf)


@pytest.mark.parametrize("names", [("weight",), ("weight", "bias"), ("layers.1.weight",)])
def test_displaced_weights_give_the_logits_and_gradients_of_a_displaced_copy(names: tuple[str, ...]) -> None:
    net, batch = small_net(), images()
    shift, displaced_net = displaced(net, names)
    before = flat(net).clone()
    step = StepNetwork(net, shift)
    torch.testing.assert_close(step(batch.x), displaced_net(batch.x))
    F.cross_entropy(step(batch.x), batch.y).backward()
    F.cross_entropy(displaced_net(batch.x), batch.y).backward()
    for actual, reference in zip(net.parameters(), displaced_net.parameters(), strict=True):
        assert actual.grad is not None and reference.grad is not None
        torch.testing.assert_close(actual.grad, reference.grad)
    assert torch.equal(flat(net), before)


def test_gradients_accumulate_in_the_parameters_of_the_network() -> None:
    net, plain, batch = small_net(), small_net(), images()
    F.cross_entropy(StepNetwork(net)(batch.x), batch.y).backward()
    F.cross_entropy(plain(batch.x), batch.y).backward()
    for actual, reference in zip(net.parameters(), plain.parameters(), strict=True):
        assert actual.grad is not None and reference.grad is not None and torch.equal(actual.grad, reference.grad)


def test_second_order_gradients_pass_through_a_displacement() -> None:
    net, batch = small_net(), images()
    shift, displaced_net = displaced(net, ("weight",))

    def squared(network: Network) -> Tensor:
        z = batch.x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(z), batch.y), z, create_graph=True)
        return gradient.square().sum()

    grads = torch.autograd.grad(squared(StepNetwork(net, shift)), list(net.parameters()), allow_unused=True)
    expected = torch.autograd.grad(squared(displaced_net), list(displaced_net.parameters()), allow_unused=True)
    for actual, reference in zip(grads, expected, strict=True):
        assert (actual is None) == (reference is None)
        if actual is not None:
            torch.testing.assert_close(actual, reference)


def test_a_displaced_pass_updates_the_running_statistics_of_the_network() -> None:
    net, batch = normed_net().train(), images()
    shift, displaced_net = displaced(net, ("weight",))
    StepNetwork(net, shift)(batch.x)
    displaced_net.train()(batch.x)
    for (name, actual), (_, reference) in zip(net.named_buffers(), displaced_net.named_buffers(), strict=True):
        torch.testing.assert_close(actual, reference, msg=name)


def test_still_statistics_freezes_running_statistics_and_normalizes_by_the_batch() -> None:
    net, batch = normed_net().train(), images(16)
    moving = copy.deepcopy(net)
    before = {name: value.clone() for name, value in net.named_buffers()}
    with still_statistics(net):
        still = net(batch.x)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    torch.testing.assert_close(still, moving(batch.x))
    assert not torch.equal(dict(moving.named_buffers())["layers.2.running_mean"], before["layers.2.running_mean"])
    # Afterwards they are updated as before, even after an exception.
    with pytest.raises(RuntimeError), still_statistics(net):
        raise RuntimeError
    net(batch.x)
    for (_, actual), (_, reference) in zip(net.named_buffers(), moving.named_buffers(), strict=True):
        assert torch.equal(actual, reference)


@pytest.mark.usefixtures("_outside_of_a_trainer")
@pytest.mark.parametrize("attack", ["none", "pgd"])
@pytest.mark.parametrize("option", [*TERMS, "meta"])
def test_running_statistics_equal_those_without_the_penalty(option: str, attack: str) -> None:
    if option == "rotation" and attack == "pgd":
        pytest.skip("its adversary attacks other points")
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
def test_forward_passes_per_step(attack: str, option: str, passes: int) -> None:
    """PGD takes two steps here, with one forward pass each."""
    more = ["attack.steps=2"] if attack == "pgd" else []
    module = build_module(composed(f"penalty=[{option}]", f"attack={attack}", *more, *TINY)).train()
    calls: list[int] = []
    module.net.layers.register_forward_hook(lambda *arguments: calls.append(1))  # type: ignore[union-attr]
    module.training_step(images(16), 0)
    assert len(calls) == passes
