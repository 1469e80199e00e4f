"""Tests of the penalties on inputs against closed forms on linear models and against full Jacobians."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks import L2, Linf
from temper.config.types import InEps
from temper.data import Batch
from temper.models import last_linear
from temper.penalties import Curvature, InputGradient, Jacobian, LocalLinearity
from temper.penalties.inputs import loss_gradient
from tests.conftest import Linear, small_net
from tests.penalties.conftest import flat, images, normed_net, softened

EPS = 0.1
OnInputs = InputGradient | Jacobian | Curvature


def linear(bias: float = 0.3) -> Linear:
    return Linear(torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)), bias=bias)


def binary() -> Batch:
    return images(16, classes=2)


def closed_forms() -> list[tuple[str, OnInputs, Callable[[Linear, Batch], Tensor]]]:
    """Return each penalty with its closed form in w and b for the logits (0, s), s = w·x + b."""

    def score(net: Linear, batch: Batch) -> Tensor:
        return (batch.x * net.weight).flatten(1).sum(1) + net.bias

    def gradient(net: Linear, batch: Batch) -> Tensor:
        return ((score(net, batch).sigmoid() - batch.y).square() * net.weight.square().sum()).mean()

    def curvature(net: Linear, batch: Batch) -> Tensor:
        # A step of length h along sign(gradient) changes the score by +-h ||w||_1 / sqrt(n).
        s = score(net, batch)
        slope = s.sigmoid() - batch.y
        # The direction is a constant of the gradient.
        moved = s + 0.7 * slope.sign() * (net.weight * net.weight.detach().sign()).sum() / net.weight.numel() ** 0.5
        return ((moved.sigmoid() - s.sigmoid()).square() * net.weight.square().sum()).mean()

    return [("input_gradient", InputGradient(), gradient), ("curvature", Curvature(h=0.7), curvature)]


@pytest.mark.parametrize(("penalty", "form"), [pytest.param(p, f, id=name) for name, p, f in closed_forms()])
def test_closed_forms_on_a_linear_model(penalty: OnInputs, form: Callable[[Linear, Batch], Tensor]) -> None:
    net, batch = linear(), binary()
    term, closed = penalty.term(net, batch, batch.x), form(net, batch)
    torch.testing.assert_close(term, closed)
    # The gradient with respect to the weights is right too.
    actual, expected = (torch.autograd.grad(value, [net.weight, net.bias]) for value in (term, closed))
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_jacobian_projections_have_the_right_expectation() -> None:
    torch.manual_seed(0)
    net, batch = linear(), binary()
    term = Jacobian(projections=2000).term(net, batch, batch.x)
    expected = net.weight.square().sum() / 2
    assert term.item() == pytest.approx(expected.item(), rel=0.02)
    (gradient,) = torch.autograd.grad(term, net.weight)
    torch.testing.assert_close(gradient, net.weight.detach(), rtol=0.02, atol=1e-3)


def test_jacobian_of_a_network_with_ten_classes() -> None:
    torch.manual_seed(0)
    net, batch = small_net(), images(4)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: net(x[None])[0]))(batch.x)
    expected = jacobian.square().flatten(1).sum(1).mean() / 2
    term = Jacobian(projections=600).term(net, batch, batch.x)
    assert term.item() == pytest.approx(expected.item(), rel=0.05)


def test_one_jacobian_projection_matches_its_closed_form() -> None:
    net, batch = linear(), binary()
    torch.manual_seed(5)
    term = Jacobian().term(net, batch, batch.x)
    torch.manual_seed(5)
    v = F.normalize(torch.randn(16, 2), dim=1)[:, 1]
    torch.testing.assert_close(term, 2 * (v.square() * net.weight.square().sum()).mean() / 2)


def test_loss_gradient_is_computed_per_example() -> None:
    net, batch = small_net(), images(5)
    together = loss_gradient(net, batch, batch.x)
    for row in range(5):
        one = batch.select(torch.tensor([row]))
        x = one.x.clone().requires_grad_(True)
        (alone,) = torch.autograd.grad(F.cross_entropy(net(x), one.y), x)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("penalty", [InputGradient(), Jacobian(), Curvature(h=0.5)])
def test_terms_are_means_over_clean_examples(penalty: OnInputs) -> None:
    net, batch = small_net(), images(4)
    twice = replace(batch, **{name: getattr(batch, name).repeat_interleave(2, 0) for name in ("x", "y", "target", "index")})
    if not isinstance(penalty, Jacobian):  # its random projections differ
        torch.testing.assert_close(penalty.term(net, twice, twice.x), penalty.term(net, batch, batch.x))
    torch.manual_seed(0)
    clean = penalty.term(net, batch, batch.x)
    torch.manual_seed(0)
    assert torch.equal(clean, penalty.term(net, batch, 1 - batch.x))


def test_input_gradient_with_soft_targets() -> None:
    net, batch = linear(), softened(binary(), 2)
    s = (batch.x * net.weight).flatten(1).sum(1) + net.bias
    expected = ((s.sigmoid() - batch.target[:, 1]).square() * net.weight.square().sum()).mean()
    torch.testing.assert_close(InputGradient().term(net, batch, batch.x), expected)


def test_double_backpropagation_matches_a_finite_difference() -> None:
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
def test_terms_of_a_constant_network_are_0(penalty: OnInputs) -> None:
    net, batch = Linear(torch.zeros(1, 8, 8)), binary()
    term = penalty.term(net, batch, batch.x)
    assert term.item() == 0
    assert torch.isfinite(torch.autograd.grad(term, net.weight)[0]).all()


def test_terms_leave_no_gradient_at_the_inputs() -> None:
    net, batch = small_net(), images(4)
    before = flat(net).clone()
    Curvature(h=0.5).term(net, batch, batch.x).backward()
    assert batch.x.grad is None and not batch.x.requires_grad and torch.equal(flat(net), before)


def middle(count: int, y: int) -> Batch:
    """Return inputs so far from the ends of the valid range that no perturbation is clipped."""
    return Batch.of(images(count).x * 0.2 + 0.4, torch.full((count,), y))


def test_gamma_of_a_linear_loss_is_0() -> None:
    # log(1 + e^s) is s for large s.
    net, batch = linear(bias=200.0), middle(8, 0)
    term = LocalLinearity(threat=Linf(eps=EPS), slope=0).term(net, batch, batch.x)
    assert term.item() == pytest.approx(0, abs=1e-4)
    flat_loss = LocalLinearity(threat=Linf(eps=EPS), slope=3).term(net, replace(batch, target=batch.y + 1), batch.x)
    assert flat_loss.item() == pytest.approx(0, abs=1e-4)


def gamma(score: Tensor, move: Tensor, slope: float) -> Tensor:
    """Compute gamma + slope * |linear| of the loss log(1 + e^s), whose gradient is sigmoid(s) w."""
    linear = score.sigmoid() * move
    return (F.softplus(score + move) - F.softplus(score) - linear).abs() + slope * linear.abs()


@pytest.mark.parametrize("slope", [0.0, 0.75])
@pytest.mark.parametrize("threat", [Linf(eps=EPS), L2(eps=0.5)])
def test_gamma_of_a_convex_loss_is_largest_at_an_end_of_the_perturbation_set(threat: Linf | L2, slope: float) -> None:
    net = linear(bias=0.4)
    # The score changes by at most eps times the dual norm of w, up or down.
    max_change = threat.eps * (net.weight.abs().sum() if isinstance(threat, Linf) else net.weight.norm())
    for seed in range(6):
        torch.manual_seed(seed)
        batch = replace(middle(1, 0), x=torch.rand(1, 1, 8, 8) * 0.02 + 0.49) if isinstance(threat, Linf) else middle(1, 0)
        score = (batch.x * net.weight).flatten(1).sum(1) + net.bias
        ends = torch.cat([gamma(score, max_change, slope), gamma(score, -max_change, slope)])
        term = LocalLinearity(threat=threat, slope=slope, steps=25, step_size=InEps(0.5)).term(net, batch, batch.x)
        assert torch.isclose(ends, term, rtol=2e-3, atol=1e-5).any(), (term, ends)


def test_delta_is_a_constant_of_the_gradient() -> None:
    net, batch = linear(bias=0.4), middle(1, 0)
    torch.manual_seed(0)
    term = LocalLinearity(threat=Linf(eps=EPS), slope=0.5, steps=10).term(net, batch, batch.x)
    (gradient,) = torch.autograd.grad(term, net.weight)
    score = (batch.x * net.weight).flatten(1).sum(1) + net.bias
    candidates = []
    for sign in (1, -1):
        delta = sign * EPS * net.weight.detach().sign()
        value = gamma(score, (delta * net.weight).sum(), 0.5).mean()
        candidates.append(torch.autograd.grad(value, net.weight, retain_graph=True)[0])
    assert any(torch.allclose(gradient, expected, rtol=1e-3, atol=1e-4) for expected in candidates)


def test_delta_respects_the_perturbation_set_and_the_mask() -> None:
    net, batch = small_net(), images(6)
    mask = torch.zeros_like(batch.x)
    mask[..., :3] = 1
    penalty = LocalLinearity(threat=Linf(eps=EPS))
    points = penalty._least_linear_point(net, replace(batch, mask=mask), batch.x)
    assert (points - batch.x).abs().max() <= EPS and points.min() >= 0 and points.max() <= 1
    assert torch.equal(points[..., 3:], batch.x[..., 3:]) and not torch.equal(points, batch.x)
    # Without any feature that may change, the term is 0.
    nothing = penalty.term(net, replace(batch, mask=torch.zeros_like(batch.x)), batch.x)
    assert nothing.item() == 0


def test_more_steps_increase_gamma() -> None:
    net, batch = small_net(), images(16)
    with torch.no_grad():
        last_linear(net).weight.mul_(20)
    terms = []
    for steps in (1, 20):
        torch.manual_seed(0)
        terms.append(LocalLinearity(threat=Linf(eps=0.2), slope=0, steps=steps).term(net, batch, batch.x).item())
    assert terms[1] > terms[0] > 0


def test_the_search_does_not_change_the_network() -> None:
    net, batch = normed_net().train(), images(6)
    before, state = flat(net).clone(), {name: value.clone() for name, value in net.named_buffers()}
    LocalLinearity(threat=Linf(eps=EPS))._least_linear_point(net, batch, batch.x)
    assert torch.equal(flat(net), before) and all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.named_buffers()) and net.training
    assert all(parameter.grad is None for parameter in net.parameters())
