"""Threats: projections are exact in every precision, and steps are the steepest."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import linprog

from temper.attacks import L1, L2, Linf, Threat

NORMS = [Linf, L2, L1]
radii = st.floats(1e-3, 0.9)
seeds = st.integers(0, 2**31)


def points(seed: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs, including corners of the range, and points far outside of any ball around them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(6, 2, 3, 3, generator=generator)
    x[0], x[1] = 0.0, 1.0
    return x.to(dtype), (x + 3 * torch.randn(x.shape, generator=generator)).to(dtype)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@given(eps=radii, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_finish_is_exactly_inside(norm: type[Threat], dtype: torch.dtype, eps: float, seed: int) -> None:
    threat = norm(eps=eps)
    x, outside = points(seed, dtype)
    x_adv = threat.finish(outside, x)
    assert x_adv.dtype == dtype
    assert (threat.length(x_adv.double() - x.double()) <= eps).all()
    assert x_adv.min() >= 0 and x_adv.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@given(eps=radii, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_box_is_as_large_as_precision_allows(dtype: torch.dtype, eps: float, seed: int) -> None:
    """The corners are exactly inside, and the next float outwards is not."""
    x, _ = points(seed, dtype)
    ball = Linf(eps=eps).around(x)
    for corner, outwards in ((ball.project(x - 10), -math.inf), (ball.project(x + 10), math.inf)):
        assert corner.dtype == dtype and ((corner.double() - x.double()).abs() <= eps).all()
        further = corner.nextafter(torch.full_like(corner, outwards)).double()
        assert (((further - x.double()).abs() > eps) | (further < 0) | (further > 1)).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("how", ["zero", "uniform", "gaussian"])
@given(eps=radii, seed=seeds)
@settings(max_examples=20, deadline=None)
def test_starts_and_projections_are_inside(norm: type[Threat], how: str, eps: float, seed: int) -> None:
    threat = norm(eps=eps)
    x, outside = points(seed)
    for x_adv in (threat.start(x, how), threat.project(outside, x)):  # type: ignore[arg-type]
        assert (threat.length(x_adv - x) <= eps + 1e-6).all()
        assert x_adv.min() >= 0 and x_adv.max() <= 1


@pytest.mark.parametrize("norm", NORMS)
@given(eps=radii, seed=seeds)
@settings(max_examples=20, deadline=None)
def test_projection_keeps_points_inside(norm: type[Threat], eps: float, seed: int) -> None:
    threat = norm(eps=eps)
    x, _ = points(seed)
    inside = threat.project(x + 0.5 * (threat.project(1 - x, x) - x), x)
    torch.testing.assert_close(threat.project(inside, x), inside, atol=1e-6, rtol=0)


def test_steepest_step_attains_dual_norm() -> None:
    """The maximum of g·d over ||d|| <= 1 is the dual norm of g: l1 for linf, l2 for l2, linf for l1."""
    gradient = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    for norm, dual in ((Linf, 1), (L2, 2), (L1, math.inf)):
        direction = norm(eps=0.1).direction(gradient)
        gained = (direction * gradient).flatten(1).sum(1)
        torch.testing.assert_close(gained, gradient.flatten(1).norm(p=dual, dim=1))
        torch.testing.assert_close(norm(eps=0.1).length(direction), torch.ones(5))


@pytest.mark.parametrize("norm", NORMS)
def test_zero_gradient_gives_no_step(norm: type[Threat]) -> None:
    gradient = torch.zeros(2, 1, 3, 3)
    assert (norm(eps=0.1).direction(gradient) == 0).all()


def test_tiny_gradients_give_full_steps() -> None:
    direction = L2(eps=0.1).direction(torch.full((1, 1, 2, 2), 1e-30))
    torch.testing.assert_close(L2(eps=0.1).length(direction), torch.ones(1))


@pytest.mark.parametrize("norm", [L2, L1])
def test_uniform_draws_fill_the_ball(norm: type[Threat]) -> None:
    """The radius of a uniform draw in d dimensions has mean d / (d + 1)."""
    torch.manual_seed(0)
    x = torch.full((4000, 1, 2, 2), 0.5)
    lengths = norm(eps=0.2).length(norm(eps=0.2).uniform(x)) / 0.2
    assert lengths.max() <= 1 + 1e-5
    assert lengths.mean().item() == pytest.approx(4 / 5, abs=0.02)


@given(eps=st.floats(0.01, 6), seed=seeds)
@settings(max_examples=30, deadline=None)
def test_l1_projection_is_nearest_point_of_ball_and_range(eps: float, seed: int) -> None:
    """Compare with the optimality condition of a convex projection, a linear program per example that scipy solves.

    No point of the set is further than the projection in the direction of the projected point.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 5, generator=generator, dtype=torch.float64).round(decimals=1)
    far = x + torch.randn(2, 5, generator=generator, dtype=torch.float64)
    ours = L1(eps=eps).project(far, x)
    for row in range(2):
        # d = p - q with p, q >= 0 makes the constraints linear.
        towards = (far[row] - ours[row]).numpy()
        bounds = [(0, 1 - v) for v in x[row].tolist()] + [(0, v) for v in x[row].tolist()]
        solved = linprog([*-towards, *towards], A_ub=[[1.0] * 10], b_ub=[eps], bounds=bounds)
        assert solved.success
        assert -solved.fun <= float(towards @ (ours[row] - x[row]).numpy()) + 1e-9
        assert L1(eps=eps).length((ours - x)[row : row + 1]) <= eps + 1e-9
        assert ours[row].min() >= 0 and ours[row].max() <= 1


