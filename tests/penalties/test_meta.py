"""Learned weights: the gradient of one virtual step against autograd through it, and against a finite difference."""

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
from temper.penalties.meta import _Learner, hypergradient
from temper.training.modules import Classifier, build_module
from tests.conftest import small_net
from tests.penalties.conftest import TINY, composed, fit, flat, images, normed_net

LR = 0.3
WEIGHTS = {"l1": 0.01, "l2": 0.2}


def gradients(net: CNN, batch: Batch, create_graph: bool = False) -> dict[str, list[Tensor]]:
    """Of the risk and of two penalties before their weights, for all parameters."""
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


def stepped(net: CNN, found: Mapping[str, list[Tensor]], weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """w' of one step of SGD, by names."""
    moved = {}
    for position, (name, parameter) in enumerate(net.named_parameters()):
        total = found["risk"][position] + sum(weights[p] * found[p][position] for p in weights)
        moved[name] = parameter - LR * total
    return moved


@pytest.mark.parametrize("attack", [NoAttack(), PGD(threat=Linf(eps=0.1), steps=2, start="zero")])
def test_the_hypergradient_is_autograds_through_one_step(attack: Attack) -> None:
    net, batch, held_out = small_net(), images(16, seed=0), images(16, seed=1)
    found = gradients(net, batch)
    w = stepped(net, found, WEIGHTS)
    moved = {name: (w[name] - parameter).detach() for name, parameter in net.named_parameters()}
    ours = hypergradient(net, moved, held_out, attack, key=(0, "meta", 0))

    weights = {name: torch.tensor(value, requires_grad=True) for name, value in WEIGHTS.items()}
    with torch.no_grad():
        there = small_net()
        there.load_state_dict({name: value.detach() for name, value in w.items()})
    x_adv = attack.perturb(there.eval(), held_out)
    after = stepped(net, gradients(net, batch, create_graph=True), weights)
    loss = F.cross_entropy(functional_call(net, after, (x_adv,)), held_out.y)
    expected = torch.autograd.grad(loss, list(weights.values()))
    for name, derivative in zip(weights, expected, strict=True):
        product = sum((ours[n] * g).sum() for (n, _), g in zip(net.named_parameters(), found[name], strict=True))
        torch.testing.assert_close(torch.as_tensor(-LR * product), derivative, rtol=1e-3, atol=1e-6)


def test_the_hypergradient_is_a_finite_difference() -> None:
    net, batch, held_out = small_net().double(), images(16, seed=0), images(16, seed=1)
    batch, held_out = (Batch.of(b.x.double(), b.y) for b in (batch, held_out))
    found = gradients(net, batch)
    w = stepped(net, found, WEIGHTS)
    moved = {name: (w[name] - parameter).detach() for name, parameter in net.named_parameters()}
    ours = hypergradient(net, moved, held_out, NoAttack(), key=(0, "meta", 0))

    def held_out_loss(weights: Mapping[str, float]) -> float:
        return float(F.cross_entropy(functional_call(net, stepped(net, found, weights), (held_out.x,)), held_out.y).detach())

    for name in WEIGHTS:
        h = 1e-5
        more, less = ({**WEIGHTS, name: WEIGHTS[name] + by} for by in (h, -h))
        product = sum(float((ours[n] * g).sum()) for (n, _), g in zip(net.named_parameters(), found[name], strict=True))
        # The loss is computed in float32, whatever the weights.
        assert (held_out_loss(more) - held_out_loss(less)) / (2 * h) == pytest.approx(-LR * product, rel=0.05)


def test_the_network_is_left_as_it_was() -> None:
    net = normed_net().train()
    before, state = flat(net).clone(), {name: value.clone() for name, value in net.named_buffers()}
    moved = {name: torch.full_like(parameter, 0.01) for name, parameter in net.named_parameters()}
    found = hypergradient(net, moved, images(), PGD(threat=Linf(eps=0.1), steps=1), key=(0, "meta", 0))
    assert found.keys() == moved.keys()
    assert torch.equal(flat(net), before) and net.training and all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.named_buffers())


def learner(*overrides: str) -> tuple[_Learner, Classifier, DataModule, torch.optim.Optimizer]:
    """The callback of a run with l1, l2 and meta, that sees all held-out examples and no attack."""
    from temper.data.loading import build_data

    config = composed("penalty=[l1,l2,meta]", "penalty.meta.size=10000", *overrides, *TINY)
    module, data = build_module(config), build_data(config)
    module.validation = NoAttack()
    data.setup()
    (callback,) = module.penalties.callbacks()
    assert isinstance(callback, _Learner)
    return callback, module, data, torch.optim.SGD(module.net.parameters(), lr=LR)


