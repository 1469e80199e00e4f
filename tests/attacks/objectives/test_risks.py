"""Risks of the training objectives, compared with their formulas, and properties of their attacks."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.attacks import L2, MART, NFGSM, PGD, VAT, Evolving, Free, GradAlign, Linf, Mixed, MultiNorm, Noise
from temper.attacks.losses import kl_divergence
from temper.data import Batch
from temper.models import CNN
from tests.conftest import small_net

THREAT = Linf(eps=0.1)


@pytest.fixture
def net() -> CNN:
    return small_net(1)


@pytest.fixture
def x_adv(batch: Batch) -> Tensor:
    torch.manual_seed(1)
    return THREAT.start(batch.x, "uniform")


def test_mart_risk_equals_its_formula(net: CNN, batch: Batch, x_adv: Tensor) -> None:
    clean, adversarial = net(batch.x).softmax(1), net(x_adv).softmax(1)
    rows = torch.arange(len(batch))
    runner_up = adversarial.clone().index_put_((rows, batch.y), torch.tensor(0.0)).amax(1)
    bce = -adversarial[rows, batch.y].log() - (1 - runner_up).log()
    kl = (clean * (clean.log() - adversarial.log())).sum(1)
    expected = bce + 5 * kl * (1 - clean[rows, batch.y])
    torch.testing.assert_close(MART(threat=THREAT).risk(net, batch, x_adv), expected)


def test_mart_is_finite_at_saturated_probabilities(batch: Batch) -> None:
    """Probabilities that round to 1 or 0 must not give NaN gradients."""

    class Saturated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1e4 * x.flatten(1)[:, 20:30]

        def lift(self, x: Tensor) -> Tensor:
            return x

    x = batch.x.clone().requires_grad_(True)
    risk = MART(threat=THREAT).risk(Saturated(), replace(batch, x=x), x)  # type: ignore[arg-type]
    risk.sum().backward()
    assert x.grad is not None and torch.isfinite(risk).all() and torch.isfinite(x.grad).all()


def test_mixed_and_logit_pairing_risks(net: CNN, batch: Batch, x_adv: Tensor) -> None:
    clean, adversarial = net(batch.x), net(x_adv)
    losses = [F.cross_entropy(logits, batch.y, reduction="none") for logits in (clean, adversarial)]
    torch.testing.assert_close(Mixed(threat=THREAT, clean=0.3).risk(net, batch, x_adv), 0.3 * losses[0] + 0.7 * losses[1])
    paired = Mixed(threat=THREAT, pairing=2).risk(net, batch, x_adv)
    expected = (losses[0] + losses[1]) / 2 + 2 * ((clean - adversarial) ** 2).sum(1) / 10
    torch.testing.assert_close(paired, expected)


def test_vat_finds_direction_of_largest_curvature(net: CNN, batch: Batch) -> None:
    """Compare with the dominant eigenvector of the divergence's Hessian, J^T (diag(p) - p p^T) J."""
    x = batch.x[:1].double()
    net = net.double()
    jacobian = torch.autograd.functional.jacobian(lambda z: net(z)[0], x).reshape(10, 64)
    p = net(x)[0].softmax(0)
    hessian = jacobian.T @ (torch.diag(p) - p[:, None] * p) @ jacobian
    top = torch.linalg.eigh(hessian).eigenvectors[:, -1]
    torch.manual_seed(0)
    threat = L2(eps=0.1, lower=-1, upper=2)
    x_adv = VAT(threat=threat, iterations=30, xi=1e-3).perturb(net, Batch.of(x, batch.y[:1]))
    assert F.cosine_similarity((x_adv - x).flatten(), top, dim=0).abs() > 0.99


