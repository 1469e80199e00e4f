"""Defenses that mask their gradients are planted: the audit has to find every one, and to leave honest networks alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from temper.attacks import PGD, Linf
from temper.data import Batch, DataModule, Loader
from temper.evaluation import Audit
from temper.models import CNN, Network
from tests.conftest import small_net

THREAT = Linf(eps=0.08)


class Defended(Network):
    """A trained network behind something that hides it."""

    def __init__(self, net: CNN) -> None:
        super().__init__()
        self.net = net

    def logits(self, z: Tensor) -> Tensor:
        return self.net(z)


class Saturated(Defended):
    """Logits so large that softmax is 1 and the cross-entropy flat."""

    def logits(self, z: Tensor) -> Tensor:
        return 1e4 * super().logits(z)


class Quantized(Defended):
    """Five grey levels: no gradient passes the rounding."""

    def logits(self, z: Tensor) -> Tensor:
        return super().logits((4 * z).round() / 4)


class Random(Defended):
    """Another noise for every pass."""

    def logits(self, z: Tensor) -> Tensor:
        return super().logits(z + 0.2 * torch.randn_like(z))


class _Shatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, z: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:  # the wrong way, in a checkerboard
        gradient = gradients[0]
        pattern = (torch.arange(gradient.shape[-1]) + torch.arange(gradient.shape[-2])[:, None]) % 2
        return gradient * (1 - 2 * pattern)


class Shattered(Defended):
    """A backward pass that does not belong to the forward pass: gradients that point nowhere."""

    def logits(self, z: Tensor) -> Tensor:
        return super().logits(_Shatter.apply(z))


@pytest.fixture(scope="module")
def hardened(digits: DataModule) -> CNN:
    """Trained against PGD, briefly and honestly."""
    net = small_net(7).train()
    attack, optimizer = PGD(threat=THREAT, steps=4), torch.optim.Adam(net.parameters(), lr=5e-3)
    x, y = digits.split("train")
    torch.manual_seed(0)
    for _ in range(12):
        for rows in torch.randperm(len(y)).split(128):
            batch = Batch.of(x[rows], y[rows])
            optimizer.zero_grad()
            attack.risk(net, batch, attack.perturb(net, batch)).mean().backward()
            optimizer.step()
    return net.eval()


@pytest.fixture
def loader(digits: DataModule) -> Loader:
    x, y = digits.split("test")
    return Loader(x, y, batch_size=100)


def flagged(net: Network, loader: Loader, *, attacked: bool = False) -> dict[str, str]:
    found = Audit(threat=THREAT).findings(net, loader, attacked=attacked, seed=0)
    return {name: finding.status for name, finding in found.items() if finding.status != "passed"}


@pytest.mark.parametrize(
    ("defense", "symptoms"),
    [
        (Saturated, {"zero_gradients"}),
        (Quantized, {"zero_gradients", "gradient_free", "large_eps"}),
        (Random, {"randomized"}),
        (Shattered, {"gradient_free", "large_eps"}),
    ],
)
def test_a_planted_defense_fails(defense: Callable[[CNN], Network], symptoms: set[str], trained: CNN, loader: Loader) -> None:
    found = flagged(defense(trained).eval(), loader)
    assert symptoms <= {name for name, status in found.items() if status == "failed"}, found


def test_an_honest_network_passes(trained: CNN, hardened: CNN, loader: Loader) -> None:
    assert flagged(trained, loader) == {}
    assert flagged(hardened, loader, attacked=True) == {}


class OnGrid(Defended):
    """Points the wrong way exactly at the pixels' own sixteenths, as a network that has overfitted to FGSM does."""

    def logits(self, z: Tensor) -> Tensor:
        at_grid = ((16 * z).round() == 16 * z).flatten(1).all(1)
        turned = 2 * z.detach() - z
        return super().logits(torch.where(at_grid[:, None, None, None], turned, z))


def test_catastrophic_overfitting_is_flagged_where_training_could_cause_it(trained: CNN, loader: Loader) -> None:
    audit, net = Audit(threat=THREAT), OnGrid(trained).eval()
    found = audit.findings(net, loader, attacked=True, seed=0)
    assert found["overfitting"].status == "failed" and found["iterative"].status == "passed"
    assert "overfitting" not in audit.findings(net, loader, attacked=False, seed=0)


def test_figures_are_shares_of_what_was_looked_at(trained: CNN, loader: Loader) -> None:
    """A network that forgets half of its examples' gradients: the figure says so."""

    class Half(Defended):
        def logits(self, z: Tensor) -> Tensor:
            logits = super().logits(z)
            dark = z.detach().flatten(1).mean(1) < z.detach().flatten(1).mean(1).median()
            return torch.where(dark[:, None], logits.detach(), logits)

    found = Audit(threat=THREAT, size=100).findings(Half(trained).eval(), loader, attacked=False, seed=0)
    assert found["zero_gradients"].figure == pytest.approx(0.5, abs=0.02)


def test_the_same_seed_gives_the_same_findings(trained: CNN, loader: Loader) -> None:
    audit = Audit(threat=THREAT, size=60)
    assert audit.findings(trained, loader, attacked=True, seed=1) == audit.findings(trained, loader, attacked=True, seed=1)


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"fail \(0.01\) should not be below warn"):
        Audit(threat=THREAT, fail=0.01)
