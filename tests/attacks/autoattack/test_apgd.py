"""APGD: agreement with torchattacks, which ports the authors' code, and consistency."""

import pytest
import torch
import torchattacks
from torch import Tensor

from temper.attacks import APGD, L1, L2, PGD, Linf, Threat
from temper.attacks.autoattack.batch_filling import RunResult
from temper.data import Batch, DataModule
from temper.models import CNN
from tests.conftest import small_net


@pytest.fixture
def points(digits: DataModule) -> Batch:
    x, y = digits.split("test")
    return Batch.of(x[:150], y[:150])


def withstands(net: CNN, batch: Batch, x_adv: Tensor) -> Tensor:
    """Return the examples that are correct at x and at x_adv, (B,) bool."""
    with torch.no_grad():
        return (net(x_adv).argmax(1) == batch.y) & (net(batch.x).argmax(1) == batch.y)


def fix_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all runs begin at the same offset."""
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.full_like(x, 0.8))


@pytest.mark.parametrize(("threat", "norm"), [(Linf(eps=0.06), "Linf"), (L2(eps=0.5), "L2")])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_verdicts_equal_torchattacks(threat: Threat, norm: str, loss: str, trained: CNN, points: Batch) -> None:
    theirs = torchattacks.APGD(trained, norm=norm, eps=threat.eps, steps=40, loss=loss, seed=0)(points.x, points.y)
    torch.manual_seed(0)
    ours = APGD(threat=threat, steps=40, loss=loss).perturb(trained, points)  # type: ignore[arg-type]
    robust, expected = withstands(trained, points, ours), withstands(trained, points, theirs)
    assert (robust != expected).sum() <= 2, "starts are random"
    assert 0.1 < robust.float().mean() < 0.9


def test_targets_equal_torchattacks(trained: CNN, points: Batch) -> None:
    theirs = torchattacks.APGDT(trained, eps=0.06, steps=25, n_classes=10, seed=0)(points.x, points.y)
    ours = APGD(threat=Linf(eps=0.06), steps=25, loss="targeted", restarts=9).perturb(trained, points)
    assert (withstands(trained, points, ours) != withstands(trained, points, theirs)).sum() <= 2


def test_dropping_finished_examples_changes_no_verdict(trained: CNN, points: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare a batch, from which examples drop out, with each example alone, from the same start."""
    fix_start(monkeypatch)
    attack = APGD(threat=Linf(eps=0.06), steps=40)
    together = withstands(trained, points, attack.perturb(trained, points))
    for row in range(0, 150, 4):
        part = points.select(torch.tensor([row]))
        assert withstands(trained, part, attack.perturb(trained, part)) == together[row]


@pytest.mark.parametrize("threat", [Linf(eps=0.06), L2(eps=0.5), L1(eps=1.5)])
def test_apgd_is_no_weaker_than_pgd(threat: Threat, trained: CNN, points: Batch) -> None:
    torch.manual_seed(0)
    ours = withstands(trained, points, APGD(threat=threat, steps=40).perturb(trained, points)).sum()
    pgd = withstands(trained, points, PGD(threat=threat, steps=40, keep="worst").perturb(trained, points)).sum()
    assert ours <= pgd + 2


def test_more_restarts_never_rescue_an_example(trained: CNN, points: Batch) -> None:
    robust = []
    for restarts in (1, 5):
        torch.manual_seed(0)  # the first of five runs has the same start as the single run
        attack = APGD(threat=Linf(eps=0.05), steps=10, restarts=restarts)
        robust.append(withstands(trained, points, attack.perturb(trained, points)))
    assert not (robust[1] & ~robust[0]).any()


def test_returns_point_of_highest_loss_where_it_fails(points: Batch) -> None:
    net = small_net(3).eval()  # untrained: at this radius it fools hardly any example
    attack, threat = APGD(threat=Linf(eps=0.001), steps=20), Linf(eps=0.001)
    correct = (net(points.x).argmax(1) == points.y).nonzero().squeeze(1)
    batch = points.select(correct)
    x_adv = attack.perturb(net, batch)
    loss = torch.nn.functional.cross_entropy
    assert (loss(net(x_adv), batch.y, reduction="none") > loss(net(batch.x), batch.y, reduction="none")).all()
    assert (threat.length(x_adv - batch.x) > 0).all()


def test_parallel_targets_give_verdicts_of_sequential_ones(
    trained: CNN, points: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_start(monkeypatch)
    attack = APGD(threat=Linf(eps=0.06), steps=25, loss="targeted", restarts=9)
    verdicts = [withstands(trained, points, attack.perturb(trained, points, rows)) for rows in (150, 1000)]
    assert torch.equal(*verdicts) and 0.1 < verdicts[0].float().mean() < 0.9


def test_more_targets_never_rescue_an_example(trained: CNN, points: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_start(monkeypatch)
    robust = [
        withstands(trained, points, APGD(threat=Linf(eps=0.06), steps=15, loss="targeted", restarts=n).perturb(trained, points))
        for n in (1, 3, 9)
    ]
    assert not (robust[1] & ~robust[0]).any() and not (robust[2] & ~robust[1]).any()
    assert robust[2].sum() < robust[0].sum()


def test_merge_keeps_the_best_of_several_runs() -> None:
    """A misclassified point comes before any other, then the one of highest loss."""
    torch.manual_seed(0)
    rows, loss, fooled = torch.randint(5, (40,)), torch.randn(40), torch.rand(40) < 0.05
    merged = RunResult.empty(torch.zeros(7, 3))
    merged.merge(rows, RunResult(torch.arange(40.0)[:, None].expand(40, 3), loss, fooled))
    for example in range(7):
        candidates = (rows == example).nonzero().squeeze(1).tolist()
        if not candidates:
            assert merged.z[example].eq(0).all() and merged.loss[example] == -torch.inf
            continue
        best = max(candidates, key=lambda row: (bool(fooled[row]), float(loss[row])))
        assert merged.fooled[example] == fooled[best]
        assert bool(fooled[merged.z[example, 0].long()]) if fooled[best] else merged.z[example, 0] == best
    assert merged.fooled.any() and not merged.fooled[:5].all()
