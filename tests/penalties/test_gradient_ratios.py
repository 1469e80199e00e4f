"""Tests of gradient ratios and of relative weights, which are calibrated by them."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from temper.data import Batch
from temper.penalties import L1, L2
from temper.penalties.composition import CALIBRATION_STEPS
from temper.penalties.gradient_ratios import gradient_norm
from temper.training.classifier import Classifier
from temper.training.modules import build_module
from tests.penalties.conftest import TINY, composed, flat

pytestmark = pytest.mark.usefixtures("_outside_of_a_trainer")


def module_of(*overrides: str) -> Classifier:
    return build_module(composed(*overrides, *TINY)).train()


def gradient_norms(module: Classifier, batch: Batch) -> dict[str, float]:
    """Compute the gradient norms of the risk and of both penalties."""
    net = module.net
    parameters = list(net.parameters())

    def norm(value: Tensor) -> float:
        gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        return float(torch.cat([g.flatten() for g in gradients]).norm())

    values = {
        "risk": F.cross_entropy(net(batch.x), batch.y),
        "l1": L1().term(net, batch, batch.x),
        "l2": L2().term(net, batch, batch.x),
    }
    return {name: norm(value) for name, value in values.items()}


def step(module: Classifier, batch: Batch, number: int) -> None:
    optimizer = torch.optim.SGD(module.net.parameters(), lr=0.1)
    module.training_step(batch, number).backward()
    optimizer.step()
    optimizer.zero_grad()


def test_ratios_equal_those_of_the_gradient_norms(batch: Batch) -> None:
    module = module_of("penalty=[l1,l2]")
    expected = gradient_norms(module, batch)
    module.training_step(batch, 0)
    ratios = {name: float(value) for name, value in module.ratios.metrics().items()}
    assert ratios == pytest.approx(
        {f"train/ratio/{name}": module.penalties.weight(name) * expected[name] / expected["risk"] for name in ("l1", "l2")},
        rel=1e-4,
    )


def test_only_the_first_batch_of_an_epoch_is_measured(batch: Batch) -> None:
    module = module_of("penalty=[l2]")
    assert module.ratios.due(0) and not module.ratios.due(1)
    assert not module_of("penalty=[dropout]").ratios.due(0)
    assert not module_of("penalty=[l2]", "penalty.l2.weight=0").ratios.due(0)


def test_measuring_changes_no_gradient(batch: Batch) -> None:
    gradients = []
    for number in (0, 1):  # with and without measuring
        module = module_of("penalty=[l2,confidence]")
        module.training_step(batch, number).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in module.net.parameters() if p.grad is not None]))
    assert torch.equal(*gradients)


def test_a_relative_weight_is_calibrated_in_the_first_steps(batch: Batch) -> None:
    module = module_of("penalty=[l1,l2]", "penalty.l2.relative=0.5")
    assert module.penalties.weight("l2") == 0
    logs: list[float] = []
    for number in range(CALIBRATION_STEPS + 3):
        norms = gradient_norms(module, batch)
        logs.append(math.log(norms["l2"] / norms["risk"]))
        step(module, batch, number)
        first = logs[:CALIBRATION_STEPS]
        assert module.penalties.weight("l2") == pytest.approx(0.5 / math.exp(sum(first) / len(first)), rel=1e-3)
        assert bool(module.penalties.relative) == (number + 1 < CALIBRATION_STEPS)
        if number == 0:
            assert float(module.ratios.metrics()["train/ratio/l2"]) == pytest.approx(0.5, rel=1e-4)
    assert module.penalties.weight("l1") == 1e-3, "other weights are unchanged"


def test_a_relative_weight_applies_from_the_first_step(batch: Batch) -> None:
    module = module_of("penalty=[l2]", "penalty.l2.relative=0.5")
    risk, term = F.cross_entropy(module.net(batch.x), batch.y), L2().term(module.net, batch, batch.x)
    loss = module.training_step(batch, 0)
    torch.testing.assert_close(loss, risk + module.penalties.weight("l2") * term)
    assert module.penalties.weight("l2") > 0


def test_strength_scales_a_relative_weight(batch: Batch) -> None:
    weights = []
    for strength in (1, 3):
        module = module_of("penalty=[l2]", "penalty.l2.relative=0.5", f"strength={strength}")
        module.training_step(batch, 0)
        weights.append(module.penalties.weight("l2"))
    assert weights[1] == pytest.approx(3 * weights[0])


def test_relative_weights_of_two_penalties_are_comparable(batch: Batch) -> None:
    """Equal weights of two penalties have very different effects; equal relative weights have the same gradient norm."""
    module = module_of("penalty=[l1,l2]", "penalty.l1.relative=0.2", "penalty.l2.relative=0.2")
    module.training_step(batch, 0)
    norms = gradient_norms(module, batch)
    for name in ("l1", "l2"):
        assert module.penalties.weight(name) * norms[name] == pytest.approx(0.2 * norms["risk"], rel=1e-4)


def test_a_relative_weight_is_in_the_checkpoint(batch: Batch) -> None:
    module = module_of("penalty=[l2]", "penalty.l2.relative=0.5")
    for number in range(4):
        step(module, batch, number)
    other = module_of("penalty=[l2]", "penalty.l2.relative=0.5")
    other.load_state_dict(module.state_dict())
    for number in range(4, CALIBRATION_STEPS + 2):
        for each in (module, other):
            step(each, batch, number)
        assert module.penalties.weight("l2") == other.penalties.weight("l2")
    assert torch.equal(flat(module), flat(other)) and not other.penalties.relative


def test_a_vanishing_gradient_sets_no_weight() -> None:
    module = module_of("penalty=[l2]", "penalty.l2.relative=0.5")
    module.penalties.calibrate("l2", 0.0)
    assert module.penalties.weight("l2") == 0 and module.penalties.relative == {"l2": 0.5}


def test_gradient_norm_of_several_tensors() -> None:
    torch.testing.assert_close(gradient_norm({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]]).half()}), torch.tensor(5.0))