def test_vat_uses_no_labels_and_detaches_the_prediction(net: CNN, batch: Batch, x_adv: Tensor) -> None:
    attack = VAT(threat=L2(eps=0.5))
    torch.manual_seed(0)
    one = attack.perturb(net, batch)
    torch.manual_seed(0)
    other = attack.perturb(net, replace(batch, y=(batch.y + 1) % 10, target=(batch.y + 1) % 10))
    assert torch.equal(one, other)
    expected = F.cross_entropy(net(batch.x), batch.y, reduction="none") + kl_divergence(net(batch.x), net(x_adv))
    torch.testing.assert_close(attack.risk(net, batch, x_adv), expected)


def test_grad_align_risk_equals_its_formula(net: CNN, batch: Batch, x_adv: Tensor) -> None:
    attack = GradAlign(threat=THREAT, weight=0.7)
    torch.manual_seed(3)
    risk = attack.risk(net, batch, x_adv)
    torch.manual_seed(3)
    nearby = THREAT.start(batch.x, "uniform")
    gradients = []
    for point in (batch.x, nearby):
        point = point.clone().requires_grad_(True)
        gradients.append(torch.autograd.grad(F.cross_entropy(net(point), batch.y, reduction="sum"), point)[0].flatten(1))
    expected = F.cross_entropy(net(x_adv), batch.y, reduction="none") + 0.7 * (
        1 - F.cosine_similarity(gradients[0], gradients[1])
    )
    torch.testing.assert_close(risk, expected)
    risk.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_n_fgsm_does_not_project(trained: CNN) -> None:
    batch = Batch.of(torch.full((200, 1, 8, 8), 0.5), torch.zeros(200, dtype=torch.int64))
    moved = Linf(eps=0.1).length(NFGSM(threat=Linf(eps=0.1)).perturb(trained, batch) - batch.x)
    assert 0.25 < moved.max() <= 0.3 + 1e-6, "noise of 2 eps and a step of eps"
    assert NFGSM(threat=Linf(eps=0.1), noise=0.5, step_size="2 eps").reach.eps == pytest.approx(0.25)  # type: ignore[arg-type]


def test_free_equals_the_papers_loop(batch: Batch) -> None:
    """Compare with algorithm 1: one backward pass gives both gradients, and delta carries over to the next batch."""
    ours, theirs = small_net(2), small_net(2)
    attack, eps, rate = Free(threat=THREAT, replays=3), 0.1, 0.05
    delta = torch.zeros_like(batch.x)
    for part in (batch.select(torch.arange(20)), batch.select(torch.arange(20, 32))):
        for _ in range(3):
            ours.zero_grad()
            attack.risk(ours, part, attack.perturb(ours, part)).mean().backward()
            attack.after_backward()
            theirs.zero_grad()
            leaf = delta[: len(part)].clone().requires_grad_(True)
            F.cross_entropy(theirs((part.x + leaf).clamp(0, 1)), part.y).backward()
            assert leaf.grad is not None
            delta[: len(part)] = (leaf.detach() + eps * leaf.grad.sign()).clamp(-eps, eps)
            with torch.no_grad():
                for net in (ours, theirs):
                    for parameter in net.parameters():
                        assert parameter.grad is not None
                        parameter.sub_(rate * parameter.grad)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    copy = Free(threat=THREAT, replays=3)
    copy.load_state_dict(attack.state_dict())
    assert copy.delta is not None and attack.delta is not None and torch.equal(copy.delta, attack.delta)


def test_multi_norm_max_is_worst_and_average_is_mean(trained: CNN, batch: Batch) -> None:
    norms = {"linf": Linf(eps=0.05), "l2": L2(eps=0.6)}
    torch.manual_seed(0)
    average = MultiNorm(**norms, strategy="average", start="zero")  # type: ignore[arg-type]
    points = average.perturb(trained, batch)
    assert len(points) == 2 * len(batch)
    each = F.cross_entropy(trained(points), batch.y.repeat(2), reduction="none").view(2, -1)
    torch.testing.assert_close(average.risk(trained, batch, points), each.mean(0))
    worst = MultiNorm(**norms, start="zero")  # type: ignore[arg-type]
    torch.testing.assert_close(worst.risk(trained, batch, worst.perturb(trained, batch)), each.amax(0))


