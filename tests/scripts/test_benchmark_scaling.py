"""Tests of scripts/benchmarks/ladders.py with known costs, and of the measurements of benchmark_scaling.py."""

import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from benchmark_scaling import bare_pass, images_per_second, sweep, training_step
from ladders import Ladder, Rung, draw

from temper.config.resolvers import cores


def ladder(cost: Callable[[float], float], *values: float, rounds: int = 3, **options: bool) -> Ladder:
    """Return a measured ladder whose rounds agree except for an outlier in one round."""
    made = Ladder("Steps", "steps", "ms", rounds, [Rung(x, partial(cost, x)) for x in values], **options)
    for number in range(rounds):
        made.climb(number)
    for rung in made.rungs[::2]:
        rung.found[0] *= 50
    return made


def test_line_through_the_medians() -> None:
    straight = ladder(lambda x: 3 + 2 * x, 1, 2, 4, 8)
    assert straight.line == pytest.approx((2, 3, 1)) and straight.deviations == pytest.approx([0, 0, 0, 0])
    assert straight.verdict().startswith("ms = 3 + 2 x steps; R² 1.0000, at most 0.0 % off")


def test_nonlinear_growth_has_deviations_and_exponents() -> None:
    bent = ladder(lambda x: 5 * x**2, 1, 2, 4, 8, straight=False)
    assert bent.exponents == pytest.approx([2, 2, 2]) and bent.line is not None and bent.line.r_squared < 0.97
    assert max(map(abs, bent.deviations)) > 0.3 and "exponents 2.00, 2.00, 2.00" in bent.verdict()


def test_two_rungs_have_no_line() -> None:
    pair = ladder(lambda x: 100 * x**0.5, 1, 4)
    assert pair.line is None and pair.verdict() == "4 times the steps, 2.00 times the ms: 50 % of proportional"


def test_rungs_are_measured_once_per_round_in_varying_order() -> None:
    order: list[float] = []

    def cost(x: float) -> float:
        order.append(x)
        return x

    made = Ladder("Steps", "steps", "ms", 9, [Rung(x, partial(cost, x)) for x in (1, 2, 3)])
    for number in range(9):
        made.climb(number)
    rounds = [order[first : first + 3] for first in range(0, 27, 3)]
    assert all(sorted(one) == [1, 2, 3] for one in rounds) and {one.index(2) for one in rounds} == {0, 1, 2}
    assert len({before for before, after in pairwise(order) if after == 2}) == 3, "including itself, across two rounds"


def test_draw(tmp_path: Path) -> None:
    made = [ladder(lambda x: 3 + 2 * x, 1, 2, 4), ladder(lambda x: x**2, 1, 2, 4, straight=False), ladder(lambda x: x, 1, 2)]
    for one in made:
        one.table()
    draw([*made, made[0]], tmp_path / "ladders.png", "a machine")
    assert (tmp_path / "ladders.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_measurements_of_steps_passes_and_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    cpu = torch.device("cpu")
    assert all(measure() > 0 for measure in (training_step(3, "penalty=l2"), bare_pass(3, cpu), sweep(2, cpu)))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.skipif(cores() < 2, reason="needs two cores"))])
def test_images_per_second_of_a_run(devices: int) -> None:
    assert images_per_second(devices, 2, "cpu")() > 0
