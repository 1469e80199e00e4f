"""Tests of learned weights: the gradient through one step against autograd and against a finite difference."""

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from temper.attacks import PGD, Attack, Linf, NoAttack
from temper.data import Batch, DataModule
from temper.models import CNN
from temper.penalties import L1, L2
from temper.penalties.meta import _WeightLearner, hypergradient
from temper.training.modules import Classifier, build_module
from tests.conftest import small_net
from tests.penalties.conftest import TINY, composed, fit, flat, images, normed_net

LR = 0.3
WEIGHTS = {"l1": 0.01, "l2": 0.2}


def gradients(net: CNN, batch: Batch, create_graph: bool = False) -> dict[str, list[Tensor]]:
    """Compute the gradients of the risk and of two penalties before their weights, for all parameters."""
    values = {
        "risk": F.cross_entropy(net(batch.x), batch.y),
        "l1": L1(parameters="all").term(net, batch, batch.x),
        "l2": L2(parameters="all").term(net, batch, batch.x),
    }
    parameters = list(net.parameters())
    return {
        name: list(torch.autograd.grad(v, parameters, create_graph=create_graph, retain_graph=True))
        for name, v in values.items()
    }


def stepped(net: CNN, grads: Mapping[str, list[Tensor]], weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights w' after one step of SGD, by parameter name."""
    moved = {}
    for position, (name, parameter) in enumerate(net.named_parameters()):
        total = grads["risk"][position] + sum(weights[p] * grads[p][position] for p in weights)
        moved[name] = parameter - LR * total
    return moved


@pytest.mark.parametrize("attack", [NoAttack(), PGD(threat=Linf(eps=0.1), steps=2, start="zero")])
def test_hypergradient_matches_autograd_through_one_step(attack: Attack) -> None:
    net, batch, held_out = small_net(), images(16, seed=0), images(16, seed=1)
    grads = gradients(net, batch)
    w = stepped(net, grads, WEIGHTS)
    moved = {name: (w[name] - parameter).detach() for name, parameter in net.named_parameters()}
    outer = hypergradient(net, moved, held_out, attack, key=(0, "meta", 0))

    weights = {name: torch.tensor(value, requires_grad=True) for name, value in WEIGHTS.items()}
    with torch.no_grad():
        shifted = small_net()
        shifted.load_state_dict({name: value.detach() for name, value in w.items()})
    x_adv = attack.perturb(shifted.eval(), held_out)
    after = stepped(net, gradients(net, batch, create_graph=True), weights)
    loss = F.cross_entropy(functional_call(net, after, (x_adv,)), held_out.y)
    expected = torch.autograd.grad(loss, list(weights.values()))
    for name, derivative in zip(weights, expected, strict=True):
        product = sum((outer[n] * g).sum() for (n, _), g in zip(net.named_parameters(), grads[name], strict=True))
        torch.testing.assert_close(torch.as_tensor(-LR * product), derivative, rtol=1e-3, atol=1e-6)


def test_hypergradient_matches_a_finite_difference() -> None:
    net, batch, held_out = small_net().double(), images(16, seed=0), images(16, seed=1)
    batch, held_out = (Batch.of(b.x.double(), b.y) for b in (batch, held_out))
    grads = gradients(net, batch)
    w = stepped(net, grads, WEIGHTS)
    moved = {name: (w[name] - parameter).detach() for name, parameter in net.named_parameters()}
    outer = hypergradient(net, moved, held_out, NoAttack(), key=(0, "meta", 0))

    def held_out_loss(weights: Mapping[str, float]) -> float:
        return float(F.cross_entropy(functional_call(net, stepped(net, grads, weights), (held_out.x,)), held_out.y).detach())

    for name in WEIGHTS:
        h = 1e-5
        more, less = ({**WEIGHTS, name: WEIGHTS[name] + by} for by in (h, -h))
        product = sum(float((outer[n] * g).sum()) for (n, _), g in zip(net.named_parameters(), grads[name], strict=True))
        # The tolerance is large since the loss is computed in float32 even with float64 weights.
        assert (held_out_loss(more) - held_out_loss(less)) / (2 * h) == pytest.approx(-LR * product, rel=0.05)


def test_hypergradient_does_not_change_the_network() -> None:
    net = normed_net().train()
    before, state = flat(net).clone(), {name: value.clone() for name, value in net.named_buffers()}
    moved = {name: torch.full_like(parameter, 0.01) for name, parameter in net.named_parameters()}
    outer = hypergradient(net, moved, images(), PGD(threat=Linf(eps=0.1), steps=1), key=(0, "meta", 0))
    assert outer.keys() == moved.keys()
    assert torch.equal(flat(net), before) and net.training and all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.named_buffers())


def learner(*overrides: str) -> tuple[_WeightLearner, Classifier, DataModule, torch.optim.Optimizer]:
    """Return the callback of a run with l1, l2 and meta that uses all held-out examples without an attack."""
    from temper.data.loading import build_data

    config = composed("penalty=[l1,l2,meta]", "penalty.meta.size=10000", *overrides, *TINY)
    module, data = build_module(config), build_data(config)
    module.validation = NoAttack()
    data.setup()
    (callback,) = module.penalties.callbacks()
    assert isinstance(callback, _WeightLearner)
    return callback, module, data, torch.optim.SGD(module.net.parameters(), lr=LR)


