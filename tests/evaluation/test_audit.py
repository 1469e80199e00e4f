"""Audit: gradient-masking defenses are flagged, networks without a defense pass."""

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
    """A trained network behind a defense."""

    def __init__(self, net: CNN) -> None:
        super().__init__()
        self.net = net

    def logits(self, z: Tensor) -> Tensor:
        return self.net(z)


class Saturated(Defended):
    """Logits so large that softmax is 1 and the cross-entropy is flat."""

    def logits(self, z: Tensor) -> Tensor:
        return 1e4 * super().logits(z)


class Quantized(Defended):
    """Inputs quantized to five gray levels; rounding has no gradient."""

    def logits(self, z: Tensor) -> Tensor:
        return super().logits((4 * z).round() / 4)


class Random(Defended):
    """Inputs with fresh noise in every forward pass."""

    def logits(self, z: Tensor) -> Tensor:
        return super().logits(z + 0.2 * torch.randn_like(z))


class _Shatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, z: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:  # its sign flipped in a checkerboard
        gradient = gradients[0]
        pattern = (torch.arange(gradient.shape[-1]) + torch.arange(gradient.shape[-2])[:, None]) % 2
        return gradient * (1 - 2 * pattern)


class Shattered(Defended):
    """Shattered gradients: the backward pass does not match the forward pass."""

    def logits(self, z: Tensor) -> Tensor:
        return super().logits(_Shatter.apply(z))


@pytest.fixture(scope="module")
def adversarially_trained(digits: DataModule) -> CNN:
    """Return a network that was briefly trained against PGD."""
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
    findings = Audit(threat=THREAT).findings(net, loader, attacked=attacked, seed=0)
    return {name: finding.status for name, finding in findings.items() if finding.status != "passed"}


@pytest.mark.parametrize(
    ("defense", "symptoms"),
    [
        (Saturated, {"zero_gradients"}),
        (Quantized, {"zero_gradients", "gradient_free", "large_eps"}),
        (Random, {"randomized"}),
        (Shattered, {"gradient_free", "large_eps"}),
    ],
)
def test_masked_gradients_fail(defense: Callable[[CNN], Network], symptoms: set[str], trained: CNN, loader: Loader) -> None:
    checks = flagged(defense(trained).eval(), loader)
    assert symptoms <= {name for name, status in checks.items() if status == "failed"}, checks


def test_networks_without_a_defense_pass(trained: CNN, adversarially_trained: CNN, loader: Loader) -> None:
    assert flagged(trained, loader) == {}
    assert flagged(adversarially_trained, loader, attacked=True) == {}


class OnGrid(Defended):
    """Gradients flipped exactly at clean pixels, which are sixteenths, as in a network that has overfitted to FGSM."""

    def logits(self, z: Tensor) -> Tensor:
        at_grid = ((16 * z).round() == 16 * z).flatten(1).all(1)
        flipped = 2 * z.detach() - z
        return super().logits(torch.where(at_grid[:, None, None, None], flipped, z))


def test_catastrophic_overfitting_is_flagged_after_adversarial_training_only(trained: CNN, loader: Loader) -> None:
    audit, net = Audit(threat=THREAT), OnGrid(trained).eval()
    findings = audit.findings(net, loader, attacked=True, seed=0)
    assert findings["overfitting"].status == "failed" and findings["iterative"].status == "passed"
    assert "overfitting" not in audit.findings(net, loader, attacked=False, seed=0)


def test_figures_are_fractions_of_the_audited_examples(trained: CNN, loader: Loader) -> None:
    """A network without gradients for half of the examples has a figure of 0.5."""

    class Half(Defended):
        def logits(self, z: Tensor) -> Tensor:
            logits = super().logits(z)
            dark = z.detach().flatten(1).mean(1) < z.detach().flatten(1).mean(1).median()
            return torch.where(dark[:, None], logits.detach(), logits)

    findings = Audit(threat=THREAT, size=100).findings(Half(trained).eval(), loader, attacked=False, seed=0)
    assert findings["zero_gradients"].figure == pytest.approx(0.5, abs=0.02)


def test_the_same_seed_gives_the_same_findings(trained: CNN, loader: Loader) -> None:
    audit = Audit(threat=THREAT, size=60)
    assert audit.findings(trained, loader, attacked=True, seed=1) == audit.findings(trained, loader, attacked=True, seed=1)


def test_a_fail_threshold_below_the_warn_threshold_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"fail: 0.01 is below warn \(0.02\)"):
        Audit(threat=THREAT, fail=0.01)
