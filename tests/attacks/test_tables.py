"""Attacks on tables: every attack returns valid rows inside the ball."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from temper.attacks import FAB, L1, L2, NFGSM, Attack, Free, FreeLB, Linf, Threat
from temper.attacks.gradient_step import at_valid_rows, input_gradient
from temper.attacks.losses import LossOutput
from temper.data import Batch, Domain
from temper.models import MLP
from tests.attacks.test_every_attack import FACTORIES

FREE = {"lower": -math.inf, "upper": math.inf}
THREATS: dict[str, Callable[[float], Threat]] = {
    "linf": lambda eps: Linf(eps=eps, **FREE),
    "l2": lambda eps: L2(eps=eps, **FREE),
    "l1": lambda eps: L1(eps=eps, spread=0.3, **FREE),
}
ATTACKS: dict[str, Callable[[Threat], Attack]] = {**FACTORIES, "fab": lambda t: FAB(threat=t, steps=5, targets=2)}
del ATTACKS["free"], ATTACKS["n_fgsm"]  # training-only; tested below


def as_batch(domain: Domain, x: Tensor, mask: Tensor | None = None) -> Batch:
    return replace(Batch.of(x, torch.arange(len(x)) % 4), domain=domain, mask=mask)


def random_table(seed: int) -> Batch:
    """Return rows of real numbers, integers of small and of huge spread, and categories.

    Some values are at the edge of their range, one row has an unknown category, and some features are masked.
    """
    draw = torch.Generator().manual_seed(seed)
    numbers, rows = 5, 6
    groups = ((5, 8), (8, 10))
    features = groups[-1][1]
    integer = torch.tensor([False, False, True, True, True, *[False] * 5])
    center = torch.randn(features, generator=draw).double() * 10
    scale = 10 ** (4 * torch.rand(features, generator=draw).double() - 1)
    scale[4] *= 1e5  # float32 does not resolve these integers
    center[numbers:], scale[numbers:] = 0, 1
    original = center + scale * torch.randn(rows, features, generator=draw).double()
    original = torch.where(integer, original.round(), original)
    for first, end in groups:
        chosen = torch.randint(end - first, (rows,), generator=draw)
        original[:, first:end] = torch.eye(end - first).double()[chosen]
    original[0, slice(*groups[0])] = 0
    ranges = (original.amin(0), original.amax(0))
    lower, upper = (((end - center) / scale).float() for end in ranges)
    lower[numbers:], upper[numbers:] = 0, 1
    domain = Domain(lower=lower, upper=upper, center=center, scale=scale, integer=integer, groups=groups)
    mask = torch.ones(1, features)
    mask[:, torch.randint(numbers, (2,), generator=draw)] = 0
    if seed % 3 == 0:
        mask[:, slice(*groups[1])] = 0
    return as_batch(domain, domain.encode(original), mask)


def assert_valid(batch: Batch, x_adv: Tensor) -> None:
    """Check all properties of valid rows except their distance from x."""
    domain = batch.domain
    assert domain is not None and batch.mask is not None
    mask = batch.mask[0]
    assert (x_adv >= domain.lower).all() and (x_adv <= domain.upper).all()
    assert torch.equal(x_adv[:, mask == 0], batch.x[:, mask == 0])
    if domain.integer is not None:
        assert torch.equal(domain.encode(domain.decode(x_adv))[:, domain.integer], x_adv[:, domain.integer])
    for group in domain.groups:
        before, after = (x[:, slice(*group)] for x in (batch.x, x_adv))
        assert ((after == 0) | (after == 1)).all()
        assert torch.equal(before.sum(1), after.sum(1))


def small_mlp(batch: Batch, seed: int) -> MLP:
    torch.manual_seed(seed)
    return MLP(shape=[batch.x.shape[1]], classes=4, mean=[0.0], std=[1.0], hidden=[8]).eval()


@pytest.mark.parametrize("norm", list(THREATS))
@pytest.mark.parametrize("name", list(ATTACKS))
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31), eps=st.sampled_from([0.05, 0.4, 1.0, 1.5, 3.0, 20.0]))
def test_attacks_return_valid_rows_inside_the_ball(name: str, norm: str, seed: int, eps: float) -> None:
    batch = random_table(seed)
    net = small_mlp(batch, seed)
    threat = THREATS[norm](eps)
    x_adv = ATTACKS[name](threat).perturb(net, batch)
    assert x_adv.shape == batch.x.shape and x_adv.dtype == batch.x.dtype
    assert (threat.length(x_adv.double() - batch.x.double()) <= eps).all()
    assert_valid(batch, x_adv)


@settings(max_examples=20, deadline=None)
@given(norm=st.sampled_from(list(THREATS)), seed=st.integers(0, 2**31), eps=st.sampled_from([0.05, 0.4, 1.5, 20.0]))
def test_freelb_and_n_fgsm_return_valid_rows(norm: str, seed: int, eps: float) -> None:
    batch, threat = random_table(seed), THREATS[norm](eps)
    net = small_mlp(batch, seed)
    for point in FreeLB(threat=threat, steps=3).perturb(net, batch).chunk(3):
        assert (threat.length(point.double() - batch.x.double()) <= eps).all()
        assert_valid(batch, point)
    assert_valid(batch, NFGSM(threat=threat).perturb(net, batch))


@settings(max_examples=100, deadline=None)
@given(
    norm=st.sampled_from(list(THREATS)),
    seed=st.integers(0, 2**31),
    eps=st.floats(1e-3, 30),
    reach=st.sampled_from([0.1, 1.0, 10.0, 1e4]),
)
def test_finish_gives_valid_rows_inside_the_ball(norm: str, seed: int, eps: float, reach: float) -> None:
    batch = random_table(seed)
    threat = THREATS[norm](eps).for_batch(batch)
    generator = torch.Generator().manual_seed(seed)
    assert batch.mask is not None
    z = batch.x + reach * torch.randn(batch.x.shape, generator=generator) * batch.mask
    for x_adv in (threat.finish(z, batch.x), threat.around(batch.x).finish(threat.around(batch.x).project(z))):
        assert (threat.length(x_adv.double() - batch.x.double()) <= eps).all()
        assert_valid(batch, x_adv)
        assert torch.equal(threat.round_to_domain(x_adv, batch.x), x_adv), "rounding is idempotent"


def test_category_changes_if_the_radius_allows_it() -> None:
    domain = Domain(
        lower=torch.zeros(4), upper=torch.tensor([1.0, 1, 1, 9]), center=torch.zeros(4), scale=torch.ones(4), groups=((0, 3),)
    )
    batch = as_batch(domain, torch.tensor([[0.0, 1, 0, 4]]))
    towards = torch.tensor([[0.9, 0.1, 0, 8.0]])
    changed, unchanged = [1.0, 0, 0], [0.0, 1, 0]
    for threat, category, number in (
        (Linf(eps=0.99, **FREE), unchanged, 4.99),
        (Linf(eps=1, **FREE), changed, 5),
        (L2(eps=1.4, **FREE), unchanged, 4 + math.sqrt(1.4**2 - 2 * 0.9**2)),
        (L2(eps=2, **FREE), changed, 4 + math.sqrt(2)),
        (L1(eps=1.9, **FREE), unchanged, 4.1),
        (L1(eps=5, **FREE), changed, 7),
    ):
        near = towards.clone()
        near[0, 3] = number  # already inside of the ball
        row = threat.for_batch(batch).round_to_domain(near, batch.x)
        assert row[0, :3].tolist() == category, threat
        assert float(row[0, 3]) == pytest.approx(number, rel=1e-6), threat


def test_integers_are_rounded_towards_x() -> None:
    domain = Domain(
        lower=torch.tensor([-2.0]),
        upper=torch.tensor([8.0]),
        center=torch.tensor([4.0]).double(),
        scale=torch.tensor([2.0]).double(),
        integer=torch.tensor([True]),
    )
    x = domain.encode(torch.tensor([[10.0], [10.0], [10.0], [0.0]]).double())
    threat = Linf(eps=0.9, **FREE).for_batch(as_batch(domain, x))
    rounded = domain.decode(threat.finish(x + torch.tensor([[0.9], [-0.9], [0.49], [-5.0]]), x))
    assert rounded.tolist() == [[11.0], [9.0], [10.0], [0.0]]


def test_optimum_of_linear_loss_over_integers_is_reached() -> None:
    """Compare with an exhaustive search over all valid rows inside the ball."""
    integer = torch.tensor([True, True, True])
    domain = Domain(
        lower=torch.full((3,), -3.0),
        upper=torch.full((3,), 3.0),
        center=torch.zeros(3).double(),
        scale=torch.tensor([1.0, 0.5, 2.0]).double().reciprocal(),
        integer=integer,
    )
    x = domain.encode(torch.zeros(1, 3).double())
    batch = as_batch(domain, x)
    net = MLP(shape=[3], classes=2, mean=[0.0], std=[1.0], hidden=[])
    linear = next(m for m in net.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [-1.0, 2.0, -0.5]]))
        linear.bias.copy_(torch.tensor([10.0, 0.0]))
    threat = Linf(eps=1.2, **FREE)
    grid = torch.cartesian_prod(*[torch.arange(-6.0, 7)] * 3).double()
    rows = domain.encode(grid)
    inside = rows[(rows - x).abs().amax(1) <= 1.2]
    lowest = float((net(inside)[:, 0] - net(inside)[:, 1]).detach().min())
    for name in ("pgd", "apgd ce", "pgd margin"):
        x_adv = ATTACKS[name](threat).perturb(net, batch)
        assert float((net(x_adv)[0, 0] - net(x_adv)[0, 1]).detach()) == pytest.approx(lowest), name


def test_loss_is_evaluated_at_rows_with_straight_through_gradient() -> None:
    batch = random_table(0)
    threat = Linf(eps=1.0, **FREE).for_batch(batch)
    seen = []

    def loss_fn(z: Tensor) -> LossOutput:
        seen.append(z.detach().clone())
        return LossOutput(z.square().sum(1), z)

    gradient, _ = input_gradient(at_valid_rows(loss_fn, threat, batch.x), batch.x + 0.3)
    assert torch.allclose(seen[0], threat.round_to_domain(batch.x + 0.3, batch.x), atol=1e-6)
    assert torch.allclose(gradient, 2 * seen[0])


def test_free_respects_ranges_and_mask() -> None:
    """Free trains on points that are not rounded to rows, since it needs their gradient."""
    batch = random_table(3)
    net = MLP(shape=[batch.x.shape[1]], classes=4, mean=[0.0], std=[1.0], hidden=[8])
    attack = Free(threat=Linf(eps=1.0, **FREE))
    for _ in range(3):
        x_adv = attack.perturb(net, batch)
        attack.risk(net, batch, x_adv).mean().backward()
        attack.after_backward()
        assert batch.domain is not None and batch.mask is not None
        assert (x_adv >= batch.domain.lower).all() and (x_adv <= batch.domain.upper).all()
        assert torch.equal(x_adv[:, batch.mask[0] == 0], batch.x[:, batch.mask[0] == 0])


def test_images_keep_their_threat() -> None:
    batch = Batch.of(torch.rand(2, 1, 4, 4), torch.tensor([0, 1]))
    threat = L2(eps=0.5)
    assert threat.for_batch(batch) is threat