def start(
    callback: _WeightLearner, module: Classifier, data: DataModule, optimizer: torch.optim.Optimizer, step: int = 0
) -> None:
    trainer = SimpleNamespace(global_step=step, optimizers=[optimizer], datamodule=data, accumulate_grad_batches=1)
    batch = next(iter(data.loader("train", batch_size=32, seed=0)))
    callback.on_train_batch_start(cast(Any, trainer), module, batch, step)


def cosines(module: Classifier, data: DataModule) -> dict[str, float]:
    """Compute the cosine of the held-out gradient after one step and the gradient of each penalty."""
    net = module.net
    batch = next(iter(data.loader("train", batch_size=32, seed=0)))
    parameters = dict(net.named_parameters())
    values = {
        "risk": F.cross_entropy(net(batch.x), batch.y),
        "l1": L1().term(net, batch, batch.x),
        "l2": L2().term(net, batch, batch.x),
    }
    flat_gradients = {}
    for name, value in values.items():
        grads = torch.autograd.grad(value, list(parameters.values()), allow_unused=True, materialize_grads=True)
        flat_gradients[name] = torch.cat([g.flatten() for g in grads])
    total = flat_gradients["risk"] + sum(module.penalties.weight(name) * flat_gradients[name] for name in ("l1", "l2"))
    torch.nn.utils.vector_to_parameters(flat(net) - LR * total, (after := copy.deepcopy(net)).parameters())
    x, y = data.split("val")
    held = torch.cat([g.flatten() for g in torch.autograd.grad(F.cross_entropy(after.eval()(x), y), list(after.parameters()))])
    return {name: float(F.cosine_similarity(held, flat_gradients[name], dim=0)) for name in ("l1", "l2")}


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_logarithms_of_weights_change_by_the_cosine() -> None:
    callback, module, data, optimizer = learner("penalty.meta.rate=0.5")
    expected = {"l1": 0.0, "l2": 0.0}
    for _ in range(3):
        for name, cosine in cosines(module, data).items():
            expected[name] += 0.5 * cosine
        start(callback, module, data, optimizer)
        logs = {name: math.log(module.penalties.factors[name]) for name in expected}
        assert logs == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert abs(expected["l1"]) > 1e-3 and abs(expected["l2"]) > 1e-3
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_a_useful_penalty_gets_a_larger_weight() -> None:
    """Network weights that are much too large make l2 useful."""
    callback, module, data, optimizer = learner("penalty.meta.rate=1")
    with torch.no_grad():
        for parameter in module.net.parameters():
            parameter.mul_(6)
    start(callback, module, data, optimizer)
    assert module.penalties.factors["l2"] > 1


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_updates_respect_every_most_of_and_rate() -> None:
    callback, module, data, optimizer = learner("penalty.meta.rate=1000", "penalty.meta.most=7", "penalty.meta.every=4")
    start(callback, module, data, optimizer, step=3)
    assert module.penalties.factors == {}
    start(callback, module, data, optimizer, step=4)
    assert all(min(abs(f - 7), abs(f - 1 / 7)) < 1e-9 for f in module.penalties.factors.values())
    callback, module, data, optimizer = learner("penalty.meta.of=[l2]")
    start(callback, module, data, optimizer)
    assert module.penalties.factors.keys() == {"l2"}
    callback, module, data, optimizer = learner("penalty.meta.rate=0")
    start(callback, module, data, optimizer)
    assert module.penalties.factors == {}


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_look_ahead_does_not_change_the_attack() -> None:
    callback, module, data, optimizer = learner("attack=evolving")
    before = {name: value.clone() for name, value in module.attack.named_buffers()}
    start(callback, module, data, optimizer)
    assert module.penalties.factors
    assert before and all(torch.equal(value, before[name]) for name, value in module.attack.named_buffers())


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_look_ahead_does_not_update_running_statistics() -> None:
    callback, module, data, optimizer = learner("penalty=[l1,l2,meta,batch_norm]", "attack=pgd")
    before = {name: value.clone() for name, value in module.net.named_buffers()}
    module.train()
    start(callback, module, data, optimizer)
    assert module.penalties.factors
    assert all(torch.equal(value, before[name]) for name, value in module.net.named_buffers())


def test_the_test_split_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = DataModule.split

    def watched(self: DataModule, name: Any) -> Any:
        assert name != "test"
        return split(self, name)

    monkeypatch.setattr(DataModule, "split", watched)
    module, _ = fit(tmp_path, "penalty=[l1,l2,meta]", "penalty.meta.every=2", epochs=1)
    assert set(module.penalties.factors) == {"l1", "l2"}


def test_a_penalty_without_a_term_cannot_be_learned() -> None:
    """There is no gradient with respect to its magnitude."""
    from temper.config.errors import ConfigError
    from temper.training.modules import build_penalties

    with pytest.raises(ConfigError, match=r"penalty\.meta"):
        build_penalties(composed("penalty=[dropout,meta]"))
