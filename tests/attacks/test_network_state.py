"""Attacks leave the state of a network unchanged."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from temper.attacks import PGD, TRADES, Attack, Linf, TorchAttack, probing
from temper.data import Batch
from temper.models import Network
from tests.conftest import small_net

ATTACKS: dict[str, Callable[[str], Attack]] = {
    "pgd": lambda mode: PGD(threat=Linf(eps=0.1), steps=2, mode=mode),
    "trades": lambda mode: TRADES(threat=Linf(eps=0.1), steps=2, mode=mode),
    "torchattacks": lambda mode: TorchAttack(threat=Linf(eps=0.1), attack="PGD", mode=mode),  # type: ignore[arg-type]
}


def stateful_net() -> Network:
    """Return a network with batch norm and spectral norm (whose buffers change in train mode), dropout and frozen parts."""
    net = small_net()
    layers = list(net.layers)
    layers[2] = nn.BatchNorm2d(4)
    layers[11] = nn.utils.parametrizations.spectral_norm(layers[11])
    layers.insert(12, nn.Dropout(0.5))
    net.layers = nn.Sequential(*layers)
    net.train()
    net.layers[2].eval()  # frozen batch norm, as in fine-tuning
    net.layers[5].weight.requires_grad_(False)
    return net


def state(net: nn.Module) -> dict[str, object]:
    flags: dict[str, object] = {f"training {name}": module.training for name, module in net.named_modules()}
    flags |= {f"requires_grad {name}": parameter.requires_grad for name, parameter in net.named_parameters()}
    return flags


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_leaves_state_unchanged(name: str, mode: str, batch: Batch) -> None:
    net = stateful_net()
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    flags, values = state(net), copy.deepcopy(net.state_dict())
    ATTACKS[name](mode).perturb(net, batch)
    assert state(net) == flags
    assert all(torch.equal(value, values[key]) for key, value in net.state_dict().items())
    assert all((parameter.grad == 1).all() for parameter in net.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_state_is_restored_after_exception(mode: str, batch: Batch) -> None:
    net = stateful_net()
    flags, values = state(net), copy.deepcopy(net.state_dict())
    with pytest.raises(RuntimeError, match="inside"), probing(net, mode):  # type: ignore[arg-type]
        net(batch.x)
        raise RuntimeError("inside")
    assert state(net) == flags
    assert all(torch.equal(value, values[key]) for key, value in net.state_dict().items())


def test_probing_sets_requested_mode(batch: Batch) -> None:
    net = stateful_net()
    with probing(net, "eval"):
        assert not any(module.training for module in net.modules())
    with probing(net, "train"):
        assert net.training and not net.get_submodule("layers.2").training


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_work_with_gradients_disabled(name: str, context: Callable[[], object], batch: Batch) -> None:
    net = small_net()
    with context():  # type: ignore[attr-defined]
        x_adv = ATTACKS[name]("eval").perturb(net, batch)
    assert not torch.equal(x_adv, batch.x)
