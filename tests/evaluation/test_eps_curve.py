"""Minimal-norm distances, robust accuracy by radius, cascades, and resumed evaluations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
def test_minimal_norm_is_the_distance_to_a_plane(threat: Threat, dual: float) -> None:
    """The distance of x to the plane is |w x + b| over the dual norm of w."""
    torch.manual_seed(0)
    weight = torch.randn(1, 3, 3)
    x = torch.full((40, 1, 3, 3), 0.5) + 0.1 * torch.randn(40, 1, 3, 3)
    net = Linear(weight, bias=float(-0.5 * weight.sum()))
    y = net(x).argmax(1)
    y[:3] = 1 - y[:3]
    distance = MinimalNorm(threat=threat, steps=300).distances(net, Loader(x, y, batch_size=16), seed=0)
    exact = net(x)[:, 1].detach().abs() / weight.flatten().norm(p=dual)
    assert (distance[:3] == 0).all(), "misclassified without an attack"
    assert (distance[3:] >= exact[3:] * (1 - 1e-3)).all()
    assert (distance[3:] / exact[3:]).median() < 1.05
    constant = Linear(weight * 0, bias=1.0)
    never = MinimalNorm(threat=threat, steps=5).distances(constant, Loader(x, torch.ones_like(y), batch_size=16), seed=0)
    assert torch.isinf(never).all()


def test_minimal_norm_of_inputs_outside_0_to_1() -> None:
    """Standardized features, for example."""
    weight, x = torch.tensor([2.0, 0.0]), torch.tensor([[3.0, 0.0], [-2.0, 1.0]])
    net = Linear(weight)
    threat = L2(eps=1, lower=-5, upper=5)
    distance = MinimalNorm(threat=threat, steps=200).distances(net, Loader(x, net(x).argmax(1), batch_size=2), seed=0)
    torch.testing.assert_close(distance, torch.tensor([3.0, 2.0]), rtol=0.05, atol=0)


def test_distances_agree_with_robust_accuracy(trained: CNN, loader: Loader) -> None:
    """The fraction of examples further than eps from the decision boundary is the robust accuracy at eps."""
    distance = MinimalNorm(threat=Linf(eps=0.1), steps=200).distances(trained, loader, seed=0)
    for eps in (0.03, 0.06, 0.1):
        robust = attack_all(trained, {"apgd": APGD(threat=Linf(eps=eps), steps=50)}, loader, seed=0).worst_case
        assert (distance > eps).float().mean().item() == pytest.approx(robust.float().mean().item(), abs=0.05)


def test_curves_do_not_rise_and_their_area_is_by_the_trapezoidal_rule(trained: CNN, loader: Loader) -> None:
    curve = Curve(threat=Linf(eps=0.05), factors=[0.5, 1, 2, 40], steps=10)
    assert curve.factors == [0.5, 1, 2], "radii beyond the valid range are dropped"
    outcomes = curve.outcomes(trained, loader, seed=0)
    assert list(outcomes) == ["0", "0.5", "1", "2"]
    stacked = torch.stack(list(outcomes.values()))
    assert not (stacked[1:] & ~stacked[:-1]).any(), "an example that is broken stays broken at larger radii"
    metrics = curve_metrics(outcomes)
    height = [metrics[f"curve/{factor}"] for factor in outcomes]
    assert metrics["curve/area"] == pytest.approx(np.trapezoid(height, [0, 0.5, 1, 2]) / 2)
    direct = attack_all(trained, {"apgd": APGD(threat=Linf(eps=0.05), steps=30)}, loader, seed=0).worst_case
    assert metrics["curve/1"] == pytest.approx(direct.float().mean().item(), abs=0.03)
    with pytest.raises(ValueError, match=r"factors: \[1.0, 0.5\] should be strictly ascending"):
        Curve(threat=Linf(eps=0.1), factors=[1, 0.5])
    with pytest.raises(ValueError, match="every radius exceeds the valid range of width 1"):
        Curve(threat=Linf(eps=0.6), factors=[2, 3])


def test_the_standard_suite_evaluates_tables_with_two_classes() -> None:
    """Features outside of [0, 1], some of them immutable, under every attack of evaluation=standard."""
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
    for threat in (Linf(eps=0.3, lower=-3, upper=3), L2(eps=1.5, lower=-3, upper=3), L1(eps=4, lower=-3, upper=3)):
        attacks = {name: attack.build(threat=threat) for name, attack in config.evaluation.attacks.items()}
        outcomes = attack_all(net, attacks, loader, seed=0)
        accuracy = {name: right.float().mean().item() for name, right in outcomes.robust.items()}
        assert outcomes.clean.float().mean() > 0.95
        assert 0.02 < outcomes.worst_case.float().mean() < 0.9, accuracy
        assert abs(accuracy["pgd"] - accuracy["apgd_dlr"]) < 0.05 and accuracy["square"] < accuracy["fgsm"] + 0.2, accuracy
        findings = Audit(threat=threat, size=100).findings(net, loader, attacked=False, seed=0, worst_case=outcomes.worst_case)
        assert {name for name, finding in findings.items() if finding.status == "failed"} == set(), findings
    with pytest.raises(ValueError, match="minimal_norm: its attacks cannot respect immutable features"):
        MinimalNorm(threat=Linf(eps=0.1)).distances(net, loader, seed=0)


class Spy(Attack):
    """Records its batch sizes; breaks nothing, or every second example."""

    def __init__(self, breaks: bool) -> None:
        super().__init__()
        self.breaks, self.sizes = breaks, list[int]()

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        self.sizes.append(len(batch))
        broken = PGD(threat=Linf(eps=0.5), steps=20).perturb(net, batch)
        even = (torch.arange(len(batch)) % 2 == 0)[:, None, None, None]
        return torch.where(even, broken, batch.x) if self.breaks else batch.x


def test_a_cascade_regroups_robust_examples_into_full_batches(trained: CNN, loader: Loader) -> None:
    first, second = Spy(True), Spy(False)
    outcomes = attack_all(trained, {"cascade": Cascade(attacks={"first": first, "second": second})}, loader, seed=0)
    clean, robust = int(outcomes.clean.sum()), int(outcomes.worst_case.sum())
    assert first.sizes == [64] * (clean // 64) + [clean % 64], "misclassified examples are not attacked"
    assert second.sizes == [64] * (robust // 64) + [robust % 64]
    assert 0.4 < robust / clean < 0.6


def test_a_cascade_is_as_strong_as_its_attacks(trained: CNN, loader: Loader) -> None:
    parts = {"pgd": PGD(threat=Linf(eps=0.06), steps=10), "square": Square(threat=Linf(eps=0.06), queries=100)}
    whole = attack_all(trained, {"both": Cascade(attacks=parts)}, loader, seed=0).worst_case.sum()
    each = attack_all(trained, parts, loader, seed=0).worst_case.sum()
    assert whole == pytest.approx(int(each), abs=3)


def test_cascades_with_equal_stage_names_share_no_partial_results(
    trained: CNN, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "MIN_SECONDS_TO_STORE", 0.0)
    nothing = PGD(threat=Linf(eps=1e-6), steps=1)
    second = {"weak": nothing, "strong": PGD(threat=Linf(eps=0.1), steps=10)}
    attacks: dict[str, Attack] = {name: Cascade(attacks={"first": nothing, "then": last}) for name, last in second.items()}
    kept = attack_all(trained, attacks, loader, seed=0, ledger=Ledger(tmp_path)).robust
    assert {path.name.partition("-")[0] for path in tmp_path.glob("*.npz")} == {"weak", "strong"}
    assert kept["strong"].sum() < kept["weak"].sum()


def test_an_interrupted_evaluation_resumes_from_its_partial_results(
    trained: CNN, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "MIN_SECONDS_TO_STORE", 0.0)
    attacks = {
        "pgd": PGD(threat=Linf(eps=0.06), steps=5),
        "cascade": Cascade(attacks={"a": PGD(threat=Linf(eps=0.06), steps=5)}),
    }
    uninterrupted = attack_all(trained, attacks, loader, seed=0)
    calls = 0
    perturb = PGD.perturb

    def interrupted(self: PGD, net: Network, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt
        return perturb(self, net, batch)

    monkeypatch.setattr(PGD, "perturb", interrupted)
    with pytest.raises(KeyboardInterrupt):
        attack_all(trained, attacks, loader, seed=0, ledger=Ledger(tmp_path))
    assert len(list(tmp_path.glob("*.npz"))) == 6 and not list(tmp_path.glob(".*"))
    resumed = attack_all(trained, attacks, loader, seed=0, ledger=Ledger(tmp_path))
    assert calls == 7 + 1, "only the missing batch is computed"
    for expected, array in zip(uninterrupted.arrays().values(), resumed.arrays().values(), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_a_partial_result_is_reused_only_for_the_same_examples(
    trained: CNN, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses round differently on another machine, which can change the order of examples in a cascade."""
    monkeypatch.setattr(ledger_module, "MIN_SECONDS_TO_STORE", 0.0)
    attacks = {"cascade": Cascade(attacks={"a": PGD(threat=Linf(eps=0.06), steps=5, start="zero")})}
    expected = attack_all(trained, attacks, loader, seed=0, ledger=Ledger(tmp_path)).robust["cascade"]
    evaluate_clean = outcomes_module._evaluate_clean

    def reordered(*arguments: Any) -> dict[str, Tensor]:
        values = evaluate_clean(*arguments)
        return values | {"loss": -values["loss"]}

    monkeypatch.setattr(outcomes_module, "_evaluate_clean", reordered)
    assert torch.equal(attack_all(trained, attacks, loader, seed=0, ledger=Ledger(tmp_path)).robust["cascade"], expected)


def test_the_evaluation_of_a_random_network_is_reproducible(trained: CNN, loader: Loader) -> None:
    class Random(Network):
        def logits(self, z: Tensor) -> Tensor:
            return trained(z + 0.3 * torch.randn_like(z))

    torch.manual_seed(1)
    first = attack_all(Random(), {}, loader, seed=0)
    torch.manual_seed(2)
    assert torch.equal(first.loss, attack_all(Random(), {}, loader, seed=0).loss)


def test_the_fingerprint_depends_on_weights_and_code(trained: CNN) -> None:
    before = fingerprint(trained, "code")
    assert before == fingerprint(trained, "code") != fingerprint(trained, "other code")
    with torch.no_grad():
        next(trained.parameters()).view(-1)[0] += 1e-6
    try:
        assert fingerprint(trained, "code") != before
    finally:
        with torch.no_grad():
            next(trained.parameters()).view(-1)[0] -= 1e-6
