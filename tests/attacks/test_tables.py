"""What an adversary may do to the row of a table: whatever the attack, what comes out is a valid row inside the ball."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from temper.attacks import FAB, L1, L2, NFGSM, Attack, Free, FreeLB, Linf, Threat
from temper.attacks.gradient_step import at_rows, input_gradient
from temper.attacks.losses import View
from temper.data import Batch, Domain
from temper.models import MLP
from tests.attacks.test_every_attack import MAKE

FREE = {"lower": -math.inf, "upper": math.inf}
THREATS: dict[str, Callable[[float], Threat]] = {
    "linf": lambda eps: Linf(eps=eps, **FREE),
    "l2": lambda eps: L2(eps=eps, **FREE),
    "l1": lambda eps: L1(eps=eps, spread=0.3, **FREE),
}
ATTACKS: dict[str, Callable[[Threat], Attack]] = {**MAKE, "fab": lambda t: FAB(threat=t, steps=5, targets=2)}
del ATTACKS["free"], ATTACKS["n_fgsm"]  # which are for training alone, and tested below


def rows_of(domain: Domain, x: Tensor, mask: Tensor | None = None) -> Batch:
    return replace(Batch.of(x, torch.arange(len(x)) % 4), domain=domain, mask=mask)


def table(seed: int) -> Batch:
    """Rows with numbers, integers of small and of huge spread, and categories; some on the edge of a range, some of no known
    category, some features out of reach."""
    draw = torch.Generator().manual_seed(seed)
    numbers, rows = 5, 6
    groups = ((5, 8), (8, 10))
    features = groups[-1][1]
    whole = torch.tensor([False, False, True, True, True, *[False] * 5])
    centre = torch.randn(features, generator=draw).double() * 10
    scale = 10 ** (4 * torch.rand(features, generator=draw).double() - 1)
    scale[4] *= 1e5  # float32 does not tell these integers apart
    centre[numbers:], scale[numbers:] = 0, 1
    original = centre + scale * torch.randn(rows, features, generator=draw).double()
    original = torch.where(whole, original.round(), original)
    for first, behind in groups:
        chosen = torch.randint(behind - first, (rows,), generator=draw)
        original[:, first:behind] = torch.eye(behind - first).double()[chosen]
    original[0, slice(*groups[0])] = 0
    ranges = (original.amin(0), original.amax(0))
    lower, upper = (((end - centre) / scale).float() for end in ranges)
    lower[numbers:], upper[numbers:] = 0, 1
    domain = Domain(lower=lower, upper=upper, centre=centre, scale=scale, whole=whole, groups=groups)
    mask = torch.ones(1, features)
    mask[:, torch.randint(numbers, (2,), generator=draw)] = 0
    if seed % 3 == 0:
        mask[:, slice(*groups[1])] = 0
    return rows_of(domain, domain.encode(original), mask)


def valid(batch: Batch, x_adv: Tensor) -> None:
    """Everything that a row must be, apart from near to x."""
    domain = batch.domain
    assert domain is not None and batch.mask is not None
    mask = batch.mask[0]
    assert (x_adv >= domain.lower).all() and (x_adv <= domain.upper).all()
    assert torch.equal(x_adv[:, mask == 0], batch.x[:, mask == 0])
    if domain.whole is not None:
        assert torch.equal(domain.encode(domain.decode(x_adv))[:, domain.whole], x_adv[:, domain.whole])
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
def test_whatever_the_attack_a_valid_row_inside_the_ball_comes_out(name: str, norm: str, seed: int, eps: float) -> None:
    batch = table(seed)
    net = small_mlp(batch, seed)
    threat = THREATS[norm](eps)
    x_adv = ATTACKS[name](threat).perturb(net, batch)
    assert x_adv.shape == batch.x.shape and x_adv.dtype == batch.x.dtype
    assert (threat.length(x_adv.double() - batch.x.double()) <= eps).all()
    valid(batch, x_adv)


@settings(max_examples=20, deadline=None)
@given(norm=st.sampled_from(list(THREATS)), seed=st.integers(0, 2**31), eps=st.sampled_from([0.05, 0.4, 1.5, 20.0]))
def test_each_point_of_freelb_is_a_valid_row_and_that_of_n_fgsm_is_one_further_out(norm: str, seed: int, eps: float) -> None:
    batch, threat = table(seed), THREATS[norm](eps)
    net = small_mlp(batch, seed)
    for point in FreeLB(threat=threat, steps=3).perturb(net, batch).chunk(3):
        assert (threat.length(point.double() - batch.x.double()) <= eps).all()
        valid(batch, point)
    valid(batch, NFGSM(threat=threat).perturb(net, batch))


@settings(max_examples=100, deadline=None)
@given(
    norm=st.sampled_from(list(THREATS)),
    seed=st.integers(0, 2**31),
    eps=st.floats(1e-3, 30),
    reach=st.sampled_from([0.1, 1.0, 10.0, 1e4]),
)
def test_any_point_finishes_as_a_valid_row_inside_the_ball(norm: str, seed: int, eps: float, reach: float) -> None:
    batch = table(seed)
    threat = THREATS[norm](eps).on(batch)
    generator = torch.Generator().manual_seed(seed)
    assert batch.mask is not None
    z = batch.x + reach * torch.randn(batch.x.shape, generator=generator) * batch.mask
    for x_adv in (threat.finish(z, batch.x), threat.around(batch.x).finish(threat.around(batch.x).back(z))):
        assert (threat.length(x_adv.double() - batch.x.double()) <= eps).all()
        valid(batch, x_adv)
        assert torch.equal(threat.settle(x_adv, batch.x), x_adv), "what is a row already stays as it is"


def test_a_category_changes_where_the_radius_allows_the_whole_way() -> None:
    domain = Domain(
        lower=torch.zeros(4), upper=torch.tensor([1.0, 1, 1, 9]), centre=torch.zeros(4), scale=torch.ones(4), groups=((0, 3),)
    )
    batch = rows_of(domain, torch.tensor([[0.0, 1, 0, 4]]))
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
        near[0, 3] = number  # inside of the ball already
        row = threat.on(batch).settle(near, batch.x)
        assert row[0, :3].tolist() == category, threat
        assert float(row[0, 3]) == pytest.approx(number, rel=1e-6), threat


def test_integers_are_rounded_towards_x() -> None:
    domain = Domain(
        lower=torch.tensor([-2.0]),
        upper=torch.tensor([8.0]),
        centre=torch.tensor([4.0]).double(),
        scale=torch.tensor([2.0]).double(),
        whole=torch.tensor([True]),
    )
    x = domain.encode(torch.tensor([[10.0], [10.0], [10.0], [0.0]]).double())
    threat = Linf(eps=0.9, **FREE).on(rows_of(domain, x))
    found = domain.decode(threat.finish(x + torch.tensor([[0.9], [-0.9], [0.49], [-5.0]]), x))
    assert found.tolist() == [[11.0], [9.0], [10.0], [0.0]]


def test_a_linear_loss_over_integers_is_climbed_as_far_as_it_can_be() -> None:
    """The oracle: every valid row of a small table inside the ball."""
    whole = torch.tensor([True, True, True])
    domain = Domain(
        lower=torch.full((3,), -3.0),
        upper=torch.full((3,), 3.0),
        centre=torch.zeros(3).double(),
        scale=torch.tensor([1.0, 0.5, 2.0]).double().reciprocal(),
        whole=whole,
    )
    x = domain.encode(torch.zeros(1, 3).double())
    batch = rows_of(domain, x)
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


def test_the_loss_is_seen_at_rows_and_its_gradient_passes_through() -> None:
    batch = table(0)
    threat = Linf(eps=1.0, **FREE).on(batch)
    seen = []

    def climb(z: Tensor) -> View:
        seen.append(z.detach().clone())
        return View(z.square().sum(1), z)

    gradient, _ = input_gradient(at_rows(climb, threat, batch.x), batch.x + 0.3)
    assert torch.allclose(seen[0], threat.settle(batch.x + 0.3, batch.x), atol=1e-6)
    assert torch.allclose(gradient, 2 * seen[0])


def test_free_keeps_ranges_and_what_cannot_change() -> None:
    """Its points are trained on as its own gradient needs them, neither rounded nor at a category."""
    batch = table(3)
    net = MLP(shape=[batch.x.shape[1]], classes=4, mean=[0.0], std=[1.0], hidden=[8])
    attack = Free(threat=Linf(eps=1.0, **FREE))
    for _ in range(3):
        x_adv = attack.perturb(net, batch)
        attack.risk(net, batch, x_adv).mean().backward()
        attack.after_backward()
        assert batch.domain is not None and batch.mask is not None
        assert (x_adv >= batch.domain.lower).all() and (x_adv <= batch.domain.upper).all()
        assert torch.equal(x_adv[:, batch.mask[0] == 0], batch.x[:, batch.mask[0] == 0])


def test_images_have_no_domain_and_the_same_threat() -> None:
    batch = Batch.of(torch.rand(2, 1, 4, 4), torch.tensor([0, 1]))
    threat = L2(eps=0.5)
    assert threat.on(batch) is threat
