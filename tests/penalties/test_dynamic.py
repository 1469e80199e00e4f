"""Tests of steering penalties: schedules, the controller, and the selection of steered penalties."""

import itertools
import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning import Callback

from temper.attacks import Attack
from temper.config.errors import ConfigError
from temper.penalties import AWP, L1, L2, Controlled, Dropout, Dynamic, LabelSmoothing, Penalties, Weighted
from temper.penalties.dynamic import Shape
from temper.runs.seeding import rekey
from temper.training.modules import build_penalties
from tests.conftest import small_net
from tests.penalties.conftest import composed, fit

SHAPES: tuple[Shape, ...] = ("constant", "linear", "cosine", "step")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("constant", [3, 3, 3, 3, 3, 3]),
        ("linear", [1, 1, 1.5, 2, 3, 3]),
        ("cosine", [1, 1, 2 - math.sqrt(2) / 2, 2, 3, 3]),
        ("step", [1, 1, 1, 1, 3, 3]),
    ],
)
def test_schedule_shapes(shape: Shape, expected: list[float]) -> None:
    dynamic = Dynamic(shape=shape, first=1, last=3, begin=0.2, end=0.6)
    assert [dynamic.factor_at(progress) for progress in (0, 0.2, 0.3, 0.4, 0.6, 1)] == pytest.approx(expected)


@given(
    shape=st.sampled_from(SHAPES),
    first=st.floats(0, 5),
    last=st.floats(0, 5),
    moments=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    progress=st.lists(st.floats(0, 1), min_size=2, max_size=6).map(sorted),
)
@settings(max_examples=60, deadline=None)
def test_schedules_are_monotonic_and_stay_between_first_and_last(
    shape: Shape, first: float, last: float, moments: list[float], progress: list[float]
) -> None:
    dynamic = Dynamic(shape=shape, first=first, last=last, begin=moments[0], end=moments[1])
    factors = [dynamic.factor_at(moment) for moment in progress]
    tolerance = 1e-9
    assert all(min(first, last) - tolerance <= factor <= max(first, last) + tolerance for factor in factors)
    pairs = list(itertools.pairwise(factors))
    assert all(a <= b + tolerance for a, b in pairs) if last >= first else all(a >= b - tolerance for a, b in pairs)
    assert dynamic.factor_at(1) == last


def test_an_end_before_begin_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"penalty\.dynamic\.end: 0\.2 is below begin=0\.5"):
        build_penalties(composed("penalty=[l2,dynamic]", "penalty.dynamic.begin=0.5", "penalty.dynamic.end=0.2"))


def test_weights_and_magnitudes_follow_the_schedule() -> None:
    members = {
        "l2": Weighted(L2(), 0.4),
        "dropout": Weighted(Dropout(p=0.5), 1),
        "label_smoothing": Weighted(LabelSmoothing(smoothing=0.2, classes=10), 1),
        "dynamic": Weighted(Dynamic(first=0, last=2), 1),
    }
    penalties = Penalties(members)
    penalties.prepare(small_net())
    for progress in (0.5, 0.25, 0.0):  # in any order, since factors do not accumulate
        penalties.begin(0, progress, (0,))
        assert penalties.weight("l2") == pytest.approx(0.8 * progress)
        assert penalties.metrics() == pytest.approx(
            {
                "train/weight/l2": 0.8 * progress,
                "train/weight/dropout": progress,
                "train/weight/label_smoothing": 0.4 * progress,
            }
        )