def test_l1_projection_without_range() -> None:
    delta = torch.tensor([[1.0, 1.0], [0.6, 0.7], [-3.0, 0.1], [0.2, 0.1]])
    expected = torch.tensor([[0.5, 0.5], [0.45, 0.55], [-1.0, 0.0], [0.2, 0.1]])
    torch.testing.assert_close(L1(eps=1).project_delta(delta), expected)


def test_l1_step_skips_values_at_the_edge() -> None:
    gradient = torch.tensor([[3.0, -2.0, 1.0]])
    at = torch.tensor([[1.0, 0.0, 0.5]])
    assert L1(eps=1).direction(gradient).tolist() == [[1, 0, 0]]
    assert L1(eps=1).direction(gradient, at).tolist() == [[0, 0, 1]]
    assert L1(eps=1, spread=0.7).direction(gradient).tolist() == [[0.5, -0.5, 0]]


def test_diameters() -> None:
    assert Linf(eps=0.1).diameter(64) == 1
    assert L2(eps=0.1).diameter(64) == math.sqrt(64)
    assert L1(eps=0.1).diameter(64) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": 8}, r"did you mean 8/255\?"),
        ({"eps": "8"}, r"did you mean 8/255\?"),
        ({"eps": 0}, "greater than 0"),
        ({"eps": -0.1}, "greater than 0"),
        ({"eps": "lots"}, "8/255"),
        ({"eps": 0.1, "lower": 1, "upper": 0}, "should be below"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Linf(**arguments)  # type: ignore[arg-type]


def test_eps_accepts_fractions() -> None:
    assert Linf(eps="8/255").eps == 8 / 255  # type: ignore[arg-type]
    assert L2(eps=2).eps == 2, "an l2 radius above 1 is valid"


@pytest.mark.parametrize("norm", NORMS)
@given(eps=radii, seed=seeds)
@settings(max_examples=20, deadline=None)
def test_infinite_range_equals_a_wide_one(norm: type[Threat], eps: float, seed: int) -> None:
    x, outside = points(seed)
    infinite, wide = norm(eps=eps, lower=-math.inf, upper=math.inf), norm(eps=eps, lower=-1e4, upper=1e4)
    for projected in (infinite.project(outside, x), infinite.finish(outside, x)):
        torch.testing.assert_close(projected, wide.project(outside, x))
    moved = infinite.around(x).step(x, outside - x, eps)
    torch.testing.assert_close(moved, wide.around(x).step(x, outside - x, eps))