def start(callback: _Learner, module: Classifier, data: DataModule, optimizer: torch.optim.Optimizer, step: int = 0) -> None:
    trainer = SimpleNamespace(global_step=step, optimizers=[optimizer], datamodule=data, accumulate_grad_batches=1)
    batch = next(iter(data.loader("train", batch_size=32, seed=0)))
    callback.on_train_batch_start(cast(Any, trainer), module, batch, step)


def cosines(module: Classifier, data: DataModule) -> dict[str, float]:
    """Between the held-out gradient after one step and the gradient of each penalty, written out."""
    net = module.net
    batch = next(iter(data.loader("train", batch_size=32, seed=0)))
    parameters = dict(net.named_parameters())
    values = {
        "risk": F.cross_entropy(net(batch.x), batch.y),
        "l1": L1().term(net, batch, batch.x),
        "l2": L2().term(net, batch, batch.x),
    }
    found = {}
    for name, value in values.items():
        grads = torch.autograd.grad(value, list(parameters.values()), allow_unused=True, materialize_grads=True)
        found[name] = torch.cat([g.flatten() for g in grads])
    total = found["risk"] + sum(module.penalties.weight(name) * found[name] for name in ("l1", "l2"))
    torch.nn.utils.vector_to_parameters(flat(net) - LR * total, (after := copy.deepcopy(net)).parameters())
    x, y = data.split("val")
    held = torch.cat([g.flatten() for g in torch.autograd.grad(F.cross_entropy(after.eval()(x), y), list(after.parameters()))])
    return {name: float(F.cosine_similarity(held, found[name], dim=0)) for name in ("l1", "l2")}


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_weights_move_by_the_cosine_in_their_logarithm() -> None:
    callback, module, data, optimizer = learner("penalty.meta.rate=0.5")
    expected = {"l1": 0.0, "l2": 0.0}
    for _ in range(3):
        for name, cosine in cosines(module, data).items():
            expected[name] += 0.5 * cosine
        start(callback, module, data, optimizer)
        found = {name: math.log(module.penalties.factors[name]) for name in expected}
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert abs(expected["l1"]) > 1e-3 and abs(expected["l2"]) > 1e-3
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_a_penalty_that_helps_gets_a_greater_weight() -> None:
    """From weights that are much too large, l2 shows the way back."""
    callback, module, data, optimizer = learner("penalty.meta.rate=1")
    with torch.no_grad():
        for parameter in module.net.parameters():
            parameter.mul_(6)
    start(callback, module, data, optimizer)
    assert module.penalties.factors["l2"] > 1


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_when_and_how_far_weights_move() -> None:
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
def test_looking_ahead_leaves_the_attack_as_it_was() -> None:
    callback, module, data, optimizer = learner("attack=evolving")
    before = {name: value.clone() for name, value in module.attack.named_buffers()}
    start(callback, module, data, optimizer)
    assert module.penalties.factors
    assert before and all(torch.equal(value, before[name]) for name, value in module.attack.named_buffers())


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_looking_ahead_moves_no_statistics() -> None:
    callback, module, data, optimizer = learner("penalty=[l1,l2,meta,batch_norm]", "attack=pgd")
    before = {name: value.clone() for name, value in module.net.named_buffers()}
    module.train()
    start(callback, module, data, optimizer)
    assert module.penalties.factors
    assert all(torch.equal(value, before[name]) for name, value in module.net.named_buffers())


def test_the_test_split_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = DataModule.split

    def watched(self: DataModule, name: Any) -> Any:
        assert name != "test"
        return split(self, name)

    monkeypatch.setattr(DataModule, "split", watched)
    module, _ = fit(tmp_path, "penalty=[l1,l2,meta]", "penalty.meta.every=2", epochs=1)
    assert set(module.penalties.factors) == {"l1", "l2"}


def test_a_penalty_that_adds_no_term_cannot_be_learned() -> None:
    """Its gradient with respect to its magnitude is not one of a term."""
    from temper.config.errors import ConfigError
    from temper.training.modules import build_penalties

    with pytest.raises(ConfigError, match=r"penalty\.meta"):
        build_penalties(composed("penalty=[dropout,meta]"))
