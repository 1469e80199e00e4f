"""Square: agreement with torchattacks, which ports the authors' code, and consistency."""

import pytest
import torch
import torchattacks
from torch import Tensor, nn

from temper.attacks import L1, L2, Linf, Square, Threat
from temper.attacks.autoattack.square_windows import LinfProposals
from temper.data import Batch, DataModule
from temper.models import CNN, MLP
from tests.conftest import Linear


def accuracy(net: nn.Module, batch: Batch, x_adv: Tensor) -> float:
    with torch.no_grad():
        return (net(x_adv).argmax(1) == batch.y).float().mean().item()


@pytest.mark.parametrize(("threat", "norm"), [(Linf(eps=0.12), "Linf"), (L2(eps=0.8), "L2")])
def test_square_is_as_strong_as_torchattacks(threat: Threat, norm: str, trained: CNN, digits: DataModule) -> None:
    x, y = digits.split("test")
    batch = Batch.of(x, y)
    torch.manual_seed(0)
    ours = accuracy(trained, batch, Square(threat=threat, queries=500).perturb(trained, batch))
    engine = torchattacks.Square(trained, norm=norm, eps=threat.eps, n_queries=500, resc_schedule=False, seed=0)
    theirs = accuracy(trained, batch, engine(x, y))
    assert ours <= theirs + 0.03
    assert ours < accuracy(trained, batch, x) - 0.2


@pytest.mark.parametrize("threat", [Linf(eps=0.08), L2(eps=0.5), L1(eps=2.0)])
def test_parallel_queries_reach_the_points_of_sequential_ones(threat: Threat, trained: CNN, digits: DataModule) -> None:
    x, y = digits.split("test")
    batch, attack = Batch.of(x[:40], y[:40]), Square(threat=threat, queries=300)
    points = []
    for rows in (40, 160, 2000):
        torch.manual_seed(0)
        points.append(attack.perturb(trained, batch, rows))
    # Margins may differ by rounding between batch sizes, so a query may be kept in one of them only.
    for other in points[1:]:
        assert ((points[0] - other).abs() < 1e-5).flatten(1).all(1).float().mean() > 0.9
        assert (trained(points[0]).argmax(1) != trained(other).argmax(1)).sum() <= 1


def test_skipping_ineffective_queries_changes_no_point(
    trained: CNN, digits: DataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = digits.split("test")
    batch, attack = Batch.of(x[:40], y[:40]), Square(threat=Linf(eps=0.08), queries=600)
    results, asked = [], []
    hook = trained.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    for _ in range(2):
        torch.manual_seed(0)
        asked.clear()
        results.append((attack.perturb(trained, batch), sum(asked)))
        monkeypatch.setattr(
            LinfProposals, "effective", lambda self, x, z: torch.ones(len(self.change), len(x), dtype=torch.bool)
        )
    hook.remove()
    (points, cost), (points_of_all, cost_of_all) = results
    assert cost < 0.9 * cost_of_all
    assert ((points - points_of_all).abs() < 1e-5).flatten(1).all(1).float().mean() > 0.9


def test_more_queries_never_rescue_an_example(trained: CNN, batch: Batch) -> None:
    robust = []
    for queries in (1, 30, 300):
        torch.manual_seed(0)
        x_adv = Square(threat=Linf(eps=0.1), queries=queries).perturb(trained, batch)
        robust.append(trained(x_adv).argmax(1) == batch.y)
    assert not (robust[1] & ~robust[0]).any() and not (robust[2] & ~robust[1]).any()


@pytest.mark.parametrize("threat", [Linf(eps=0.1), L2(eps=0.5), L1(eps=1.0)])
def test_features_without_spatial_layout(threat: Threat) -> None:
    """Compare with the known optimum of a linear model on ten features, which have no neighborhood."""
    torch.manual_seed(0)
    weight = torch.randn(10)
    net = Linear(weight, bias=float(3 - weight.sum() / 2))
    batch = Batch.of(torch.full((20, 10), 0.5), torch.ones(20, dtype=torch.int64))
    x_adv = Square(threat=threat, queries=3000, share=0.3).perturb(net, batch)
    gained = (net(batch.x) - net(x_adv))[:, 1]
    best = {"linf": weight.abs().sum(), "l2": weight.norm(), "l1": weight.abs().max()}[threat.norm] * threat.eps
    assert (gained >= {"linf": 0.99, "l2": 0.7, "l1": 0.7}[threat.norm] * best).all() and (gained <= best * 1.001).all()


def test_square_uses_no_gradients(batch: Batch) -> None:
    class Step(MLP):
        def logits(self, z: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            return super().logits(z)

    net = Step(shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.4], hidden=[8])
    Square(threat=Linf(eps=0.1), queries=5).perturb(net, batch)
