"""TRADES and its KL divergence."""

import pytest
import torch
import torch.nn.functional as F

from temper.attacks import TRADES, Linf
from temper.attacks.losses import kl_divergence
from temper.data import Batch
from temper.models import CNN


def test_kl_equals_torch_distributions() -> None:
    p, q = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(0))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=p), torch.distributions.Categorical(logits=q)
    )
    torch.testing.assert_close(kl_divergence(p, q), expected)


def test_probabilities_that_round_to_zero_give_finite_gradients() -> None:
    p = torch.tensor([[0.0, 500.0, -500.0]], requires_grad=True)
    q = torch.tensor([[300.0, 0.0, 0.0]], requires_grad=True)
    kl_divergence(p, q).sum().backward()
    assert torch.isfinite(p.grad).all() and torch.isfinite(q.grad).all()  # type: ignore[arg-type]


def test_risk_is_clean_loss_plus_beta_times_divergence(trained: CNN, batch: Batch) -> None:
    attack = TRADES(threat=Linf(eps=0.1), beta=6, steps=5)
    x_adv = attack.perturb(trained, batch)
    clean, adversarial = trained(batch.x), trained(x_adv)
    expected = F.cross_entropy(clean, batch.y, reduction="none") + 6 * kl_divergence(clean, adversarial)
    torch.testing.assert_close(attack.risk(trained, batch, x_adv), expected)


def test_ascent_raises_the_divergence(trained: CNN, batch: Batch) -> None:
    attack = TRADES(threat=Linf(eps=0.1), steps=10)
    with torch.no_grad():
        clean = trained(batch.x)
        adversarial = kl_divergence(clean, trained(attack.perturb(trained, batch)))
        random = kl_divergence(clean, trained(Linf(eps=0.1).start(batch.x, "uniform")))
    assert (adversarial > random).float().mean() > 0.9


def test_beta_zero_is_clean_training(trained: CNN, batch: Batch) -> None:
    attack = TRADES(threat=Linf(eps=0.1), beta=0, steps=1)
    risk = attack.risk(trained, batch, attack.perturb(trained, batch))
    torch.testing.assert_close(risk, F.cross_entropy(trained(batch.x), batch.y, reduction="none"))


def test_zero_start_is_rejected() -> None:
    with pytest.raises(ValueError, match="start"):
        TRADES(threat=Linf(eps=0.1), start="zero")
