"""APGD against the library that ports the authors' code, and against itself."""

import pytest
import torch
import torchattacks
from torch import Tensor

from temper.attacks import APGD, L1, L2, PGD, Linf, Threat
from temper.attacks.autoattack.batch_filling import Found
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
    standing = []
    for restarts in (1, 5):
        torch.manual_seed(0)  # the first of five starts where the only one does
        attack = APGD(threat=Linf(eps=0.05), steps=10, restarts=restarts)
        standing.append(stands(trained, points, attack.perturb(trained, points)))
    assert not (standing[1] & ~standing[0]).any()


def test_where_it_fails_it_returns_the_point_of_highest_loss(points: Batch) -> None:
    net = small_net(3).eval()  # untrained: hardly an example can be moved across a boundary by so little
    attack, threat = APGD(threat=Linf(eps=0.001), steps=20), Linf(eps=0.001)
    right = (net(points.x).argmax(1) == points.y).nonzero().squeeze(1)
    batch = points.select(right)
    x_adv = attack.perturb(net, batch)
    loss = torch.nn.functional.cross_entropy
    assert (loss(net(x_adv), batch.y, reduction="none") > loss(net(batch.x), batch.y, reduction="none")).all()
    assert (threat.length(x_adv - batch.x) > 0).all()


def same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.full_like(x, 0.8))


def test_targets_side_by_side_give_the_verdicts_of_one_after_another(
    trained: CNN, points: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    same_start(monkeypatch)
    attack = APGD(threat=Linf(eps=0.06), steps=25, loss="targeted", restarts=9)
    verdicts = [stands(trained, points, attack.perturb(trained, points, rows)) for rows in (150, 1000)]
    assert torch.equal(*verdicts) and 0.1 < verdicts[0].float().mean() < 0.9


def test_more_targets_never_help_an_example(trained: CNN, points: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    same_start(monkeypatch)
    standing = [
        stands(trained, points, APGD(threat=Linf(eps=0.06), steps=15, loss="targeted", restarts=n).perturb(trained, points))
        for n in (1, 3, 9)
    ]
    assert not (standing[1] & ~standing[0]).any() and not (standing[2] & ~standing[1]).any()
    assert standing[2].sum() < standing[0].sum()


def test_of_several_runs_on_an_example_the_best_is_kept() -> None:
    """A misclassified point before any other, then the one of highest loss, as one after another would find them."""
    torch.manual_seed(0)
    rows, loss, fooled = torch.randint(5, (40,)), torch.randn(40), torch.rand(40) < 0.05
    together = Found.nothing(torch.zeros(7, 3))
    together.improve(rows, Found(torch.arange(40.0)[:, None].expand(40, 3), loss, fooled))
    for example in range(7):
        own = (rows == example).nonzero().squeeze(1).tolist()
        if not own:
            assert together.z[example].eq(0).all() and together.loss[example] == -torch.inf
            continue
        best = max(own, key=lambda row: (bool(fooled[row]), float(loss[row])))
        assert together.fooled[example] == fooled[best]
        assert bool(fooled[together.z[example, 0].long()]) if fooled[best] else together.z[example, 0] == best
    assert together.fooled.any() and not together.fooled[:5].all()
