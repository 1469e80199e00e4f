"""Penalties on input gradients against closed forms on a linear model, and against whole Jacobians."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from temper.data import Batch
from temper.penalties import Curvature, InputGradient, Jacobian
from temper.penalties.inputs import loss_gradient
from tests.conftest import Linear, small_net
from tests.penalties.conftest import flat, images, softened

OnInputs = InputGradient | Jacobian | Curvature


def linear(seed: int = 0) -> Linear:
    return Linear(torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(seed)), bias=0.3)


def binary() -> Batch:
    return images(16, classes=2)


def closed_forms() -> list[tuple[str, OnInputs, Callable[[Linear, Batch], Tensor]]]:
    """What each penalty is for logits (0, s), s = w·x + b, in w and b."""

    def score(net: Linear, batch: Batch) -> Tensor:
        return (batch.x * net.weight).flatten(1).sum(1) + net.bias

    def gradient(net: Linear, batch: Batch) -> Tensor:
        return ((score(net, batch).sigmoid() - batch.y).square() * net.weight.square().sum()).mean()

    def curvature(net: Linear, batch: Batch) -> Tensor:
        # Along sign(gradient) of length h the score moves by +-h ||w||_1 / sqrt(n).
        s = score(net, batch)
        slope = s.sigmoid() - batch.y
        # The direction is held constant.
        moved = s + 0.7 * slope.sign() * (net.weight * net.weight.detach().sign()).sum() / net.weight.numel() ** 0.5
        return ((moved.sigmoid() - s.sigmoid()).square() * net.weight.square().sum()).mean()

    return [("input_gradient", InputGradient(), gradient), ("curvature", Curvature(h=0.7), curvature)]


@pytest.mark.parametrize(("penalty", "form"), [pytest.param(p, f, id=name) for name, p, f in closed_forms()])
def test_closed_forms_on_a_linear_model(penalty: OnInputs, form: Callable[[Linear, Batch], Tensor]) -> None:
    net, batch = linear(), binary()
    ours, theirs = penalty.term(net, batch, batch.x), form(net, batch)
    torch.testing.assert_close(ours, theirs)
    # The weights are trained through it.
    found, expected = (torch.autograd.grad(value, [net.weight, net.bias]) for value in (ours, theirs))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_projections_have_the_expectation_of_the_jacobian() -> None:
    torch.manual_seed(0)
    net, batch = linear(), binary()
    term = Jacobian(projections=2000).term(net, batch, batch.x)
    expected = net.weight.square().sum() / 2
    assert term.item() == pytest.approx(expected.item(), rel=0.02)
    (gradient,) = torch.autograd.grad(term, net.weight)
    torch.testing.assert_close(gradient, net.weight.detach(), rtol=0.02, atol=1e-3)


def test_projections_on_a_network_with_ten_classes() -> None:
    torch.manual_seed(0)
    net, batch = small_net(), images(4)
    whole = torch.func.vmap(torch.func.jacrev(lambda x: net(x[None])[0]))(batch.x)
    expected = whole.square().flatten(1).sum(1).mean() / 2
    term = Jacobian(projections=600).term(net, batch, batch.x)
    assert term.item() == pytest.approx(expected.item(), rel=0.05)


def test_one_projection_is_that_of_its_draw() -> None:
    net, batch = linear(), binary()
    torch.manual_seed(5)
    term = Jacobian().term(net, batch, batch.x)
    torch.manual_seed(5)
    v = F.normalize(torch.randn(16, 2), dim=1)[:, 1]
    torch.testing.assert_close(term, 2 * (v.square() * net.weight.square().sum()).mean() / 2)


def test_the_gradient_is_each_examples_own() -> None:
    net, batch = small_net(), images(5)
    together = loss_gradient(net, batch, batch.x)
    for row in range(5):
        one = batch.select(torch.tensor([row]))
        x = one.x.clone().requires_grad_(True)
        (alone,) = torch.autograd.grad(F.cross_entropy(net(x), one.y), x)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("penalty", [InputGradient(), Jacobian(), Curvature(h=0.5)])
def test_they_are_means_over_examples_at_the_clean_inputs(penalty: OnInputs) -> None:
    net, batch = small_net(), images(4)
    twice = replace(batch, **{name: getattr(batch, name).repeat_interleave(2, 0) for name in ("x", "y", "target", "index")})
    if not isinstance(penalty, Jacobian):  # whose draws differ
        torch.testing.assert_close(penalty.term(net, twice, twice.x), penalty.term(net, batch, batch.x))
    torch.manual_seed(0)
    clean = penalty.term(net, batch, batch.x)
    torch.manual_seed(0)
    assert torch.equal(clean, penalty.term(net, batch, 1 - batch.x))


def test_soft_targets_count_in_the_gradient() -> None:
    net, batch = linear(), softened(binary(), 2)
    s = (batch.x * net.weight).flatten(1).sum(1) + net.bias
    expected = ((s.sigmoid() - batch.target[:, 1]).square() * net.weight.square().sum()).mean()
    torch.testing.assert_close(InputGradient().term(net, batch, batch.x), expected)


def test_a_finite_difference_of_double_backpropagation() -> None:
    net, batch = small_net().double(), images(4)
    batch = replace(batch, x=batch.x.double())
    term = InputGradient().term(net, batch, batch.x)
    parameters = list(net.parameters())
    gradients = torch.autograd.grad(term, parameters, allow_unused=True)
    direction = [torch.randn_like(p) for p in parameters]
    along = sum((d * g).sum().item() for d, g in zip(direction, gradients, strict=True) if g is not None)
    values = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=step)
        values.append(InputGradient().term(net, batch, batch.x).item())
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=-step)
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(along, rel=1e-3)


@pytest.mark.parametrize("penalty", [InputGradient(), Jacobian(), Curvature(h=0.5)])
def test_a_constant_network_has_nothing_to_penalize(penalty: OnInputs) -> None:
    net, batch = Linear(torch.zeros(1, 8, 8)), binary()
    term = penalty.term(net, batch, batch.x)
    assert term.item() == 0
    assert torch.isfinite(torch.autograd.grad(term, net.weight)[0]).all()


def test_no_gradient_is_left_at_the_inputs() -> None:
    net, batch = small_net(), images(4)
    before = flat(net).clone()
    Curvature(h=0.5).term(net, batch, batch.x).backward()
    assert batch.x.grad is None and not batch.x.requires_grad and torch.equal(flat(net), before)
