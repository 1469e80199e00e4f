"""AutoAttack and cascades: agreement with the reference implementation, batch filling and order."""

from pathlib import Path

import numpy as np
import pyautoattack
import pytest
import torch
from torch import nn

from temper.attacks import APGD, FAB, L1, L2, PGD, Attack, AutoAttack, Cascade, Filling, Linf, Square, Threat
from temper.data import Batch, DataModule, Loader
from temper.evaluation import attack_all, ledger
from temper.evaluation.ledger import Ledger
from temper.models import CNN


@pytest.mark.slow
@pytest.mark.parametrize(("threat", "norm"), [(Linf(eps=0.06), "Linf"), (L2(eps=0.4), "L2")])
def test_verdicts_equal_the_reference(threat: Threat, norm: str, trained: CNN, digits: DataModule) -> None:
    """Compare with the authors' code as maintained in `pyautoattack`, with fewer queries of Square on both sides."""
    x, y = (part[:150] for part in digits.split("test"))
    reference = pyautoattack.AutoAttack(trained, norm=norm, eps=threat.eps, seed=0, version="standard", device="cpu")
    reference.square.n_queries = 500
    _, predicted = reference.run_standard_evaluation(x, y, batch_size=150)
    attack = AutoAttack(threat=threat, n_queries=500)
    ours = attack_all(trained, {"autoattack": attack}, Loader(x, y, batch_size=150), seed=0).worst_case
    assert 0.1 < ours.float().mean() < 0.9
    assert (ours != (predicted == y)).sum() == 0


def test_autoattack_has_the_official_parts() -> None:
    """The authors' `standard` version: 100 steps, nine targets, 5,000 queries."""
    parts = AutoAttack(threat=Linf(eps=0.1)).attacks
    assert list(parts) == ["apgd_ce", "apgd_t", "fab_t", "square"]
    ce, targeted, fab, square = parts.values()
    assert isinstance(ce, APGD) and isinstance(targeted, APGD) and isinstance(fab, FAB) and isinstance(square, Square)
    assert (ce.loss, ce.runs, ce.steps) == ("ce", 1, 100)
    assert (targeted.loss, targeted.runs, targeted.steps) == ("targeted", 9, 100)
    assert (fab.runs, fab.steps) == (9, 100) and square.queries == 5000


@pytest.mark.parametrize("threat", [L1(eps=1), Linf(eps=0.1, lower=-1)])
def test_other_threats_are_rejected(threat: Threat) -> None:
    with pytest.raises(ValueError, match="defined for linf and l2"):
        AutoAttack(threat=threat)


def test_more_than_ten_classes() -> None:
    net = CNN(shape=(1, 8, 8), classes=23, mean=[0.3], std=[0.4], width=2, hidden=4).eval()
    x = torch.rand(6, 1, 8, 8)
    loader = Loader(x, net(x).argmax(1), batch_size=6)
    outcomes = attack_all(net, {"aa": AutoAttack(threat=Linf(eps=0.01), steps=5, n_queries=5)}, loader, seed=0)
    assert outcomes.worst_case.shape == (6,)


@pytest.mark.parametrize("rows", [None, 100])
def test_forward_passes_fill_but_do_not_exceed_rows(rows: int | None, trained: CNN, digits: DataModule) -> None:
    """With spare rows, further targets or queries of the same examples fill the forward passes."""
    x, y = (part[:40] for part in digits.split("test"))
    for name, attack in AutoAttack(threat=Linf(eps=0.06), steps=10, n_queries=30).attacks.items():
        assert isinstance(attack, Filling)
        seen: list[int] = []
        hook = trained.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(len(inputs[0])))
        attack.perturb(trained, Batch.of(x, y), rows)
        hook.remove()
        assert max(seen) <= (rows or 40)
        if rows and name != "apgd_ce":
            assert max(seen) > (40 if name == "square" else 99)  # only whole queries of all remaining examples


def test_evaluation_fills_its_batches(trained: CNN, digits: DataModule) -> None:
    x, y = (part[:40] for part in digits.split("test"))
    seen: list[int] = []
    hook = trained.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    attack = AutoAttack(threat=Linf(eps=0.06), steps=10, n_queries=30)
    attack_all(trained, {"aa": attack}, Loader(x, y, batch_size=64), seed=0)
    hook.remove()
    assert max(seen) == 64


def test_resumed_evaluation_is_bit_identical(
    trained: CNN, digits: DataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MIN_SECONDS_TO_STORE", 0.0)
    x, y = (part[:90] for part in digits.split("test"))
    loader, attack = Loader(x, y, batch_size=32), AutoAttack(threat=Linf(eps=0.06), steps=10, n_queries=30)
    whole = attack_all(trained, {"aa": attack}, loader, seed=0).arrays()

    class Interrupted(Ledger):
        pieces = 0

        def load_or_compute(self, *arguments):  # type: ignore[no-untyped-def]
            self.pieces += 1
            if self.pieces > 5:
                raise KeyboardInterrupt
            return super().load_or_compute(*arguments)

    with pytest.raises(KeyboardInterrupt):
        attack_all(trained, {"aa": attack}, loader, seed=0, ledger=Interrupted(tmp_path))
    assert len(list(tmp_path.iterdir())) == 5
    resumed = attack_all(trained, {"aa": attack}, loader, seed=0, ledger=Ledger(tmp_path)).arrays()
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)


def test_outcomes_keep_the_order_of_the_data(trained: CNN, digits: DataModule) -> None:
    """The cascade reorders examples, but each one alone has the same verdict, since FAB is deterministic."""
    x, y = (part[:60] for part in digits.split("test"))
    threat = Linf(eps=0.05)
    cascade = Cascade(attacks={"few": FAB(threat=threat, steps=2, targets=1), "all": FAB(threat=threat, steps=10, targets=5)})
    together = attack_all(trained, {"fab": cascade}, Loader(x, y, batch_size=25), seed=0)
    assert 0.1 < together.worst_case.float().mean() < 0.9
    for row in range(0, 60, 8):
        alone = attack_all(trained, {"fab": cascade}, Loader(x[row : row + 1], y[row : row + 1], batch_size=1), seed=0)
        assert alone.predicted["fab"].item() == together.predicted["fab"][row]
        torch.testing.assert_close(
            alone.adversarial_loss["fab"][0], together.adversarial_loss["fab"][row], rtol=1e-3, atol=1e-4
        )


def test_examples_of_highest_loss_come_first(trained: CNN, digits: DataModule) -> None:
    """The loss is that at the inputs for the first attack, and at the worse of two points for the second."""
    x, y = (part[:80] for part in digits.split("test"))
    before, after = [], []

    class Recording(Attack):
        def perturb(self, net, batch):  # type: ignore[no-untyped-def]
            x_adv = PGD(threat=Linf(eps=0.03), steps=1, start="zero").perturb(net, batch)
            losses = [nn.functional.cross_entropy(net(points), batch.y, reduction="none") for points in (batch.x, x_adv)]
            before.append(losses[0])
            after.append(torch.maximum(*losses))
            return x_adv

    cascade = Cascade(attacks={"first": Recording(), "second": Recording()})
    attack_all(trained, {"noted": cascade}, Loader(x, y, batch_size=32), seed=0)
    correct = int((trained(x).argmax(1) == y).sum())
    first, second = torch.cat(before)[:correct], torch.cat(after)[correct:]
    assert 0 < len(second) <= correct
    assert (first.diff() <= 1e-5).all() and (second.diff() <= 1e-5).all()
    assert not (torch.cat(before)[correct:].diff() <= 1e-5).all(), "the order differs between the attacks"
