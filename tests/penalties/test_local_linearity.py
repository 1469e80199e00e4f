"""How far from linear: closed forms for a loss that is linear, and for one that is convex."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks import L2, Linf
from temper.config.types import InEps
from temper.data import Batch
from temper.models import last_linear
from temper.penalties import LocalLinearity
from tests.conftest import Linear, small_net
from tests.penalties.conftest import flat, images, normed_net

EPS = 0.1


def middle(count: int, y: int) -> Batch:
    """Inputs so far from the ends of the range that these cut nothing off."""
    return Batch.of(images(count).x * 0.2 + 0.4, torch.full((count,), y))


def model(bias: float) -> Linear:
    return Linear(torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)), bias=bias)


def test_a_linear_loss_has_no_gamma() -> None:
    # log(1 + e^s) is s for a large s.
    net, batch = model(200.0), middle(8, 0)
    term = LocalLinearity(threat=Linf(eps=EPS), slope=0).term(net, batch, batch.x)
    assert term.item() == pytest.approx(0, abs=1e-4)
    flat_loss = LocalLinearity(threat=Linf(eps=EPS), slope=3).term(net, replace(batch, target=batch.y + 1), batch.x)
    assert flat_loss.item() == pytest.approx(0, abs=1e-4)


def gamma(score: Tensor, move: Tensor, slope: float) -> Tensor:
    """Of the loss log(1 + e^s), whose gradient is sigmoid(s) w."""
    linear = score.sigmoid() * move
    return (F.softplus(score + move) - F.softplus(score) - linear).abs() + slope * linear.abs()


@pytest.mark.parametrize("slope", [0.0, 0.75])
@pytest.mark.parametrize("threat", [Linf(eps=EPS), L2(eps=0.5)])
def test_a_convex_loss_is_furthest_from_linear_at_an_end_of_the_set(threat: Linf | L2, slope: float) -> None:
    net = model(0.4)
    # The score moves by at most eps times the dual norm of w, up or down.
    most = threat.eps * (net.weight.abs().sum() if isinstance(threat, Linf) else net.weight.norm())
    for seed in range(6):
        torch.manual_seed(seed)
        batch = replace(middle(1, 0), x=torch.rand(1, 1, 8, 8) * 0.02 + 0.49) if isinstance(threat, Linf) else middle(1, 0)
        score = (batch.x * net.weight).flatten(1).sum(1) + net.bias
        ends = torch.cat([gamma(score, most, slope), gamma(score, -most, slope)])
        found = LocalLinearity(threat=threat, slope=slope, steps=25, step_size=InEps(0.5)).term(net, batch, batch.x)
        assert torch.isclose(ends, found, rtol=2e-3, atol=1e-5).any(), (found, ends)


def test_the_direction_is_held_constant_in_the_gradient() -> None:
    net, batch = model(0.4), middle(1, 0)
    torch.manual_seed(0)
    term = LocalLinearity(threat=Linf(eps=EPS), slope=0.5, steps=10).term(net, batch, batch.x)
    (found,) = torch.autograd.grad(term, net.weight)
    score = (batch.x * net.weight).flatten(1).sum(1) + net.bias
    candidates = []
    for sign in (1, -1):
        delta = sign * EPS * net.weight.detach().sign()
        value = gamma(score, (delta * net.weight).sum(), 0.5).mean()
        candidates.append(torch.autograd.grad(value, net.weight, retain_graph=True)[0])
    assert any(torch.allclose(found, expected, rtol=1e-3, atol=1e-4) for expected in candidates)


def test_delta_stays_in_the_set_and_where_the_adversary_may_go() -> None:
    net, batch = small_net(), images(6)
    mask = torch.zeros_like(batch.x)
    mask[..., :3] = 1
    penalty = LocalLinearity(threat=Linf(eps=EPS))
    found = penalty._furthest(net, replace(batch, mask=mask), batch.x)
    assert (found - batch.x).abs().max() <= EPS and found.min() >= 0 and found.max() <= 1
    assert torch.equal(found[..., 3:], batch.x[..., 3:]) and not torch.equal(found, batch.x)
    # Where nothing may move, nothing is to be found.
    nothing = penalty.term(net, replace(batch, mask=torch.zeros_like(batch.x)), batch.x)
    assert nothing.item() == 0


def test_more_steps_find_more() -> None:
    net, batch = small_net(), images(16)
    with torch.no_grad():
        last_linear(net).weight.mul_(20)
    found = []
    for steps in (1, 20):
        torch.manual_seed(0)
        found.append(LocalLinearity(threat=Linf(eps=0.2), slope=0, steps=steps).term(net, batch, batch.x).item())
    assert found[1] > found[0] > 0


def test_the_search_leaves_no_trace() -> None:
    net, batch = normed_net().train(), images(6)
    before, state = flat(net).clone(), {name: value.clone() for name, value in net.named_buffers()}
    LocalLinearity(threat=Linf(eps=EPS))._furthest(net, batch, batch.x)
    assert torch.equal(flat(net), before) and all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.named_buffers()) and net.training
    assert all(parameter.grad is None for parameter in net.parameters())
