"""Tests of AWP and SAM against loops that perturb a copy of the network in place."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.attacks import MART, PGD, TRADES, Attack, Linf, NoAttack
from temper.config.errors import ConfigError
from temper.data import Batch
from temper.models import Network, StepNetwork, named_weights
from temper.penalties import AWP, SAM, Dynamic, Penalties, Penalty, Weighted
from temper.training.modules import build_module, build_penalties
from tests.conftest import small_net
from tests.penalties.conftest import TINY, composed, images, normed_net

THREAT = Linf(eps=0.1)
ATTACKS: dict[str, Attack] = {
    "none": NoAttack(),
    "pgd": PGD(threat=THREAT, steps=2),
    "trades": TRADES(threat=THREAT, steps=2),
    "mart": MART(threat=THREAT, steps=2),
}


def perturbed_gradients(penalty: AWP | SAM, net: Network, attack: Attack, batch: Batch, x_adv: Tensor) -> dict[str, Tensor]:
    """Compute the gradients of the risk at weights that are perturbed in place, by name."""
    net.zero_grad()
    attack.risk(net, batch, x_adv).mean().backward()
    moved = dict(net.named_parameters()) if isinstance(penalty, SAM) else {n: p for n, p in named_weights(net) if p.ndim > 1}
    gradients = {name: p.grad.clone() for name, p in moved.items() if p.grad is not None}
    together = torch.cat([g.flatten() for g in gradients.values()]).norm()
    with torch.no_grad():
        for name, g in gradients.items():
            moved[name].add_(
                penalty.rho * g / together if isinstance(penalty, SAM) else penalty.gamma * moved[name].norm() * g / g.norm()
            )
    net.zero_grad()
    attack.risk(net, batch, x_adv).mean().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("penalty", [SAM(rho=0.3), AWP(gamma=0.1)])
def test_gradients_match_those_of_a_network_perturbed_in_place(penalty: AWP | SAM, attack: Attack, batch: Batch) -> None:
    net = small_net()
    x_adv = attack.perturb(net, batch)
    expected = perturbed_gradients(penalty, copy.deepcopy(net), attack, batch, x_adv)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    shift = penalty.shift(net, lambda net: attack.risk(net, batch, x_adv).mean())
    assert all(parameter.grad is None for parameter in net.parameters())
    attack.risk(StepNetwork(net, shift), batch, x_adv).mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-5)
        assert torch.equal(parameter, before[name]), "the weights themselves do not change"
    plain = small_net()
    attack.risk(plain, batch, x_adv).mean().backward()
    assert any(
        p.grad is not None and not torch.allclose(p.grad, expected[name], atol=1e-5) for name, p in plain.named_parameters()
    )


@pytest.mark.usefixtures("_outside_of_a_trainer")
@pytest.mark.parametrize("attack", ["none", "pgd", "trades"])
@pytest.mark.parametrize("option", ["sam", "awp"])
def test_a_training_step_uses_the_perturbed_weights(option: str, attack: str, batch: Batch) -> None:
    module = build_module(composed(f"penalty=[{option},l2]", f"attack={attack}", *TINY))
    points: list[Tensor] = []
    perturb = module.attack.perturb
    module.attack.perturb = lambda net, batch: points.append(perturb(net, batch)) or points[-1]  # type: ignore[method-assign,func-returns-value]
    reference = copy.deepcopy(module.net)
    module.training_step(batch, 0).backward()
    penalty = module.penalties.members[module.penalties.names.index(option)]
    assert isinstance(penalty, AWP | SAM)
    expected = perturbed_gradients(penalty, reference, module.attack, batch, points[0])
    weights = {name for name, _ in named_weights(module.net)}
    for name, parameter in module.net.named_parameters():
        assert parameter.grad is not None
        # The terms of other penalties are computed at the unperturbed weights.
        added = module.penalties.weight("l2") * parameter.detach() if name in weights else 0
        torch.testing.assert_close(parameter.grad, expected[name] + added, atol=1e-5, rtol=1e-4)


def test_norms_of_the_perturbations(batch: Batch) -> None:
    net = normed_net()

    def risk(net: Network) -> Tensor:
        return F.cross_entropy(net(batch.x), batch.y)

    sam = SAM(rho=0.3).shift(net, risk)
    assert sam.keys() == dict(net.named_parameters()).keys()
    assert torch.cat([shift.flatten() for shift in sam.values()]).norm().item() == pytest.approx(0.3, rel=1e-4)
    awp = AWP(gamma=0.2).shift(net, risk)
    parameters = dict(net.named_parameters())
    layers = {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    assert awp.keys() == layers
    for name, shift in awp.items():
        torch.testing.assert_close(shift.norm(), 0.2 * parameters[name].norm())
    # Both increase the risk.
    for moved in (sam, awp):
        assert risk(StepNetwork(net, moved)) > risk(net)


@pytest.mark.parametrize("penalty", [SAM(rho=0.3), AWP(gamma=0.1)])
def test_shift_does_not_update_running_statistics(penalty: Penalty, batch: Batch) -> None:
    net = normed_net().train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    penalty.shift(net, lambda net: F.cross_entropy(net(batch.x), batch.y))
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())


@pytest.mark.parametrize("penalty", [SAM(rho=0), AWP(gamma=0), AWP(gamma=0.1, warmup=0.5)])
def test_inactive_perturbations_compute_no_risk(penalty: Penalty) -> None:
    def risk(net: Network) -> Tensor:
        raise AssertionError("computed")

    penalty.begin(10, 0.4)
    assert penalty.shift(small_net(), risk) == {}


def test_awp_starts_after_its_warmup(batch: Batch) -> None:
    penalty = AWP(gamma=0.1, warmup=0.5)
    penalty.begin(10, 0.5)
    assert penalty.shift(small_net(), lambda net: F.cross_entropy(net(batch.x), batch.y))


@pytest.mark.parametrize("penalty", [SAM(rho=0.4), AWP(gamma=0.4)])
def test_the_norm_of_the_perturbation_can_be_steered(penalty: SAM | AWP) -> None:
    penalties = Penalties({"sharpness": Weighted(penalty, 1), "dynamic": Weighted(Dynamic(first=0, last=1), 1)})
    penalties.begin(5, 0.5, (0,))
    assert (penalty.rho if isinstance(penalty, SAM) else penalty.gamma) == pytest.approx(0.2)


def test_a_constant_risk_gives_no_perturbation() -> None:
    net, batch = small_net(), images()
    for penalty in (SAM(rho=0.3), AWP(gamma=0.1)):
        shift = penalty.shift(net, lambda net: 0 * net(batch.x).sum())
        assert all(float(value.abs().max()) == 0 for value in shift.values())


def test_awp_and_sam_together_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"penalty\.awp and penalty\.sam both compute the loss at perturbed weights\. Use only one of them"
    ):
        build_penalties(composed("penalty=[awp,sam]"))