def test_msd_is_about_as_strong_as_each_norm(trained: CNN, batch: Batch) -> None:
    norms = {"linf": Linf(eps=0.04), "l2": L2(eps=0.45)}
    both = MultiNorm(**norms, strategy="msd", start="zero", steps=20)  # type: ignore[arg-type]
    risk = both.risk(trained, batch, both.perturb(trained, batch)).mean()
    for threat in norms.values():
        alone = PGD(threat=threat, start="zero", steps=20)
        assert risk > 0.95 * alone.risk(trained, batch, alone.perturb(trained, batch)).mean()


def test_noise_is_uniform_in_the_ball_or_gaussian_on_its_surface(trained: CNN, batch: Batch) -> None:
    batch = replace(batch, x=torch.full_like(batch.x, 0.5))
    uniform = Noise(threat=THREAT).perturb(trained, batch) - batch.x
    assert uniform.std() == pytest.approx(0.1 / 3**0.5, rel=0.05)
    gaussian = Noise(threat=L2(eps=0.4), distribution="gaussian").perturb(trained, batch) - batch.x
    torch.testing.assert_close(gaussian.flatten(1).norm(dim=1), torch.full((32,), 0.4), rtol=1e-4, atol=0)
    assert (gaussian.flatten().abs() < 0.4 / 8).float().mean() == pytest.approx(0.683, abs=0.05), (
        "the fraction within one standard deviation"
    )


def test_evolving_draws_successful_attacks_more_often(trained: CNN, batch: Batch) -> None:
    torch.manual_seed(0)
    attack = Evolving(
        attacks={"weak": PGD(threat=Linf(eps=0.001), steps=1), "strong": PGD(threat=Linf(eps=0.3), steps=10)},
        memory=0.8,
    )
    drawn = []
    for step in range(300):
        attack.begin(step, step / 300)
        attack.perturb(trained, batch)
        drawn.append(attack._current is attack.members[1])
    assert 15 < sum(drawn[:50]) < 35, "uniform at first"
    assert sum(drawn[-100:]) > 85 and not all(drawn[50:]), "the weak attack is still drawn"
    assert attack.chances.sum() == pytest.approx(1) and attack.successes[1] > 0.9 > 0.2 > attack.successes[0]


def test_evolving_ramps_and_restores_its_state(trained: CNN, batch: Batch) -> None:
    def evolving() -> Evolving:
        return Evolving(attacks={"pgd": PGD(threat=Linf(eps=0.2), steps=8)}, ramp_eps=0.5, ramp_steps=0.25)

    attack = evolving()
    member = attack.members[0]
    assert isinstance(member, PGD)
    seen = []
    for done in (0.0, 0.125, 0.25, 0.5, 1.0):
        attack.begin(1, done)
        seen.append((round(member.threat.eps, 4), member.steps))
    assert seen == [(0.0002, 1), (0.05, 4), (0.1, 8), (0.2, 8), (0.2, 8)]
    assert attack.threat is not None and attack.threat.eps == 0.2 and attack.steps == 8
    attack.perturb(trained, batch)
    other = evolving()
    other.load_state_dict(attack.state_dict())
    assert torch.equal(other.successes, attack.successes) and torch.equal(other.chances, attack.chances)


def test_unsuitable_members_and_arguments_are_rejected() -> None:
    with pytest.raises(ValueError, match="noise cannot grow"):
        Evolving(attacks={"noise": Noise(threat=THREAT)}, ramp_eps=0.5)
    with pytest.raises(ValueError, match="free replays"):
        Evolving(attacks={"free": Free(threat=THREAT)})
    with pytest.raises(ValueError, match="free replays"):
        Evolving(attacks={"free": Free(threat=THREAT, replays=1)})
    with pytest.raises(ValueError, match="two or three of"):
        MultiNorm(linf=THREAT)
    with pytest.raises(ValueError, match=r"multiple|number"):
        PGD(threat=THREAT, step_size="far eps")
