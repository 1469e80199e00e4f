"""FAB against closed forms, and against the library that ports the authors' code."""

from dataclasses import replace

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor
from torchattacks.attacks import fab as port

from temper.attacks import FAB, L1, L2, Linf, Threat, TorchAttack
from temper.attacks.autoattack.fab import to_plane
from temper.data import Batch, DataModule
from temper.models import CNN
from tests.attacks.test_every_attack import Stateful, state
from tests.conftest import Linear

every_norm = pytest.mark.parametrize("threat", [Linf(eps=0.1), L2(eps=0.5), L1(eps=2.0)], ids=lambda threat: threat.norm)


def planes(count: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points in [0, 1], gradients of all sizes, some values of them 0, and values of the function, in and out of reach."""
    torch.manual_seed(0)
    w = torch.randn(count, features, dtype=torch.float64) * torch.rand(count, 1, dtype=torch.float64) * 10
    w[: count // 4, ::3] = 0
    reach = torch.linspace(0.01, 1.3, count, dtype=torch.float64) * w.abs().sum(1) / 2
    return torch.rand(count, features, dtype=torch.float64).round(decimals=1), w, reach * torch.randn(count).sign()


@every_norm
def test_the_step_to_a_plane_is_that_of_the_authors(threat: Threat) -> None:
    x, w, value = (part.float() for part in planes(200, 30))
    ours = to_plane(x, w, value, threat)
    theirs = getattr(port, f"projection_{threat.norm}")(x, w, (w * x).sum(1) - value)
    torch.testing.assert_close(threat.length(ours), threat.length(theirs), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((w * ours).sum(1), (w * theirs).sum(1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("threat", [Linf(eps=0.1), L1(eps=2.0)], ids=lambda threat: threat.norm)
def test_the_step_to_a_plane_is_the_shortest(threat: Threat) -> None:
    """As a linear program finds it: the least t with |d| <= t, or sum of d = t, that reaches the plane inside the range."""
    x, w, value = planes(40, 6)
    length = threat.length(to_plane(x, w, value, threat))
    reached = 0
    for row in range(40):
        towards = -w[row] * value[row].sign()
        room = torch.where(towards > 0, 1 - x[row], x[row])
        gain = w[row].abs().tolist()
        if threat.norm == "linf":
            cost, bounds = [0.0] * 6 + [1.0], [(0, float(most)) for most in room] + [(0, None)]
            below = [[float(i == j) for j in range(6)] + [-1.0] for i in range(6)]
            program = linprog(cost, below, [0] * 6, [[*gain, 0.0]], [abs(float(value[row]))], bounds)
        else:
            program = linprog([1.0] * 6, None, None, [gain], [abs(float(value[row]))], [(0, float(most)) for most in room])
        if program.success:
            reached += 1
            assert length[row].item() == pytest.approx(program.fun, abs=1e-7)
    assert 10 < reached < 40


@every_norm
def test_a_linear_model_falls_where_its_boundary_is_within_reach(threat: Threat) -> None:
    """The distance is |f(x)| over the dual norm of w: a radius just above it is enough, one just below is not."""
    torch.manual_seed(0)
    weight = torch.randn(1, 3, 3)
    net = Linear(weight, bias=float(0.15 - weight.sum() / 2))  # f(x) = 0.15 in the middle of the range
    batch = Batch.of(torch.full((2, 1, 3, 3), 0.5), torch.ones(2, dtype=torch.int64))
    dual = {"linf": weight.abs().sum(), "l2": weight.norm(), "l1": weight.abs().max()}[threat.norm]
    distance = 0.15 / float(dual)
    for factor, stands in ((0.98, True), (1.06, False)):  # it ends 1.05 times as far out as the boundary at most
        reach = replace(threat, eps=factor * distance)
        x_adv = FAB(threat=reach, steps=30).perturb(net, batch)
        assert ((net(x_adv).argmax(1) == batch.y) == stands).all()
        assert stands == bool((x_adv == batch.x).all())
        assert (reach.length(x_adv - batch.x) <= reach.eps).all()


@pytest.mark.parametrize("threat", [Linf(eps=0.06), L2(eps=0.4)])
def test_verdicts_equal_torchattacks(threat: Threat, trained: CNN, digits: DataModule) -> None:
    x, y = digits.split("test")
    batch = Batch.of(x[:120], y[:120])
    options = {"steps": 30, "multi_targeted": True, "n_classes": 10}
    theirs = TorchAttack(threat=threat, attack="FAB", options=options).perturb(trained, batch)
    ours = FAB(threat=threat, steps=30).perturb(trained, batch)
    with torch.no_grad():
        stand = [trained(found).argmax(1) == batch.y for found in (ours, theirs)]
    assert (stand[0] != stand[1]).sum() <= 1, "a hundred steps add up what rounding differs by"
    assert 0.1 < stand[0].float().mean() < 0.9


def test_targets_side_by_side_give_the_verdicts_of_one_after_another(trained: CNN, digits: DataModule) -> None:
    x, y = digits.split("test")
    batch = Batch.of(x[:100], y[:100])
    wrong = [
        trained(FAB(threat=Linf(eps=0.06), steps=20).perturb(trained, batch, rows)).argmax(1) != batch.y for rows in (100, 900)
    ]
    assert torch.equal(*wrong) and 0.1 < wrong[0].float().mean() < 0.9


def test_more_targets_never_help_an_example(trained: CNN, digits: DataModule) -> None:
    x, y = digits.split("test")
    batch, wrong = Batch.of(x[:200], y[:200]), []
    for targets in (1, 3, 9):
        x_adv = FAB(threat=L2(eps=0.6), steps=5, targets=targets).perturb(trained, batch)
        wrong.append(trained(x_adv).argmax(1) != batch.y)
    assert not (wrong[0] & ~wrong[1]).any() and not (wrong[1] & ~wrong[2]).any()
    assert wrong[2].sum() > wrong[0].sum()


def test_masked_features_never_change(trained: CNN, batch: Batch) -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    x_adv = FAB(threat=Linf(eps=0.3), steps=10).perturb(trained, replace(batch, mask=mask))
    assert torch.equal(x_adv[..., 4:], batch.x[..., 4:]) and not torch.equal(x_adv[..., :4], batch.x[..., :4])


@every_norm
def test_the_network_is_left_as_it_was_and_points_lie_in_the_set(threat: Threat, batch: Batch) -> None:
    net = Stateful().train()
    net.body[2].eval()
    net.head.bias.grad = torch.ones(10)
    before = state(net)
    x_adv = FAB(threat=threat, steps=12).perturb(net, batch)
    assert state(net) == before
    assert (threat.length(x_adv.double() - batch.x.double()) <= threat.eps).all()
    assert x_adv.min() >= 0 and x_adv.max() <= 1


@every_norm
def test_a_range_without_ends_is_no_constraint(threat: Threat) -> None:
    """The closed form: |w x + b| over the dual norm of w."""
    x, w, value = planes(50, 8)
    length = threat.length(to_plane(x, w, value, replace(threat, lower=-torch.inf, upper=torch.inf)))
    dual = {"linf": w.abs().sum(1), "l2": w.norm(dim=1), "l1": w.abs().amax(1)}[threat.norm]
    torch.testing.assert_close(length, value.abs() / dual)
