"""APGD against the library that ports the authors' code, and against itself."""

import pytest
import torch
import torchattacks
from torch import Tensor

from temper.attacks import APGD, L1, L2, PGD, Linf, Threat
from temper.data import Batch, DataModule
from temper.models import CNN
from tests.conftest import small_net


@pytest.fixture
def points(digits: DataModule) -> Batch:
    x, y = digits.split("test")
    return Batch.of(x[:150], y[:150])


def stands(net: CNN, batch: Batch, x_adv: Tensor) -> Tensor:
    with torch.no_grad():
        return (net(x_adv).argmax(1) == batch.y) & (net(batch.x).argmax(1) == batch.y)


@pytest.mark.parametrize(("threat", "norm"), [(Linf(eps=0.06), "Linf"), (L2(eps=0.5), "L2")])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_verdicts_equal_torchattacks(threat: Threat, norm: str, loss: str, trained: CNN, points: Batch) -> None:
    theirs = torchattacks.APGD(trained, norm=norm, eps=threat.eps, steps=40, loss=loss, seed=0)(points.x, points.y)
    torch.manual_seed(0)
    ours = APGD(threat=threat, steps=40, loss=loss).perturb(trained, points)  # type: ignore[arg-type]
    one, other = stands(trained, points, ours), stands(trained, points, theirs)
    assert (one != other).sum() <= 2, "starts are random"
    assert 0.1 < one.float().mean() < 0.9


def test_targets_equal_torchattacks(trained: CNN, points: Batch) -> None:
    theirs = torchattacks.APGDT(trained, eps=0.06, steps=25, n_classes=10, seed=0)(points.x, points.y)
    ours = APGD(threat=Linf(eps=0.06), steps=25, loss="targeted", restarts=9).perturb(trained, points)
    assert (stands(trained, points, ours) != stands(trained, points, theirs)).sum() <= 2


def test_dropping_what_is_done_changes_no_verdict(trained: CNN, points: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them together, where examples drop out on the way, against each example alone; the start the same for all."""
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.full_like(x, 0.8))
    attack = APGD(threat=Linf(eps=0.06), steps=40)
    together = stands(trained, points, attack.perturb(trained, points))
    for row in range(0, 150, 4):
        part = points.select(torch.tensor([row]))
        assert stands(trained, part, attack.perturb(trained, part)) == together[row]


@pytest.mark.parametrize("threat", [Linf(eps=0.06), L2(eps=0.5), L1(eps=1.5)])
def test_it_is_no_weaker_than_pgd(threat: Threat, trained: CNN, points: Batch) -> None:
    torch.manual_seed(0)
    ours = stands(trained, points, APGD(threat=threat, steps=40).perturb(trained, points)).sum()
    pgd = stands(trained, points, PGD(threat=threat, steps=40, keep="worst").perturb(trained, points)).sum()
    assert ours <= pgd + 2


def test_more_restarts_never_help_an_example(trained: CNN, points: Batch) -> None:
    few, many = (
        stands(trained, points, APGD(threat=Linf(eps=0.05), steps=10, restarts=n).perturb(trained, points)) for n in (1, 5)
    )
    assert many.sum() <= few.sum()


def test_where_it_fails_it_returns_the_point_of_highest_loss(points: Batch) -> None:
    net = small_net(3).eval()  # untrained: hardly an example can be moved across a boundary by so little
    attack, threat = APGD(threat=Linf(eps=0.001), steps=20), Linf(eps=0.001)
    right = (net(points.x).argmax(1) == points.y).nonzero().squeeze(1)
    batch = points.select(right)
    x_adv = attack.perturb(net, batch)
    loss = torch.nn.functional.cross_entropy
    assert (loss(net(x_adv), batch.y, reduction="none") > loss(net(batch.x), batch.y, reduction="none")).all()
    assert (threat.length(x_adv - batch.x) > 0).all()
