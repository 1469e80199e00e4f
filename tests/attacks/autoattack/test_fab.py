"""FAB: closed forms, and agreement with torchattacks, which ports the authors' code."""

from dataclasses import replace

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor
from torchattacks.attacks import fab as port

from temper.attacks import FAB, L1, L2, Linf, Threat, TorchAttack
from temper.attacks.autoattack.fab import step_to_hyperplane
from temper.data import Batch, DataModule
from temper.models import CNN
from tests.attacks.test_every_attack import Stateful, state
from tests.conftest import Linear

every_norm = pytest.mark.parametrize("threat", [Linf(eps=0.1), L2(eps=0.5), L1(eps=2.0)], ids=lambda threat: threat.norm)


def hyperplanes(count: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return points in [0, 1], gradients of all sizes with some zeros, and function values within reach or not."""
    torch.manual_seed(0)
    w = torch.randn(count, features, dtype=torch.float64) * torch.rand(count, 1, dtype=torch.float64) * 10
    w[: count // 4, ::3] = 0
    reach = torch.linspace(0.01, 1.3, count, dtype=torch.float64) * w.abs().sum(1) / 2
    return torch.rand(count, features, dtype=torch.float64).round(decimals=1), w, reach * torch.randn(count).sign()


@every_norm
def test_step_to_hyperplane_equals_torchattacks(threat: Threat) -> None:
    x, w, value = (part.float() for part in hyperplanes(200, 30))
    ours = step_to_hyperplane(x, w, value, threat)
    theirs = getattr(port, f"projection_{threat.norm}")(x, w, (w * x).sum(1) - value)
    torch.testing.assert_close(threat.length(ours), threat.length(theirs), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((w * ours).sum(1), (w * theirs).sum(1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("threat", [Linf(eps=0.1), L1(eps=2.0)], ids=lambda threat: threat.norm)
def test_step_to_hyperplane_is_shortest(threat: Threat) -> None:
    """Compare with a linear program: the smallest |d| (linf) or sum of d (l1) that reaches the hyperplane inside the range."""
    x, w, value = hyperplanes(40, 6)
    length = threat.length(step_to_hyperplane(x, w, value, threat))
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
def test_linear_model_is_fooled_if_its_boundary_is_within_eps(threat: Threat) -> None:
    """A radius just above the distance, |f(x)| over the dual norm of w, is enough, and one just below is not."""
    torch.manual_seed(0)
    weight = torch.randn(1, 3, 3)
    net = Linear(weight, bias=float(0.15 - weight.sum() / 2))  # f(x) = 0.15 in the middle of the range
    batch = Batch.of(torch.full((2, 1, 3, 3), 0.5), torch.ones(2, dtype=torch.int64))
    dual = {"linf": weight.abs().sum(), "l2": weight.norm(), "l1": weight.abs().max()}[threat.norm]
    distance = 0.15 / float(dual)
    for factor, robust in ((0.98, True), (1.06, False)):  # FAB overshoots the boundary by at most a factor of 1.05
        reach = replace(threat, eps=factor * distance)
        x_adv = FAB(threat=reach, steps=30).perturb(net, batch)
        assert ((net(x_adv).argmax(1) == batch.y) == robust).all()
        assert robust == bool((x_adv == batch.x).all())
        assert (reach.length(x_adv - batch.x) <= reach.eps).all()


@pytest.mark.parametrize("threat", [Linf(eps=0.06), L2(eps=0.4)])
def test_verdicts_equal_torchattacks(threat: Threat, trained: CNN, digits: DataModule) -> None:
    x, y = digits.split("test")
    batch = Batch.of(x[:120], y[:120])
    options = {"steps": 30, "multi_targeted": True, "n_classes": 10}
    theirs = TorchAttack(threat=threat, attack="FAB", options=options).perturb(trained, batch)
    ours = FAB(threat=threat, steps=30).perturb(trained, batch)
    with torch.no_grad():
        robust = [trained(x_adv).argmax(1) == batch.y for x_adv in (ours, theirs)]
    assert (robust[0] != robust[1]).sum() <= 1, "rounding differences accumulate over the steps"
    assert 0.1 < robust[0].float().mean() < 0.9


def test_parallel_targets_give_verdicts_of_sequential_ones(trained: CNN, digits: DataModule) -> None:
    x, y = digits.split("test")
    batch = Batch.of(x[:100], y[:100])
    wrong = [
        trained(FAB(threat=Linf(eps=0.06), steps=20).perturb(trained, batch, rows)).argmax(1) != batch.y for rows in (100, 900)
    ]
    assert torch.equal(*wrong) and 0.1 < wrong[0].float().mean() < 0.9


def test_more_targets_never_rescue_an_example(trained: CNN, digits: DataModule) -> None:
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
def test_network_state_is_unchanged_and_points_are_inside_the_set(threat: Threat, batch: Batch) -> None:
    net = Stateful().train()
    net.body[2].eval()
    net.head.bias.grad = torch.ones(10)
    before = state(net)
    x_adv = FAB(threat=threat, steps=12).perturb(net, batch)
    assert state(net) == before
    assert (threat.length(x_adv.double() - batch.x.double()) <= threat.eps).all()
    assert x_adv.min() >= 0 and x_adv.max() <= 1


@every_norm
def test_infinite_range_is_no_constraint(threat: Threat) -> None:
    """Compare with the closed form: |w x + b| over the dual norm of w."""
    x, w, value = hyperplanes(50, 8)
    length = threat.length(step_to_hyperplane(x, w, value, replace(threat, lower=-torch.inf, upper=torch.inf)))
    dual = {"linf": w.abs().sum(1), "l2": w.norm(dim=1), "l1": w.abs().amax(1)}[threat.norm]
    torch.testing.assert_close(length, value.abs() / dual)