def test_of_selects_the_steered_penalties() -> None:
    members = {
        "elastic_net.l1": Weighted(L1(), 1),
        "elastic_net.l2": Weighted(L2(), 1),
        "l2": Weighted(L2(), 1),
        "awp": Weighted(AWP(gamma=0.1), 1),
    }
    for of, expected in [
        (None, ["awp", "elastic_net.l1", "elastic_net.l2", "l2"]),
        (["elastic_net"], ["elastic_net.l1", "elastic_net.l2"]),
        (["elastic_net.l1", "awp"], ["awp", "elastic_net.l1"]),
    ]:
        dynamic = Dynamic(of=of)
        assert Penalties({**members, "dynamic": Weighted(dynamic, 1)}).steered_by(dynamic) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["penalty=[dynamic]"], r"penalty\.dynamic: it steers other penalties, and this run has none.*penalty=\[l2,dynamic\]"),
        (["penalty=[controlled]"], r"penalty\.controlled: it steers other penalties, and this run has none"),
        (["penalty=[meta]"], r"penalty\.meta: it steers other penalties, and this run has none"),
        (["penalty=[batch_norm,dynamic]"], r"penalty\.dynamic: it steers other penalties, and this run has none"),
        (
            ["penalty=[l2,dynamic]", "penalty.dynamic.of=[l1]"],
            r"penalty\.dynamic\.of: this run has no penalty l1",
        ),
        (
            ["penalty=[l2,dynamic,controlled]"],
            r"penalty\.controlled and penalty\.dynamic both steer penalty\.l2\. Name different penalties in `of`",
        ),
        (
            ["penalty=[l2,l1,meta,dynamic]", "penalty.dynamic.of=[l1]"],
            r"penalty\.dynamic and penalty\.meta both steer penalty\.l1",
        ),
        (
            ["penalty=[l2,controlled]", "penalty.controlled.most=0.5"],
            r"penalty\.controlled\.most=0.5: should be greater than or equal to 1",
        ),
    ],
)
def test_impossible_steering_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_penalties(composed(*overrides))


def test_two_steering_penalties_can_steer_different_ones() -> None:
    settings = ["penalty.dynamic.of=[l2]", "penalty.controlled.of=[l1]"]
    penalties = build_penalties(composed("penalty=[l1,l2,dynamic,controlled]", *settings))
    assert penalties.names == ["l1", "l2", "controlled", "dynamic"]


class Gaps(Callback):
    """Callback that records the gap of each epoch, as logged and recomputed, and the factors."""

    def __init__(self, clean: bool) -> None:
        self.clean = clean
        self.logged: list[float] = []
        self.expected: list[float] = []
        self.factors: list[dict[str, float]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.logged.append(float(trainer.callback_metrics["val/gap"]))
        self.factors.append(dict(pl_module.penalties.factors))  # type: ignore[union-attr,arg-type]
        data = trainer.datamodule  # type: ignore[attr-defined]
        size = len(data.split("val").y)
        net, validation = pl_module.net, pl_module.validation
        assert isinstance(net, torch.nn.Module) and isinstance(validation, Attack)
        (batch,) = data.loader("train", batch_size=1000, size=size)
        rekey(0, "gap", 0)
        x = batch.x if self.clean else validation.perturb(net, batch)  # type: ignore[arg-type]
        with torch.no_grad():
            accuracy = float((net(x).argmax(1) == batch.y).float().mean())
        self.expected.append(accuracy - float(trainer.callback_metrics["val/clean" if self.clean else "val/pgd"]))


@pytest.mark.parametrize(("clean", "target"), [(True, 0.03), (False, 0.03), (True, 1.0)])
def test_the_controller_follows_the_generalization_gap(clean: bool, target: float, tmp_path: Path) -> None:
    gaps = Gaps(clean)
    settings = ["penalty.controlled.rate=20", f"penalty.controlled.target={target}", "penalty.controlled.most=3"]
    fit(tmp_path, "penalty=[l2,dropout,controlled]", f"penalty.controlled.clean={clean}", *settings, epochs=3, more=(gaps,))
    assert gaps.logged == pytest.approx(gaps.expected, abs=1e-6)
    factor = 1.0
    for gap, factors in zip(gaps.logged, gaps.factors, strict=True):
        factor = min(max(factor * math.exp(20 * (gap - target)), 1 / 3), 3)
        assert factors == pytest.approx({"l2": factor, "dropout": factor})
    assert factor != 1


def test_a_controller_has_no_schedule_and_no_parameters() -> None:
    controlled = Controlled(target=0.05, rate=5)
    assert controlled.factor_at(0.5) is None and not list(controlled.parameters())
