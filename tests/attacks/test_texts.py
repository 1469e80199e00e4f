"""Properties of every attack on text embeddings, which have no valid range and whose padding must not change."""

import math
from dataclasses import replace

import pytest
import torch

from temper.attacks import FAB, L1, L2, Linf, Threat
from temper.attacks.attack import with_lift_gradient
from temper.data import Batch
from temper.models import TextCNN
from tests.attacks.test_every_attack import FACTORIES

INFINITE = {"lower": -math.inf, "upper": math.inf}
THREATS: dict[str, Threat] = {"linf": Linf(eps=0.02, **INFINITE), "l2": L2(eps=0.2, **INFINITE), "l1": L1(eps=1, **INFINITE)}
ATTACKS = {name: make for name, make in FACTORIES.items() if name != "n_fgsm"} | {
    "fab": lambda t: FAB(threat=t, steps=12, targets=3)
}


@pytest.fixture(scope="module")
def net() -> TextCNN:
    torch.manual_seed(0)
    return TextCNN(vocabulary=20, classes=4, dim=6, filters=4).eval()


@pytest.fixture
def texts(net: TextCNN) -> Batch:
    """Texts of one to eight words, all correctly classified."""
    torch.manual_seed(1)
    x = torch.randint(2, 20, (8, 8)) * (torch.arange(8) <= torch.arange(8)[:, None])
    return replace(Batch.of(x, net(x).argmax(1)), mask=(x != 0).unsqueeze(2).float())


@pytest.mark.parametrize("norm", list(THREATS))
@pytest.mark.parametrize("name", list(ATTACKS))
def test_points_are_inside_ball_and_padding_is_unchanged(name: str, norm: str, net: TextCNN, texts: Batch) -> None:
    threat, z = THREATS[norm], net.lift(texts.x)
    attack = ATTACKS[name](threat)
    for _ in range(2):
        x_adv = attack.perturb(net, texts)
        risk = attack.risk(net, texts, x_adv)
        risk.sum().backward()
        attack.after_backward()
    assert x_adv.shape == z.shape and torch.isfinite(x_adv).all() and torch.isfinite(risk).all()
    assert (threat.length((x_adv - z).detach().double()) <= threat.eps * (1 + 1e-5)).all()
    assert (x_adv[texts.x == 0] == 0).all()
    if name not in ("cascade", "fab"):  # these change only examples that they fool
        assert not torch.equal(x_adv, z)


def test_with_lift_gradient_keeps_adversarial_points(net: TextCNN, texts: Batch) -> None:
    x_adv = ATTACKS["pgd"](THREATS["l2"]).perturb(net, texts)
    torch.testing.assert_close(with_lift_gradient(net, texts.x, x_adv), x_adv)
