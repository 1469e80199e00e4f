"""Other views of robustness than a single radius, and evaluations that are interrupted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from temper.attacks import APGD, L1, L2, PGD, Attack, Cascade, Linf, Square, Threat
from temper.data import Batch, DataModule, Loader
from temper.evaluation import Audit, Curve, Ledger, MinimalNorm, attack_all, fingerprint
from temper.evaluation import ledger as ledger_module
from temper.evaluation import outcomes as outcomes_module
from temper.evaluation.eps_curve import curve_metrics
from temper.models import CNN, MLP, Network
from tests.conftest import Linear, composed


@pytest.fixture
def loader(digits: DataModule) -> Loader:
    x, y = digits.split("test")
    return Loader(x[:200], y[:200], batch_size=64)


@pytest.mark.parametrize(("threat", "dual"), [(Linf(eps=0.1), 1), (L2(eps=0.1), 2), (L1(eps=0.1), float("inf"))])
def test_the_distance_to_a_plane(threat: Threat, dual: float) -> None:
    """|w x + b| over the dual norm of w."""
    torch.manual_seed(0)
    weight = torch.randn(1, 3, 3)
    x = torch.full((40, 1, 3, 3), 0.5) + 0.1 * torch.randn(40, 1, 3, 3)
    net = Linear(weight, bias=float(-0.5 * weight.sum()))
    y = net(x).argmax(1)
    y[:3] = 1 - y[:3]
    found = MinimalNorm(threat=threat, steps=300).distances(net, Loader(x, y, batch_size=16), seed=0)
    exact = net(x)[:, 1].detach().abs() / weight.flatten().norm(p=dual)
    assert (found[:3] == 0).all(), "what is wrong already needs no change"
    assert (found[3:] >= exact[3:] * (1 - 1e-3)).all()
    assert (found[3:] / exact[3:]).median() < 1.05
    half = Linear(weight * 0, bias=1.0)
    never = MinimalNorm(threat=threat, steps=5).distances(half, Loader(x, torch.ones_like(y), batch_size=16), seed=0)
    assert torch.isinf(never).all()


def test_inputs_in_another_range() -> None:
    """Standardized features have no [0, 1]."""
    weight, x = torch.tensor([2.0, 0.0]), torch.tensor([[3.0, 0.0], [-2.0, 1.0]])
    net = Linear(weight)
    threat = L2(eps=1, lower=-5, upper=5)
    found = MinimalNorm(threat=threat, steps=200).distances(net, Loader(x, net(x).argmax(1), batch_size=2), seed=0)
    torch.testing.assert_close(found, torch.tensor([3.0, 2.0]), rtol=0.05, atol=0)


def test_distances_agree_with_robust_accuracy(trained: CNN, loader: Loader) -> None:
    """The share of examples that are further than eps from the boundary is the robust accuracy at eps."""
    distance = MinimalNorm(threat=Linf(eps=0.1), steps=200).distances(trained, loader, seed=0)
    for eps in (0.03, 0.06, 0.1):
        stands = attack_all(trained, {"apgd": APGD(threat=Linf(eps=eps), steps=50)}, loader, seed=0).worst_case
        assert (distance > eps).float().mean().item() == pytest.approx(stands.float().mean().item(), abs=0.05)


def test_curves_fall_and_their_area_is_the_trapezoid(trained: CNN, loader: Loader) -> None:
    curve = Curve(threat=Linf(eps=0.05), factors=[0.5, 1, 2, 40], steps=10)
    assert curve.factors == [0.5, 1, 2], "a radius beyond the whole range is none"
    found = curve.outcomes(trained, loader, seed=0)
    assert list(found) == ["0", "0.5", "1", "2"]
    stacked = torch.stack(list(found.values()))
    assert not (stacked[1:] & ~stacked[:-1]).any(), "what fell stays down"
    metrics = curve_metrics(found)
    height = [metrics[f"curve/{factor}"] for factor in found]
    assert metrics["curve/area"] == pytest.approx(np.trapezoid(height, [0, 0.5, 1, 2]) / 2)
    direct = attack_all(trained, {"apgd": APGD(threat=Linf(eps=0.05), steps=30)}, loader, seed=0).worst_case
    assert metrics["curve/1"] == pytest.approx(direct.float().mean().item(), abs=0.03)
    with pytest.raises(ValueError, match="should ascend"):
        Curve(threat=Linf(eps=0.1), factors=[1, 0.5])
    with pytest.raises(ValueError, match="covers the whole valid range"):
        Curve(threat=Linf(eps=0.6), factors=[2, 3])


def test_tables_with_two_classes_are_evaluated_by_the_same_suite() -> None:
    """Features in a range of their own, some of which may not change; every attack of evaluation=standard."""
    table = load_breast_cancer()
    x = torch.from_numpy(StandardScaler().fit_transform(table.data)).float().clamp(-3, 3)
    y = torch.from_numpy(table.target).long()
    torch.manual_seed(0)
    net = MLP(shape=[30], classes=2, mean=[0.0], std=[1.0], hidden=[16])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    net.eval()
    mask = (torch.arange(30) < 20).float()[None]
    loader = Loader(x[:200], y[:200], batch_size=64, mask=lambda _: mask)
    config = composed("evaluation=standard")
    for threat in (Linf(eps=0.3, lower=-3, upper=3), L2(eps=0.8, lower=-3, upper=3), L1(eps=1.5, lower=-3, upper=3)):
        attacks = {name: instantiate(config.evaluation.attacks[name], threat=threat) for name in config.evaluation.attacks}
        outcomes = attack_all(net, attacks, loader, seed=0)
        accuracy = {name: right.float().mean().item() for name, right in outcomes.robust.items()}
        assert outcomes.clean.float().mean() > 0.95
        assert 0.02 < outcomes.worst_case.float().mean() < 0.9, accuracy
        assert abs(accuracy["pgd"] - accuracy["apgd_dlr"]) < 0.05 and accuracy["square"] < accuracy["fgsm"] + 0.2, accuracy
        findings = Audit(threat=threat, size=100).findings(net, loader, attacked=False, seed=0, standing=outcomes.worst_case)
        assert {name for name, finding in findings.items() if finding.status == "failed"} == set(), findings
    with pytest.raises(ValueError, match="cannot leave features alone"):
        MinimalNorm(threat=Linf(eps=0.1)).distances(net, loader, seed=0)


class Spy(Attack):
    """Notes how many examples it is given; breaks nothing, or all of an even index."""

    def __init__(self, breaks: bool) -> None:
        super().__init__()
        self.breaks, self.sizes = breaks, list[int]()

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        self.sizes.append(len(batch))
        broken = PGD(threat=Linf(eps=0.5), steps=20).perturb(net, batch)
        even = (torch.arange(len(batch)) % 2 == 0)[:, None, None, None]
        return torch.where(even, broken, batch.x) if self.breaks else batch.x


def test_a_cascade_regroups_what_stands_into_full_batches(trained: CNN, loader: Loader) -> None:
    first, second = Spy(True), Spy(False)
    outcomes = attack_all(trained, {"cascade": Cascade(attacks={"first": first, "second": second})}, loader, seed=0)
    clean, standing = int(outcomes.clean.sum()), int(outcomes.worst_case.sum())
    assert first.sizes == [64] * (clean // 64) + [clean % 64], "what is misclassified needs no attack"
    assert second.sizes == [64] * (standing // 64) + [standing % 64]
    assert 0.4 < standing / clean < 0.6


def test_a_cascade_is_no_weaker_than_its_parts(trained: CNN, loader: Loader) -> None:
    parts = {"pgd": PGD(threat=Linf(eps=0.06), steps=10), "square": Square(threat=Linf(eps=0.06), queries=100)}
    whole = attack_all(trained, {"both": Cascade(attacks=parts)}, loader, seed=0).worst_case.sum()
    each = attack_all(trained, parts, loader, seed=0).worst_case.sum()
    assert whole == pytest.approx(int(each), abs=3)


def test_cascades_whose_stages_have_the_same_names_share_nothing(
    trained: CNN, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "WORTH_KEEPING", 0.0)
    nothing = PGD(threat=Linf(eps=1e-6), steps=1)
    second = {"weak": nothing, "strong": PGD(threat=Linf(eps=0.1), steps=10)}
    attacks: dict[str, Attack] = {name: Cascade(attacks={"first": nothing, "then": last}) for name, last in second.items()}
    kept = attack_all(trained, attacks, loader, seed=0, ledger=Ledger(tmp_path)).robust
    assert {path.name.partition("-")[0] for path in tmp_path.glob("*.npz")} == {"weak", "strong"}
    assert kept["strong"].sum() < kept["weak"].sum()


def test_an_interrupted_evaluation_goes_on_where_it_stopped(
    trained: CNN, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "WORTH_KEEPING", 0.0)
    attacks = {
        "pgd": PGD(threat=Linf(eps=0.06), steps=5),
        "cascade": Cascade(attacks={"a": PGD(threat=Linf(eps=0.06), steps=5)}),
    }
    undisturbed = attack_all(trained, attacks, loader, seed=0)
    calls = 0
    perturb = PGD.perturb

    def dying(self: PGD, net: Network, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt
        return perturb(self, net, batch)

    monkeypatch.setattr(PGD, "perturb", dying)
    with pytest.raises(KeyboardInterrupt):
        attack_all(trained, attacks, loader, seed=0, ledger=Ledger(tmp_path))
    assert len(list(tmp_path.glob("*.npz"))) == 6 and not list(tmp_path.glob(".*"))
    resumed = attack_all(trained, attacks, loader, seed=0, ledger=Ledger(tmp_path))
    assert calls == 7 + 1, "the rest alone"
    for one, other in zip(undisturbed.arrays().values(), resumed.arrays().values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_piece_is_taken_for_its_own_examples_alone(
    trained: CNN, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine rounds losses otherwise, and with them the order in which a cascade takes on what stands."""
    monkeypatch.setattr(ledger_module, "WORTH_KEEPING", 0.0)
    attacks = {"cascade": Cascade(attacks={"a": PGD(threat=Linf(eps=0.06), steps=5, start="zero")})}
    undisturbed = attack_all(trained, attacks, loader, seed=0, ledger=Ledger(tmp_path)).robust["cascade"]
    clean = outcomes_module._clean

    def elsewhere(*arguments: Any) -> dict[str, Tensor]:
        found = clean(*arguments)
        return found | {"loss": -found["loss"]}

    monkeypatch.setattr(outcomes_module, "_clean", elsewhere)
    assert torch.equal(attack_all(trained, attacks, loader, seed=0, ledger=Ledger(tmp_path)).robust["cascade"], undisturbed)


def test_a_random_network_is_evaluated_the_same_way_twice(trained: CNN, loader: Loader) -> None:
    class Random(Network):
        def logits(self, z: Tensor) -> Tensor:
            return trained(z + 0.3 * torch.randn_like(z))

    torch.manual_seed(1)
    one = attack_all(Random(), {}, loader, seed=0)
    torch.manual_seed(2)
    assert torch.equal(one.loss, attack_all(Random(), {}, loader, seed=0).loss)


def test_pieces_of_other_weights_are_never_taken(trained: CNN) -> None:
    one = fingerprint(trained, "code")
    assert one == fingerprint(trained, "code") != fingerprint(trained, "other code")
    with torch.no_grad():
        next(trained.parameters()).view(-1)[0] += 1e-6
    try:
        assert fingerprint(trained, "code") != one
    finally:
        with torch.no_grad():
            next(trained.parameters()).view(-1)[0] -= 1e-6
